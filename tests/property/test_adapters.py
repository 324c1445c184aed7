"""Statements on adapters that hold for every shape and every text."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import examples
from sakuga.adapters.deltas import BiasChange, Decomposed, Delta, LinearChange, Turn
from sakuga.adapters.spec import parse_adapter
from sakuga.errors import RequestError

SIZES = st.integers(1, 6)
BESIDE = ("dora rows", "dora columns", "oft inputs", "oft outputs", "bias")


@given(sides=st.tuples(SIZES, SIZES, SIZES, SIZES), rank=st.integers(0, 4),
       tokens=st.integers(0, 5), scale=st.floats(-3, 3), seed=st.integers(0, 2**31),
       cut=st.booleans())  # fmt: skip
@settings(max_examples=examples(60), deadline=None)
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


@given(sizes=st.tuples(SIZES, SIZES, SIZES), rank=st.integers(1, 4), tokens=st.integers(0, 5),
       scale=st.floats(-3, 3), seed=st.integers(0, 2**31), cut=st.booleans(),
       kind=st.sampled_from(BESIDE))  # fmt: skip
@settings(max_examples=examples(40), deadline=None)
def test_what_is_added_beside_a_linear_is_what_its_matrix_adds(
    sizes: tuple[int, int, int], rank: int, tokens: int, scale: float, seed: int, cut: bool,
    kind: str,
) -> None:  # fmt: skip
    """With the base's own product, of any shape, on some of its rows or on all."""
    count, side, other = sizes
    draw = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw)

    out, into = (count * side, other) if kind == "oft outputs" else (other, count * side)
    rows = (1, 1 + out) if cut else None
    weight, x = some(out + 2 * cut, into), some(tokens, into)
    part = weight[slice(*(rows or (None, None)))]
    change: LinearChange
    if kind == "bias":
        change = BiasChange(some(out), scale, rows)
    elif kind.startswith("oft"):
        change = Turn(some(count, side, side), scale, outputs=kind == "oft outputs", rows=rows)
    else:
        inner = Delta(None, some(out, rank), some(rank, into), 0.5)
        norms = some(*((1, into) if kind == "dora columns" else (out, 1))).abs() + 0.5
        change = Decomposed.of(inner, norms, part, scale, rows)
    y = x @ weight.T
    change.add_to(y, x, lambda given: given @ weight.T)
    want, added = x @ weight.T, change.matrix(part)
    want[:, slice(*(rows or (None, None)))] += added if kind == "bias" else x @ added.T
    torch.testing.assert_close(y, want, rtol=1e-4, atol=1e-4 * (1 + float(added.abs().max())))
