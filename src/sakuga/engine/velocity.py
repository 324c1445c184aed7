"""The transformer as a velocity field, (x, t) -> v, for the prompts of one request.

What no step changes is made once, before the first: where all tokens stand, refined
captions, and a table of modulations with one row per time and branch. The table is used
always, so that no bit of a picture depends on whether the weights behind it are still on
the card.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from sakuga.model.blocks import RefinerBlock, TransformerBlock
from sakuga.model.layers import Positions
from sakuga.model.nextdit import Group, Modulations, NextDiT
from sakuga.model.packing import Packing, packing_of
from sakuga.model.text import Conditioning

Branches = tuple[int, ...]  # 0: under the prompt, 1: under the negative


@dataclass(frozen=True, slots=True)
class PackedSegments:
    """Segments that pass each block together: their pictures and branches, where they stand."""

    pictures: tuple[int, ...]
    branches: tuple[int, ...]
    packing: Packing


@dataclass(frozen=True, slots=True)
class Packings:
    """Where all tokens of some pictures stand: under the prompt alone, and under both texts.

    Made on the host, which keeps the tables; `both` is empty without a negative.
    """

    conditional: tuple[PackedSegments, ...]
    both: tuple[PackedSegments, ...]

    @classmethod
    def of(
        cls,
        transformer: NextDiT,
        lengths: Sequence[int],
        batch: int,
        size: tuple[int, int],
        parts: int = 1,
    ) -> Packings:
        """Pack `batch` pictures of (h, w) latents under texts of `lengths` tokens.

        `parts`: how many groups of segments pass each block one after the other.
        """

        def packed(branches: Branches) -> tuple[PackedSegments, ...]:
            # All pictures of the first branch, then all of the second, cut into parts.
            segments = [(picture, branch) for branch in branches for picture in range(batch)]
            most = -(-len(segments) // parts)
            cuts = [segments[start : start + most] for start in range(0, len(segments), most)]
            return tuple(
                PackedSegments(
                    tuple(picture for picture, _ in cut),
                    tuple(branch for _, branch in cut),
                    packing_of(
                        transformer.spec,
                        [lengths[branch] for _, branch in cut],
                        [size] * len(cut),
                    ),
                )
                for cut in cuts
            )

        return cls(packed((0,)), packed((0, 1)) if len(lengths) > 1 else ())

    def to(self, device: torch.device) -> Packings:
        """The same with its tables on `device`; segments that are alike share theirs."""
        moved: dict[int, Packing] = {}

        def move(segments: PackedSegments) -> PackedSegments:
            key = id(segments.packing)
            if key not in moved:
                moved[key] = segments.packing.to(device)
            return replace(segments, packing=moved[key])

        return Packings(tuple(map(move, self.conditional)), tuple(map(move, self.both)))


@dataclass(frozen=True, slots=True)
class Prepared:
    """What no step changes: refined captions (L, D) by branch, modulations by time and branch."""

    captions: tuple[Tensor, ...]
    table: Modulations
    rows: dict[float, int]


def refined(
    transformer: NextDiT,
    texts: Sequence[Conditioning],
    positions: Sequence[Positions],
    blocks: Iterable[RefinerBlock] | None = None,
) -> tuple[Tensor, ...]:
    """Captions (L, D), each by itself. positions: of each text. blocks: the context refiner's."""
    dtype = transformer.x_embedder.weight.dtype
    pairs = [(text.tokens.to(dtype), each) for text, each in zip(texts, positions, strict=True)]
    return tuple(transformer.refine_each(pairs, blocks))


def modulated(
    transformer: NextDiT,
    texts: Sequence[Conditioning],
    times: Sequence[float],
    heads: Iterable[nn.Module] | None = None,
) -> tuple[Modulations, dict[float, int]]:
    """One row per time and branch, branches of a time side by side, and where a time's begin.

    `times`: every time that will be asked for. `heads`: what makes the modulations.
    """
    t = torch.tensor(times, dtype=torch.float32, device=texts[0].pooled.device)
    pooled = torch.stack([text.pooled for text in texts]).to(transformer.x_embedder.weight.dtype)
    table = transformer.modulations(
        t.repeat_interleave(len(texts)), pooled.repeat(len(times), 1), heads
    )
    return table, {t: row * len(texts) for row, t in enumerate(times)}


@dataclass(frozen=True, slots=True)
class CaptionedSegments:
    """Packed segments on the device: `pictures`, `branches` (S,) and `captions` (T, D)."""

    pictures: Tensor
    branches: Tensor
    captions: Tensor
    packing: Packing


class Denoiser:
    """Velocities of B pictures. `conditional` and `both` are what guidance asks for.

    `packings`: on the device of the captions. `blocks`: the transformer's, from wherever they
    come, iterated once per evaluation.
    """

    def __init__(
        self,
        transformer: NextDiT,
        prepared: Prepared,
        packings: Packings,
        blocks: Iterable[TransformerBlock] | None = None,
    ) -> None:
        self.transformer, self.prepared, self.blocks = transformer, prepared, blocks
        self.dtype = transformer.x_embedder.weight.dtype
        self._conditional = [self._bundle(segments) for segments in packings.conditional]
        self._both = [self._bundle(segments) for segments in packings.both]

    def conditional(self, x: Tensor, t: float) -> Tensor:
        """v (B, C, h, w) under the prompt alone."""
        return self._velocity(x, t, self._conditional)

    def both(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """v (B, C, h, w) under the prompt and under the negative, in one pass."""
        conditional, unconditional = self._velocity(x, t, self._both).chunk(2)
        return conditional, unconditional

    def _bundle(self, segments: PackedSegments) -> CaptionedSegments:
        captions, device = self.prepared.captions, self.prepared.captions[0].device
        return CaptionedSegments(
            torch.tensor(segments.pictures, device=device),
            torch.tensor(segments.branches, device=device),
            torch.cat([captions[branch] for branch in segments.branches]),
            segments.packing,
        )

    def _velocity(self, x: Tensor, t: float, parts: Sequence[CaptionedSegments]) -> Tensor:
        latents, row = x.to(self.dtype), self.prepared.rows[t]
        groups = [
            Group(
                latents[part.pictures],
                part.captions,
                part.packing,
                self.prepared.table.rows(part.branches + row),
            )
            for part in parts
        ]
        velocities = self.transformer.denoise(groups, self.blocks)
        return torch.cat(cast(list[Tensor], velocities)).float()  # tensors, as the latents are

