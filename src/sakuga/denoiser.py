"""The transformer as a velocity field, (x, t) -> v, for the prompts of one request."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sakuga.model.layers import Segments
from sakuga.model.nextdit import NextDiT
from sakuga.model.text import Conditioning


@dataclass(frozen=True, slots=True)
class Prompted:
    """Segments that share a forward pass: refined captions (T, D), pooled vectors (S, W)."""

    captions: Tensor
    segments: Segments
    pooled: Tensor


class Denoiser:
    """Velocities of B pictures. `conditional` and `both` are what guidance asks for."""

    def __init__(
        self,
        transformer: NextDiT,
        positive: Conditioning,
        negative: Conditioning | None,
        batch: int,
    ) -> None:
        self.transformer = transformer
        self.dtype = transformer.x_embedder.weight.dtype
        one = self._prompted(positive)
        self._conditional = _repeated((one,), batch)
        self._both = self._conditional
        if negative is not None:
            self._both = _repeated((one, self._prompted(negative)), batch)

    def conditional(self, x: Tensor, t: float) -> Tensor:
        """v (B, C, h, w) under the prompt alone."""
        return self._velocity(x, t, self._conditional)

    def both(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """v (B, C, h, w) under the prompt and under the negative, in one pass."""
        conditional, unconditional = self._velocity(torch.cat((x, x)), t, self._both).chunk(2)
        return conditional, unconditional

    def _velocity(self, x: Tensor, t: float, prompted: Prompted) -> Tensor:
        times = torch.full((len(x),), t, device=x.device)
        v = self.transformer(
            x.to(self.dtype), times, prompted.captions, prompted.segments, prompted.pooled
        )
        return v.float()

    def _prompted(self, text: Conditioning) -> Prompted:
        segments = Segments((len(text.tokens),))
        captions = self.transformer.caption(text.tokens.to(self.dtype), segments)
        return Prompted(captions, segments, text.pooled.to(self.dtype)[None])


def _repeated(branches: tuple[Prompted, ...], batch: int) -> Prompted:
    """Each branch once per picture: all of the first, then all of the second."""
    each = [branch for branch in branches for _ in range(batch)]
    return Prompted(
        torch.cat([branch.captions for branch in each]),
        Segments(tuple(len(branch.captions) for branch in each)),
        torch.cat([branch.pooled for branch in each]),
    )
