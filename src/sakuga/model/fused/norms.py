"""What stands around a branch of a block: its norms, scaled and gated by segment, and the sum."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor, nn

from sakuga.model.fused.kernel import Kernel, block_of
from sakuga.model.layers import Lookup, Positions

if TYPE_CHECKING:
    import triton.language as tl

WARPS = 4


def norm_scale(x: Tensor, norm: nn.Module, scale: Lookup, positions: Positions) -> Tensor:
    """Norm a pack (..., D), and scale it by 1 + the `scale` of its segment."""
    if plain(norm) and NORM_SCALE.takes(x):
        y = torch.empty_like(x)
        if launch_norm_scale(x, y, norm, scale, positions):
            return y
    normed: Tensor = norm(x)
    return normed * positions.spread(1 + scale.vectors)


def gate_add(
    x: Tensor, branch: Tensor, norm: nn.Module, gate: Lookup, positions: Positions
) -> Tensor:
    """Add to a pack (..., D) the norm of a branch, times tanh of the `gate` of its segment.

    May compute in the memory of the branch.
    """
    if plain(norm) and GATE_ADD.takes(x) and GATE_ADD.takes(branch):
        if launch_gate_add(x, branch, branch, norm, gate, positions):
            return branch
    return x + positions.spread(gate.vectors.tanh()) * norm(branch)


def plain(norm: nn.Module) -> TypeGuard[nn.RMSNorm]:
    """Whether a norm is what the kernels compute: no adapter has changed it."""
    return type(norm) is nn.RMSNorm and norm.eps is not None


def launch_norm_scale(
    x: Tensor, y: Tensor, norm: nn.RMSNorm, scale: Lookup, positions: Positions, warps: int = WARPS
) -> bool:
    """`norm_scale` into y, by the kernel."""
    width = x.shape[-1]
    owner, length = owners(positions)
    return NORM_SCALE.launch(
        x.numel() // width,
        x, y, norm.weight, scale.table, scale.rows, owner, scale.table.stride(0), length, norm.eps,
        D=width, BLOCK=block_of(width), RAGGED=owner is not None, LOOKED=scale.rows is not None, num_warps=warps,
    )  # fmt: skip


def launch_gate_add(
    x: Tensor, branch: Tensor, y: Tensor, norm: nn.RMSNorm, gate: Lookup, positions: Positions,
    warps: int = WARPS,
) -> bool:  # fmt: skip
    """`gate_add` into y, by the kernel."""
    width = x.shape[-1]
    owner, length = owners(positions)
    return GATE_ADD.launch(
        x.numel() // width,
        x, branch, y, norm.weight, gate.table, gate.rows, owner, gate.table.stride(0), length, norm.eps,
        D=width, BLOCK=block_of(width), RAGGED=owner is not None, LOOKED=gate.rows is not None, num_warps=warps,
    )  # fmt: skip


def launch_gate_add_norm(
    x: Tensor, branch: Tensor, y: Tensor, norms: tuple[nn.RMSNorm, nn.RMSNorm],
    gate: Lookup, scale: Lookup, positions: Positions, warps: int = WARPS,
) -> bool:  # fmt: skip
    """`gate_add` into the branch, and `norm_scale` of that into y, by one kernel."""
    width = x.shape[-1]
    owner, length = owners(positions)
    return GATE_ADD_NORM.launch(
        x.numel() // width,
        x, branch, branch, y, norms[0].weight, norms[1].weight, gate.table, scale.table,
        gate.rows, owner, gate.table.stride(0), length, norms[0].eps,
        D=width, BLOCK=block_of(width), RAGGED=owner is not None, LOOKED=gate.rows is not None, num_warps=warps,
    )  # fmt: skip


def owners(positions: Positions) -> tuple[Tensor | None, int]:
    """The segment of each token; or, where all are as long, None and that length."""
    return positions.owner, positions.segments.uniform or 0


def _norm_scale(
    x, y, weight, scale, rows, owner, stride, length, eps,
    D: tl.constexpr, BLOCK: tl.constexpr, RAGGED: tl.constexpr, LOOKED: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < D
    value = tl.load(x + token * D + at, mask=inside, other=0.0).to(tl.float32)
    row = tl.load(owner + token) if RAGGED else token // length
    row = tl.load(rows + row) if LOOKED else row
    factor = 1.0 + tl.load(scale + row * stride + at, mask=inside, other=0.0).to(tl.float32)
    factor *= tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    norm = tl.rsqrt(tl.sum(value * value, 0) / D + eps)
    made = value * norm * factor
    tl.store(y + token * D + at, made.to(y.dtype.element_ty), mask=inside)


def _gate_add(
    x, branch, y, weight, gate, rows, owner, stride, length, eps,
    D: tl.constexpr, BLOCK: tl.constexpr, RAGGED: tl.constexpr, LOOKED: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < D
    value = tl.load(branch + token * D + at, mask=inside, other=0.0).to(tl.float32)
    before = tl.load(x + token * D + at, mask=inside, other=0.0).to(tl.float32)
    row = tl.load(owner + token) if RAGGED else token // length
    row = tl.load(rows + row) if LOOKED else row
    raw = tl.load(gate + row * stride + at, mask=inside, other=0.0).to(tl.float32)
    factor = 2.0 * tl.sigmoid(2.0 * raw) - 1.0  # the hyperbolic tangent
    factor *= tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    norm = tl.rsqrt(tl.sum(value * value, 0) / D + eps)
    made = before + value * norm * factor
    tl.store(y + token * D + at, made.to(y.dtype.element_ty), mask=inside)


def _gate_add_norm(
    x, branch, summed, y, weight, next_weight, gate, scale, rows, owner, stride, length, eps,
    D: tl.constexpr, BLOCK: tl.constexpr, RAGGED: tl.constexpr, LOOKED: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < D
    value = tl.load(branch + token * D + at, mask=inside, other=0.0).to(tl.float32)
    before = tl.load(x + token * D + at, mask=inside, other=0.0).to(tl.float32)
    row = tl.load(owner + token) if RAGGED else token // length
    row = tl.load(rows + row) if LOOKED else row
    raw = tl.load(gate + row * stride + at, mask=inside, other=0.0).to(tl.float32)
    factor = 2.0 * tl.sigmoid(2.0 * raw) - 1.0
    factor *= tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    norm = tl.rsqrt(tl.sum(value * value, 0) / D + eps)
    # Rounded as it is kept, so that the next norm is of the very numbers that are added to.
    made = (before + value * norm * factor).to(summed.dtype.element_ty)
    tl.store(summed + token * D + at, made, mask=inside)
    state = made.to(tl.float32)
    factor = 1.0 + tl.load(scale + row * stride + at, mask=inside, other=0.0).to(tl.float32)
    factor *= tl.load(next_weight + at, mask=inside, other=0.0).to(tl.float32)
    norm = tl.rsqrt(tl.sum(state * state, 0) / D + eps)
    tl.store(y + token * D + at, (state * norm * factor).to(y.dtype.element_ty), mask=inside)


NORM_SCALE = Kernel(_norm_scale, varies=("length",))
GATE_ADD = Kernel(_gate_add, varies=("length",))
GATE_ADD_NORM = Kernel(_gate_add_norm, varies=("length",))
