"""Segments of captions and images packed into one row of tokens, and their rotary positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from sakuga.model.layers import Positions, Segments, rope_tables

RopeSpec = tuple[tuple[int, ...], float]  # channels of each axis, base of the frequencies


@dataclass(frozen=True, slots=True)
class Packing:
    """A packing of segments into one row of tokens; depends on caption lengths and sizes alone.

    `sizes`: (rows, columns) of image tokens of each segment. `text`, `image`, `joint`: where
    segments start and their rotary positions, for captions, for images, and for both together.
    """

    sizes: tuple[tuple[int, int], ...]
    text: Positions
    image: Positions
    joint: Positions

    @property
    def batched(self) -> bool:
        """Whether all captions, and all images, have as many tokens."""
        return self.text.owner is None and self.image.owner is None

    def to(self, device: torch.device) -> Packing:
        """The same with copies of its tables on `device`."""
        text, image, joint = (each.to(device) for each in (self.text, self.image, self.joint))
        return Packing(self.sizes, text, image, joint)

    def join(self, text: Tensor, image: Tensor) -> Tensor:
        """Put each segment's image tokens behind its caption tokens."""
        if self.batched:
            return torch.cat((text, image), dim=1)
        pairs = zip(self.text.segments.split(text), self.image.segments.split(image), strict=True)
        return self.joint.segments.join([torch.cat(pair) for pair in pairs])

    def image_part(self, joint: Tensor) -> Tensor:
        """Take the image tokens out of a joint pack."""
        if self.batched:
            return joint[:, self.text.segments.uniform :]
        pieces = zip(self.text.segments.lengths, self.joint.segments.split(joint), strict=True)
        return self.image.segments.join([piece[length:] for length, piece in pieces])


def text_ids(length: int) -> Tensor:
    """Positions of caption tokens, (L, 3): token i stands at (i, 0, 0)."""
    return F.pad(torch.arange(length)[:, None], (0, 2))


def image_ids(length: int, rows: int, columns: int) -> Tensor:
    """Positions of image tokens, (N, 3): (length of their caption, row, column)."""
    axes = torch.tensor([length]), torch.arange(rows), torch.arange(columns)
    return torch.cartesian_prod(*axes)


def make_positions(ids: Sequence[Tensor], rope: RopeSpec, alike: bool) -> Positions:
    """Lay segments with the given positions, (L_s, axes) each, end to end, on the host.

    `alike`: all segments have equal positions, so one table does for all. Tables are
    computed on the CPU, so that every device gets the same bits.
    """
    segments = Segments(tuple(len(one) for one in ids))
    owner = None
    if segments.uniform is None:
        owner = torch.arange(len(ids)).repeat_interleave(torch.tensor(segments.lengths))
        tables = rope_tables(torch.cat(list(ids)), *rope)
    else:
        tables = rope_tables(torch.stack(list(ids[:1] if alike else ids)), *rope)
    cos, sin = (table.unsqueeze(-2) for table in tables)
    return Positions(segments, cos, sin, owner)


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # a table made while drawing must serve training too
def make_text_positions(lengths: tuple[int, ...], rope: RopeSpec) -> Positions:
    """Positions of captions alone."""
    alike = len(set(lengths)) == 1
    return make_positions([text_ids(length) for length in lengths], rope, alike)


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def make_packing(
    lengths: tuple[int, ...], sizes: tuple[tuple[int, int], ...], rope: RopeSpec
) -> Packing:
    """Pack captions of `lengths` tokens with images of (rows, columns) `sizes` tokens."""
    alike = len(set(zip(lengths, sizes, strict=True))) == 1
    image = [image_ids(length, *size) for length, size in zip(lengths, sizes, strict=True)]
    joint = [torch.cat((text_ids(length), ids)) for length, ids in zip(lengths, image, strict=True)]
    return Packing(
        sizes,
        make_text_positions(lengths, rope),
        make_positions(image, rope, alike),
        make_positions(joint, rope, alike),
    )
