"""What the models share: packed tokens, rotary positions, attention.

Tokens of several segments are laid end to end. When every segment has the same length
the pack is a plain batch, (S, L, D), and attention is one call; otherwise it is (T, D)
and attention runs segment by segment. Either way there is no padding and no mask, and
whatever belongs to a whole segment broadcasts over its tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Segments:
    """How many tokens each of S segments holds; `uniform` is their length if all agree."""

    lengths: tuple[int, ...]
    uniform: int | None = field(init=False)
    total: int = field(init=False)

    def __post_init__(self) -> None:
        """Derive once what the hot path asks for, so that it never walks the tuple."""
        object.__setattr__(self, "lengths", tuple(self.lengths))
        same = len(set(self.lengths)) == 1
        object.__setattr__(self, "uniform", self.lengths[0] if same else None)
        object.__setattr__(self, "total", sum(self.lengths))

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each segment starts, and where the last one ends."""
        ends = [0]
        for length in self.lengths:
            ends.append(ends[-1] + length)
        return tuple(ends)

    def pack(self, tokens: Tensor) -> Tensor:
        """Give (T, ...) tokens the form of this pack: (S, L, ...) if uniform."""
        return tokens if self.uniform is None else tokens.unflatten(0, (-1, self.uniform))

    def unpack(self, tokens: Tensor) -> Tensor:
        """Lay a pack end to end again: (T, ...)."""
        return tokens if self.uniform is None else tokens.flatten(0, 1)

    def split(self, tokens: Tensor) -> Sequence[Tensor]:
        """Take a pack apart into one (L_s, ...) view per segment."""
        return tokens.split(self.lengths) if self.uniform is None else tokens.unbind(0)

    def join(self, pieces: Sequence[Tensor]) -> Tensor:
        """Make a pack of one (L_s, ...) tensor per segment."""
        return torch.cat(list(pieces)) if self.uniform is None else torch.stack(list(pieces))


def channels_of(features: int) -> int:
    """How many channels carry so many features of a bias: kernels want a multiple of eight."""
    return -(-features // 8) * 8


@dataclass(frozen=True, slots=True)
class Bias:
    """What is added to the scores of a pack: query · key, over R features of each token.

    Both (S, L, R) if uniform, else (T, R). As more channels of queries and keys it needs no
    mask, which would be as large as all scores and keep fast kernels away.
    """

    query: Tensor
    key: Tensor

    def to(self, device: torch.device) -> Bias:
        """The same on `device`."""
        return Bias(self.query.to(device, copy=True), self.key.to(device, copy=True))


@dataclass(frozen=True, slots=True)
class Positions:
    """Rotary positions of the tokens of a pack, and the segment of each.

    `cos`, `sin`: float32 rotary tables that broadcast over the pack's heads,
    (1 or S, L, 1, E/2) if uniform, else (T, 1, E/2).
    `owner`: the segment of each token, (T,); None if uniform. `bias`: what holds tokens off
    others, if anything does.
    """

    segments: Segments
    cos: Tensor
    sin: Tensor
    owner: Tensor | None
    bias: Bias | None = None

    def to(self, device: torch.device) -> Positions:
        """The same with copies of its tables on `device`."""
        cos, sin = (table.to(device, copy=True) for table in (self.cos, self.sin))
        owner = None if self.owner is None else self.owner.to(device, copy=True)
        bias = None if self.bias is None else self.bias.to(device)
        return Positions(self.segments, cos, sin, owner, bias)

    def spread(self, vectors: Tensor) -> Tensor:
        """Let one vector per segment, (S, D), broadcast over the pack's tokens."""
        return vectors.unsqueeze(1) if self.owner is None else vectors[self.owner]


def rope_tables(ids: Tensor, axes_dims: Sequence[int], theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary angles over several axes (RoFormer, arXiv 2104.09864).

    `ids`: (..., axes) integer positions, of any size. Each axis fills its own
    `axes_dims[a] / 2` channel pairs. Angles are computed in float64 so that large
    positions keep their digits. Returns two float32 tensors (..., E/2).
    """
    angles = []
    for axis, dim in enumerate(axes_dims):
        exponent = torch.arange(0, dim, 2, dtype=torch.float64, device=ids.device) / dim
        angles.append(ids[..., axis, None].double() * theta**-exponent)
    angle = torch.cat(angles, dim=-1).float()
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn neighbouring channel pairs (2k, 2k+1) of (..., H, E) by their angles.

    Real arithmetic in float32, because half precision loses far positions.
    """
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).type_as(x)


def attention(q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
    """Softmax attention of every token over its own segment, without a mask.

    q: (S, L, H, E) or (T, H, E); k, v the same with K kv heads, head j of which serves
    query heads j·H/K and on. Scale 1/sqrt(E). Returns (S, L, H·E) or (T, H·E).
    """
    if segments.uniform is not None:
        return _attend(q, k, v).flatten(-2)
    pieces = zip(*(part.split(segments.lengths) for part in (q, k, v)), strict=True)
    return torch.cat([_attend(*(part[None] for part in piece))[0] for piece in pieces]).flatten(-2)


def biased(q: Tensor, k: Tensor, v: Tensor, bias: Bias, segments: Segments) -> Tensor:
    """`attention` with a bias: channels that carry it beside those of queries and keys."""
    channels = q.shape[-1]
    q = torch.cat((q, _spread(bias.query * channels**0.5, q)), dim=-1)
    k = torch.cat((k, _spread(bias.key, k)), dim=-1)
    v = F.pad(v, (0, bias.key.shape[-1]))  # fast kernels want one width
    if segments.uniform is not None:
        return _attend(q, k, v, channels**-0.5)[..., :channels].flatten(-2)
    pieces = zip(*(part.split(segments.lengths) for part in (q, k, v)), strict=True)
    each = [_attend(a[None], b[None], c[None], channels**-0.5)[0] for a, b, c in pieces]
    return torch.cat(each)[..., :channels].flatten(-2)


def _spread(features: Tensor, heads: Tensor) -> Tensor:
    """Features of tokens for every head."""
    return features.to(heads.dtype).unsqueeze(-2).expand(*heads.shape[:-1], -1)


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    if q.is_cuda and q.dtype == torch.float32:
        # No fused float32 kernel takes grouped heads; the fallback would hold all scores.
        group = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    grouped = q.shape[1] != k.shape[1]
    found = F.scaled_dot_product_attention(q, k, v, scale=scale, enable_gqa=grouped)
    return found.transpose(1, 2)
