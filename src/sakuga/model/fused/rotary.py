"""Queries and keys normed and turned by their positions, where the product has left them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from sakuga.model.fused.kernel import block_of, kernel
from sakuga.model.fused.norms import plain
from sakuga.model.layers import Positions, rotate

if TYPE_CHECKING:
    import triton.language as tl

Heads = tuple[int, int, int]  # of queries, of keys, of values
WARPS = 4


def norm_rotate(
    qkv: Tensor, heads: Heads, norms: tuple[nn.Module, nn.Module], positions: Positions
) -> tuple[Tensor, Tensor, Tensor]:
    """Split a pack (..., heads·E) into q, k, v (..., H, E), with q and k normed and rotated.

    norms: of q and of k. May compute in the memory of `qkv`.
    """
    q, k, v = qkv.unflatten(-1, (sum(heads), -1)).split(heads, dim=-2)
    q_norm, k_norm = norms
    able = plain(q_norm) and plain(k_norm) and _norm_rotate.takes(qkv)
    if able and launch_norm_rotate(qkv, heads, norms, positions):
        return q, k, v
    q = rotate(q_norm(q), positions.cos, positions.sin)
    k = rotate(k_norm(k), positions.cos, positions.sin)
    return q, k, v


def launch_norm_rotate(
    qkv: Tensor, heads: Heads, norms: tuple[nn.Module, nn.Module], positions: Positions,
    warps: int = WARPS,
) -> bool:  # fmt: skip
    """Norm and rotate q and k in place, by the kernel."""
    cos, sin = (table.reshape(-1, table.shape[-1]) for table in (positions.cos, positions.sin))
    width, size = qkv.shape[-1], qkv.shape[-1] // sum(heads)
    turned = heads[0] + heads[1]
    return _norm_rotate.launch(
        qkv.numel() // width,
        (qkv, norms[0].weight, norms[1].weight, cos, sin, len(cos), norms[0].eps),
        {
            "ROW": width, "Q": heads[0], "TURNED": turned, "HEADS": block_of(turned),
            "E": size, "BLOCK": block_of(size),
        },
        warps,
    )  # fmt: skip


@kernel("rows")
def _norm_rotate(
    qkv, q_weight, k_weight, cos, sin, rows, eps,
    ROW: tl.constexpr, Q: tl.constexpr, TURNED: tl.constexpr, HEADS: tl.constexpr,
    E: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, HEADS)
    at = tl.arange(0, BLOCK)
    pair = tl.arange(0, BLOCK // 2)
    inside = (head < TURNED)[:, None] & (at < E)[None, :]
    place = qkv + token * ROW + head[:, None] * E + at[None, :]
    value = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    # One table of as many rows as a segment has tokens may serve all segments.
    angle = (token % rows) * (E // 2) + pair
    c = tl.load(cos + angle, mask=pair < E // 2, other=0.0)[None, :]
    s = tl.load(sin + angle, mask=pair < E // 2, other=0.0)[None, :]
    q = tl.load(q_weight + at, mask=at < E, other=0.0).to(tl.float32)
    k = tl.load(k_weight + at, mask=at < E, other=0.0).to(tl.float32)
    weight = tl.where((head < Q)[:, None], q[None, :], k[None, :])
    norm = tl.rsqrt(tl.sum(value * value, 1) / E + eps)
    normed = value * norm[:, None] * weight
    even, odd = tl.split(tl.reshape(normed, (HEADS, BLOCK // 2, 2)))
    turned = tl.join(even * c - odd * s, even * s + odd * c)
    made = tl.reshape(turned, (HEADS, BLOCK))
    tl.store(place, made.to(qkv.dtype.element_ty), mask=inside)
