"""What a block does between products: the reference beside each kernel, and when it computes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sakuga.model.fused import norms
from sakuga.model.fused.kernel import Kernel, block_of, kernel
from sakuga.model.fused.norms import gate_add, norm_scale
from sakuga.model.fused.rotary import norm_rotate
from sakuga.model.fused.swiglu import gated
from sakuga.model.layers import Lookup, Positions, Segments

LENGTHS = [(5, 5), (7, 3, 4), (1,)]
D, E = 24, 8
HEADS = (3, 1, 1)


def standing(lengths: tuple[int, ...]) -> Positions:
    segments = Segments(lengths)
    owner, rows = None, segments.uniform
    if rows is None:
        owner = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
        rows = segments.total
    shape = (rows, 1, E // 2) if owner is not None else (1, rows, 1, E // 2)
    angle = torch.rand(shape) * 6
    starts = torch.tensor(segments.offsets, dtype=torch.int32)
    return Positions(segments, angle.cos(), angle.sin(), owner, starts)


def norm_of(width: int) -> nn.RMSNorm:
    made = nn.RMSNorm(width, eps=1e-5)
    nn.init.normal_(made.weight, 1.0, 0.1)
    return made.requires_grad_(False)


def by_root_mean_square(x: Tensor, norm: nn.RMSNorm) -> Tensor:
    x = x.double()
    return x / (x.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight.double()


def each(positions: Positions, vectors: Lookup, token: int) -> Tensor:
    """The vector of one token, by counting."""
    ends = positions.segments.offsets[1:]
    segment = next(i for i, end in enumerate(ends) if token < end)
    row = segment if vectors.rows is None else int(vectors.rows[segment])
    return vectors.table[row].double()


@pytest.mark.parametrize("looked_up", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_a_token_is_scaled_and_gated_by_the_row_of_its_own_segment(lengths, looked_up) -> None:
    positions, norm = standing(lengths), norm_of(D)
    segments = positions.segments
    rows = torch.randint(0, 9, (len(lengths),)) if looked_up else None
    table = torch.randn(9 if looked_up else len(lengths), 2 * D)
    scale, gate = Lookup(table, rows).chunk(2)
    x, branch = (torch.randn(segments.total, D) for _ in range(2))
    scaled = segments.unpack(norm_scale(segments.pack(x), norm, scale, positions))
    added = gate_add(segments.pack(x), segments.pack(branch.clone()), norm, gate, positions)
    for token in range(segments.total):
        expected = by_root_mean_square(x[token], norm) * (1 + each(positions, scale, token))
        torch.testing.assert_close(scaled[token].double(), expected, rtol=1e-5, atol=1e-6)
        normed = by_root_mean_square(branch[token], norm)
        expected = x[token] + each(positions, gate, token).tanh() * normed
        torch.testing.assert_close(
            segments.unpack(added)[token].double(), expected, rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("lengths", LENGTHS)
def test_queries_and_keys_are_normed_and_turned_and_values_are_left(lengths) -> None:
    positions, norms_of = standing(lengths), (norm_of(E), norm_of(E))
    segments = positions.segments
    qkv = torch.randn(segments.total, sum(HEADS) * E)
    q, k, v = norm_rotate(segments.pack(qkv.clone()), HEADS, norms_of, positions)
    heads = qkv.unflatten(-1, (-1, E))
    assert torch.equal(segments.unpack(v), heads[:, -1:])
    angle = torch.complex(positions.cos, positions.sin).squeeze(-2).flatten(0, -2).to(torch.cdouble)
    for token in range(segments.total):
        turn = angle[token % len(angle)]
        for head, norm in ((0, norms_of[0]), (2, norms_of[0]), (3, norms_of[1])):
            pairs = by_root_mean_square(heads[token, head], norm).unflatten(0, (-1, 2))
            expected = torch.view_as_real(torch.view_as_complex(pairs) * turn).flatten()
            found = segments.unpack(q)[token, head] if head < 3 else segments.unpack(k)[token, 0]
            torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_the_gated_product_is_of_both_products() -> None:
    x, w1, w3 = torch.randn(6, D), nn.Linear(D, 10, bias=False), nn.Linear(D, 10, bias=False)
    with torch.no_grad():
        a = w1(x).double()
        expected = a / (1 + (-a).exp()) * w3(x).double()
        torch.testing.assert_close(gated(x, w1, w3).double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("count", "block"), [(1, 1), (2, 2), (96, 128), (2304, 4096), (4096, 4096)]
)
def test_a_block_holds_what_it_must(count, block) -> None:
    assert block_of(count) == block
    assert math.log2(block).is_integer()


def test_no_kernel_computes_what_is_not_on_a_card() -> None:
    with torch.no_grad():
        assert not norms._norm_scale.takes(torch.randn(4, D))


def test_a_kernel_that_cannot_be_compiled_says_so_once_and_computes_no_more() -> None:
    def broken() -> None: ...

    made: Kernel = kernel()(broken)

    def fails(*_: object, **__: object) -> None:
        raise ValueError("no such instruction")

    made._jit = {(1,): fails}
    with pytest.warns(UserWarning, match="kernel broken does not run here.*no such instruction"):
        assert not made.launch(1, (), {}, 4)
    assert made.broken == "ValueError: no such instruction"


def test_adapters_of_a_norm_are_left_to_the_norm_itself() -> None:
    class Changed(nn.RMSNorm):
        def forward(self, x: Tensor) -> Tensor:
            return F.rms_norm(x, self.normalized_shape, self.weight, self.eps) + 1

    assert norms.plain(nn.RMSNorm(D, eps=1e-5))
    assert not norms.plain(Changed(D, eps=1e-5))
    positions, scale = standing((3,)), Lookup(torch.zeros(1, D))
    x = torch.randn(1, 3, D)
    changed = Changed(D, eps=1e-5)
    assert torch.equal(norm_scale(x, changed, scale, positions), changed(x))
