"""Statements on adapters that hold for every shape and every text."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sakuga.adapters.deltas import Delta
from sakuga.adapters.spec import parse_adapter
from sakuga.errors import RequestError

SIZES = st.integers(1, 6)


@given(sides=st.tuples(SIZES, SIZES, SIZES, SIZES), rank=st.integers(0, 4),
       tokens=st.integers(0, 5), scale=st.floats(-3, 3), seed=st.integers(0, 2**31),
       cut=st.booleans())  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_a_delta_adds_the_product_with_kron_of_its_factors(
    sides: tuple[int, int, int, int], rank: int, tokens: int, scale: float, seed: int, cut: bool
) -> None:
    a, b, c, d = sides
    draw = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    w1 = some(a, b)
    up, down = (some(c, rank), some(rank, d)) if rank else (some(c, d), None)
    rows = (1, 1 + a * c) if cut else None
    delta = Delta(w1, up, down, scale, rows)
    x, base = some(tokens, b * d), some(tokens, a * c + 2 * cut)
    y = base.clone()
    delta.add_to(y, x)
    matrix = scale * torch.kron(w1, up if down is None else up @ down)
    want = base.clone()
    want[:, slice(*(rows or (None, None)))] += x @ matrix.T
    torch.testing.assert_close(y, want)


@given(text=st.text(max_size=60) | st.from_regex(r"a(:[a-z0-9.*=-]{0,12}){0,4}", fullmatch=True))
def test_every_text_is_an_adapter_that_reads_back_or_is_refused(text: str) -> None:
    try:
        spec = parse_adapter(text)
    except RequestError:
        return
    assert parse_adapter(str(spec)) == spec
