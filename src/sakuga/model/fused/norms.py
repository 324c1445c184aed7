"""What stands around a branch of a block: its norms, scaled and gated by segment, and the sum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sakuga.model.fused.kernel import block_of, kernel
from sakuga.model.layers import Lookup, Positions

if TYPE_CHECKING:
    import triton.language as tl

WARPS = 4


def norm_scale(x: Tensor, norm: nn.Module, scale: Lookup, positions: Positions) -> Tensor:
    """Norm a pack (..., D), and scale it by 1 + the `scale` of its segment."""
    if plain(norm) and _norm_scale.takes(x):
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
    able = plain(norm) and _gate_add.takes(x) and _gate_add.takes(branch)
    if able and launch_gate_add(x, branch, branch, norm, gate, positions):
        return branch
    normed: Tensor = norm(branch)
    return x + positions.spread(gate.vectors.tanh()) * normed


def plain(norm: nn.Module) -> bool:
    """Whether a norm is what the kernels compute: no adapter has changed it."""
    return type(norm) is nn.RMSNorm and norm.eps is not None


def launch_norm_scale(
    x: Tensor, y: Tensor, norm: nn.Module, scale: Lookup, positions: Positions, warps: int = WARPS
) -> bool:
    """`norm_scale` into y, by the kernel."""
    args = (x, y, norm.weight, *_looked_up(scale, positions), norm.eps)
    constants = _constants(x.shape[-1], scale, positions)
    return _norm_scale.launch(x.numel() // x.shape[-1], args, constants, warps)


def launch_gate_add(
    x: Tensor, branch: Tensor, y: Tensor, norm: nn.Module, gate: Lookup, positions: Positions,
    warps: int = WARPS,
) -> bool:  # fmt: skip
    """`gate_add` into y, by the kernel."""
    args = (x, branch, y, norm.weight, *_looked_up(gate, positions), norm.eps)
    constants = _constants(x.shape[-1], gate, positions)
    return _gate_add.launch(x.numel() // x.shape[-1], args, constants, warps)


def _looked_up(vectors: Lookup, positions: Positions) -> tuple[object, ...]:
    """How a kernel finds the vector of a token: by its segment's row, and by its own segment."""
    segments, table = positions.segments, vectors.table
    return table, vectors.rows, positions.owner, table.stride(0), segments.uniform or 0


def _constants(width: int, vectors: Lookup, positions: Positions) -> dict[str, object]:
    return {
        "D": width,
        "BLOCK": block_of(width),
        "RAGGED": positions.owner is not None,
        "LOOKED": vectors.rows is not None,
    }


@kernel("length")
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


@kernel("length")
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
