"""Attention over packs, by any of several back-ends: kernels that torch has, or a package's.

All compute the same. Which is fastest depends on the card and on the shape, so whoever lays out
a pack may name one in its `Positions`; a pack that names none gets torch's own choice.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from sakuga.model.layers import TORCH, Bias, Positions, Segments

Attend = Callable[[Tensor, Tensor, Tensor, Positions], Tensor]
HALVES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True)
class Backend:
    """A way to compute attention. `title`: as people know it.

    `packages`: the modules that may hold it, any of which will do, and what each comes from;
    none where torch has it.
    `cards`: the generations (major compute capability) it was written for, None for all.
    """

    name: str
    title: str
    attend: Attend
    packages: Mapping[str, str] = field(default_factory=dict)
    cards: tuple[int, ...] | None = None
    dtypes: tuple[torch.dtype, ...] = field(default=HALVES)

    def refusal(self, device: torch.device, dtype: torch.dtype) -> str:
        """Why it cannot compute there; nothing where it can."""
        if self.name == TORCH:
            return ""
        if device.type != "cuda":
            return "it computes on cards alone"
        if dtype not in self.dtypes:
            return "it computes in 16 bits alone"
        major, _ = torch.cuda.get_device_capability(device)
        if self.cards is not None and major not in self.cards:
            known = ", ".join(f"{one}.x" for one in self.cards)
            return f"it is for cards of compute capability {known}"
        if self.packages and self.module is None:
            return f"{' or '.join(self.distributions)} is not installed"
        return ""

    @property
    def distributions(self) -> tuple[str, ...]:
        """The names by which its packages are installed."""
        return tuple(self.packages.values())

    @property
    def module(self) -> str | None:
        """The module that holds it, if one is installed."""
        return next((name for name in self.packages if _installed(name)), None)


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # of a package around it
        return False


def attention(q: Tensor, k: Tensor, v: Tensor, positions: Positions) -> Tensor:
    """Softmax attention of every token over its own segment, without a mask.

    q: (S, L, H, E) or (T, H, E); k, v the same with K kv heads, head j of which serves
    query heads j·H/K and on. Scale 1/sqrt(E). Returns (S, L, H·E) or (T, H·E).
    """
    if positions.bias is not None:
        return _biased(q, k, v, positions.bias, positions.segments)
    return BACKENDS[positions.backend].attend(q, k, v, positions)


def _biased(q: Tensor, k: Tensor, v: Tensor, bias: Bias, segments: Segments) -> Tensor:
    """The same with a bias: channels that carry it beside those of queries and keys."""
    channels = q.shape[-1]
    q = torch.cat((q, _spread(bias.query * channels**0.5, q)), dim=-1)
    k = torch.cat((k, _spread(bias.key, k)), dim=-1)
    v = F.pad(v, (0, bias.key.shape[-1]))  # fast kernels want one width
    return _each(q, k, v, segments, scale=channels**-0.5)[..., :channels].flatten(-2)


def _spread(features: Tensor, heads: Tensor) -> Tensor:
    """Features of tokens for every head."""
    return features.to(heads.dtype).unsqueeze(-2).expand(*heads.shape[:-1], -1)


def _each(
    q: Tensor, k: Tensor, v: Tensor, segments: Segments, scale: float | None = None
) -> Tensor:
    """Segments of one length in one call, others one after the other; heads (..., H, E)."""
    if segments.uniform is not None:
        return _attend(q, k, v, scale)
    pieces = zip(*(part.split(segments.lengths) for part in (q, k, v)), strict=True)
    return torch.cat([_attend(a[None], b[None], c[None], scale)[0] for a, b, c in pieces])


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    if q.is_cuda and q.dtype == torch.float32:
        # No fused float32 kernel takes grouped heads; the fallback would hold all scores.
        group = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    grouped = q.shape[1] != k.shape[1]
    found = F.scaled_dot_product_attention(q, k, v, scale=scale, enable_gqa=grouped)
    return found.transpose(1, 2)


def _torch(q: Tensor, k: Tensor, v: Tensor, positions: Positions) -> Tensor:
    return _each(q, k, v, positions.segments).flatten(-2)


def _cudnn(q: Tensor, k: Tensor, v: Tensor, positions: Positions) -> Tensor:
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return _each(q, k, v, positions.segments).flatten(-2)


def _flash(q: Tensor, k: Tensor, v: Tensor, positions: Positions) -> Tensor:
    """Torch's own, of all segments at once, which is how it is fast."""
    segments, starts = positions.segments, positions.starts
    longest = max(segments.lengths)
    made: Tensor = torch.ops.aten._flash_attention_forward(
        *(segments.unpack(part) for part in (q, k, v)),
        starts, starts, longest, longest, 0.0, False, False,
    )[0]  # fmt: skip
    return segments.pack(made.flatten(-2))


def _packed(packages: Iterable[str]) -> Attend:
    """A function of FlashAttention's form, which takes all segments of a pack at once."""

    def attend(q: Tensor, k: Tensor, v: Tensor, positions: Positions) -> Tensor:
        name = next(name for name in packages if _installed(name))
        function: Any = importlib.import_module(name).flash_attn_varlen_func
        segments = positions.segments
        longest = max(segments.lengths)
        found = function(
            *(segments.unpack(part) for part in (q, k, v)),
            cu_seqlens_q=positions.starts, cu_seqlens_k=positions.starts,
            max_seqlen_q=longest, max_seqlen_k=longest,
        )  # fmt: skip
        made: Tensor = found[0] if isinstance(found, tuple) else found
        return segments.pack(made.flatten(-2))

    return attend


FLASH_3 = {"fa3_fwd_interface": "fa3-fwd", "flash_attn_interface": "flash_attn_3"}
FLASH_2, FLASH_4 = {"flash_attn": "flash-attn"}, {"flash_attn.cute": "flash-attn-4"}

BACKENDS: Mapping[str, Backend] = {
    one.name: one
    for one in (
        Backend(TORCH, "torch's own choice", _torch),
        Backend("cudnn", "cuDNN", _cudnn),
        Backend("flash", "torch's FlashAttention", _flash),
        Backend("flash3", "FlashAttention 3", _packed(FLASH_3), FLASH_3, cards=(9,)),
        Backend("flash4", "FlashAttention 4", _packed(FLASH_4), FLASH_4, cards=(9, 10, 12)),
        Backend("flash2", "FlashAttention 2", _packed(FLASH_2), FLASH_2, cards=(8, 9)),
    )
}


def usable(device: torch.device, dtype: torch.dtype) -> tuple[Backend, ...]:
    """What can compute there, apart from torch's own choice if that is one of these."""
    able = [one for one in BACKENDS.values() if not one.refusal(device, dtype)]
    return tuple(one for one in able if one.name != TORCH or len(able) == 1)
