"""What the models share: packed tokens, where each stands, rotary positions.

Tokens of several segments are laid end to end. When every segment has the same length
the pack is a plain batch, (S, L, D), and attention is one call; otherwise it is (T, D)
and attention runs segment by segment. Either way there is no padding and no mask, and
whatever belongs to a whole segment broadcasts over its tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

TORCH = "torch"  # the back-end of attention that is here everywhere


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
    `owner`: the segment of each token, (T,); None if uniform. `starts`: where each segment
    starts, and where the last one ends, int32 (S + 1,). `backend`: what computes attention over
    them, one of `model.attention.BACKENDS`. `bias`: what holds tokens off others, if anything
    does.
    """

    segments: Segments
    cos: Tensor
    sin: Tensor
    owner: Tensor | None
    starts: Tensor
    backend: str = TORCH
    bias: Bias | None = None

    def to(self, device: torch.device) -> Positions:
        """The same with copies of its tables on `device`."""
        cos, sin, starts = (
            table.to(device, copy=True) for table in (self.cos, self.sin, self.starts)
        )
        owner = None if self.owner is None else self.owner.to(device, copy=True)
        bias = None if self.bias is None else self.bias.to(device)
        return replace(self, cos=cos, sin=sin, owner=owner, starts=starts, bias=bias)

    def spread(self, vectors: Tensor) -> Tensor:
        """Let one vector per segment, (S, D), broadcast over the pack's tokens."""
        return vectors.unsqueeze(1) if self.owner is None else vectors[self.owner]


@dataclass(frozen=True, slots=True)
class Lookup:
    """One vector per segment, kept as the table that it is a row of.

    `table`: (R, D); `rows`: which of it each segment has, (S,); None where it has row by row.
    """

    table: Tensor
    rows: Tensor | None = None

    @property
    def vectors(self) -> Tensor:
        """The vectors themselves, (S, D)."""
        return self.table if self.rows is None else self.table[self.rows]

    def chunk(self, count: int) -> tuple[Lookup, ...]:
        """Cut each vector into `count` equal parts.

        A kernel of a card finds the rows by itself; elsewhere they are gathered once for all parts.
        """
        one = self if self.table.is_cuda else Lookup(self.vectors)
        return tuple(Lookup(part, one.rows) for part in one.table.chunk(count, dim=-1))


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
