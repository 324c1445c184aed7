"""The transformer as a velocity field, (x, t) -> v, for the prompts of one request.

What no step changes is made once, before the first: refined captions, rotary tables, and a
table of modulations with one row per time and branch. The table is used always, so that no
bit of a picture depends on whether the weights behind it are still on the card.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sakuga.model.layers import Segments
from sakuga.model.nextdit import Block, Group, Layout, Modulations, NextDiT
from sakuga.model.text import Conditioning

Branches = tuple[int, ...]  # 0: under the prompt, 1: under the negative


@dataclass(frozen=True, slots=True)
class Bundle:
    """Segments that pass each block together: whose they are, and where they stand.

    `pictures`, `branches`: of each segment, on the device, (S,). `captions`: (T, D).
    """

    pictures: Tensor
    branches: Tensor
    captions: Tensor
    layout: Layout


class Denoiser:
    """Velocities of B pictures. `conditional` and `both` are what guidance asks for.

    `size`: (h, w) of the latents. `times`: every time that will be asked for. `parts`: how
    many groups of segments pass each block one after the other. `blocks`: the transformer's,
    from wherever they come, iterated once per evaluation.
    """

    def __init__(
        self,
        transformer: NextDiT,
        sides: tuple[Conditioning, Conditioning | None],
        batch: int,
        size: tuple[int, int],
        times: Sequence[float],
        *,
        parts: int = 1,
        blocks: Iterable[Block] | None = None,
    ) -> None:
        self.transformer, self.size, self.parts, self.blocks = transformer, size, parts, blocks
        self.dtype = transformer.x_embedder.weight.dtype
        texts = [side for side in sides if side is not None]
        captions = [self._caption(text) for text in texts]
        self._rows = {t: row * len(texts) for row, t in enumerate(times)}
        self._table = self._modulations(texts, times)
        self._conditional = self._bundles(captions, batch, (0,))
        self._both = self._bundles(captions, batch, (0, 1)) if len(texts) > 1 else None

    def conditional(self, x: Tensor, t: float) -> Tensor:
        """v (B, C, h, w) under the prompt alone."""
        return self._velocity(x, t, self._conditional)

    def both(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """v (B, C, h, w) under the prompt and under the negative, in one pass."""
        assert self._both is not None
        conditional, unconditional = self._velocity(x, t, self._both).chunk(2)
        return conditional, unconditional

    def _velocity(self, x: Tensor, t: float, bundles: Sequence[Bundle]) -> Tensor:
        latents, row = x.to(self.dtype), self._rows[t]
        groups = [
            Group(
                latents[bundle.pictures],
                bundle.captions,
                bundle.layout,
                self._table.rows(bundle.branches + row),
            )
            for bundle in bundles
        ]
        return torch.cat(self.transformer.denoise(groups, self.blocks)).float()

    def _caption(self, text: Conditioning) -> Tensor:
        features = text.tokens.to(self.dtype)
        return self.transformer.caption(features, Segments((len(features),)))

    def _modulations(self, texts: Sequence[Conditioning], times: Sequence[float]) -> Modulations:
        """One row per time and branch, branches of a time side by side."""
        device = texts[0].pooled.device
        t = torch.tensor(times, dtype=torch.float32, device=device)
        pooled = torch.stack([text.pooled for text in texts]).to(self.dtype)
        return self.transformer.modulations(
            t.repeat_interleave(len(texts)), pooled.repeat(len(times), 1)
        )

    def _bundles(
        self, captions: Sequence[Tensor], batch: int, branches: Branches
    ) -> tuple[Bundle, ...]:
        """All pictures of the first branch, then all of the second, cut into parts."""
        segments = [(picture, branch) for branch in branches for picture in range(batch)]
        size = -(-len(segments) // self.parts)
        device = captions[0].device
        bundles = []
        for start in range(0, len(segments), size):
            pictures, owners = zip(*segments[start : start + size], strict=True)
            texts = [captions[owner] for owner in owners]
            layout = self.transformer.layout(
                [len(text) for text in texts], [self.size] * len(texts), device
            )
            bundles.append(
                Bundle(
                    torch.tensor(pictures, device=device),
                    torch.tensor(owners, device=device),
                    torch.cat(texts),
                    layout,
                )
            )
        return tuple(bundles)
