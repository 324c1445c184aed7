"""Captions and latents as one row of tokens, where each token stands, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from sakuga.model.layers import Positions, Segments, rope_tables
from sakuga.model.spec import NextDiTSpec

Latents = Tensor | Sequence[Tensor]
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

    def attending(self, choose: Callable[[Segments], str]) -> Packing:
        """The same with the back-end of attention that `choose` names for each kind of pack."""
        image, joint = (
            replace(each, backend=choose(each.segments)) for each in (self.image, self.joint)
        )
        return replace(self, image=image, joint=joint)

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


def packing_of(
    spec: NextDiTSpec,
    lengths: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    device: torch.device | str = "cpu",
) -> Packing:
    """Pack captions of `lengths` tokens and latents of (h, w) `sizes`; tables on `device`.

    The host caches packings, so that each size is computed once; a card caches nothing.
    """
    p = spec.patch_size
    grids = tuple((h // p, w // p) for h, w in sizes)
    made = make_packing(tuple(lengths), grids, _rope(spec))
    return made if torch.device(device).type == "cpu" else made.to(torch.device(device))


def text_positions(spec: NextDiTSpec, lengths: Sequence[int]) -> Positions:
    """Positions of captions of `lengths` tokens alone, on the host."""
    return make_text_positions(tuple(lengths), _rope(spec))


def _rope(spec: NextDiTSpec) -> RopeSpec:
    return spec.axes_dims, spec.rope_theta


def patchify(latents: Latents, p: int, packing: Packing) -> Tensor:
    """Cut latents into a pack of patches (..., p·p·C), channel fastest, row-major."""
    if isinstance(latents, Tensor):
        patches = _patches(latents, p)
        return patches if packing.image.owner is None else patches.flatten(0, 1)
    return packing.image.segments.join([_patches(latent, p) for latent in latents])


def _patches(latents: Tensor, p: int) -> Tensor:
    # -> (..., C, h/p, p, w/p, p)
    blocks: Tensor = latents.unflatten(-1, (-1, p)).unflatten(-3, (-1, p))
    return blocks.movedim(-5, -1).transpose(-3, -4).flatten(-3).flatten(-3, -2)


def unpatchify(patches: Tensor, like: Latents, p: int, packing: Packing) -> Latents:
    """Put a pack of patches back together in the form of `like`."""
    if isinstance(like, Tensor):
        whole = patches if packing.image.owner is None else patches.unflatten(0, (len(like), -1))
        return _unpatch(whole, like.shape[-2] // p, p)
    pieces = zip(packing.image.segments.split(patches), packing.sizes, strict=True)
    return [_unpatch(piece, rows, p) for piece, (rows, _) in pieces]


def _unpatch(patches: Tensor, rows: int, p: int) -> Tensor:
    # -> (..., h/p, w/p, p, p, C)
    blocks: Tensor = patches.unflatten(-1, (p, p, -1)).unflatten(-4, (rows, -1))
    return blocks.transpose(-3, -4).movedim(-1, -5).flatten(-2).flatten(-3, -2)


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
    starts = torch.tensor(segments.offsets, dtype=torch.int32)
    return Positions(segments, cos, sin, owner, starts)


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
