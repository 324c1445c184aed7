"""Pixels and latents: the FLUX-style autoencoder, whole or in strips.

It is without the 1x1 "quant" convolutions of older models.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sakuga.model import strips as in_strips
from sakuga.model.coders import Decoder, Encoder
from sakuga.model.spec import VAESpec

LOGVAR_RANGE = (-30.0, 20.0)


class VAE(nn.Module):
    """The autoencoder. Latents are scaled, (raw - shift_factor) · scaling_factor."""

    def __init__(self, spec: VAESpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = Encoder(spec)
        self.decoder = Decoder(spec)

    def decode(self, latents: Tensor, strips: int = 1, recompute: bool = False) -> Tensor:
        """Map scaled latents (B, C, h, w) to images (B, 3, H, W) around [-1, 1].

        `strips`: with more than 1, bands of rows instead of whole maps, picture by picture: the
        same image but for rounding, in less memory. `recompute`: in less still, for more time.
        """
        raw = latents / self.spec.scaling_factor + self.spec.shift_factor
        if strips == 1:
            image: Tensor = self.decoder(raw)
            return image
        rows = -(-raw.shape[2] * self.spec.downscale // strips)
        images = (in_strips.decode(self.decoder, one, rows, recompute) for one in raw.split(1))
        return torch.cat(list(images))

    def encode(self, image: Tensor, strips: int = 1, recompute: bool = False) -> Tensor:
        """Map images (B, 3, H, W) in [-1, 1] to the means of their scaled latents.

        `strips`, `recompute`: as in `decode`.
        """
        mean, _ = self.moments(image, strips, recompute)
        return (mean - self.spec.shift_factor) * self.spec.scaling_factor

    def moments(
        self, image: Tensor, strips: int = 1, recompute: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Map images (B, 3, H, W) to means and log-variances, (B, C, h, w) each, unscaled.

        `strips`, `recompute`: as in `decode`.
        """
        mean, logvar = self._encoded(image, strips, recompute).chunk(2, dim=1)
        return mean, logvar.clamp(*LOGVAR_RANGE)

    def _encoded(self, image: Tensor, strips: int, recompute: bool) -> Tensor:
        if strips == 1:
            moments: Tensor = self.encoder(image)
            return moments
        rows = -(-image.shape[2] // strips)
        pictures = image.split(1)
        return torch.cat([in_strips.encode(self.encoder, x, rows, recompute) for x in pictures])
