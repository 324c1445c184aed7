"""From the pixels of a picture to its latents: the autoencoder's other half."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sakuga.api.receipt import StagePlan
from sakuga.engine.networks import Networks
from sakuga.engine.run import Events, Run
from sakuga.engine.runner import check_finite
from sakuga.memory.device import DTYPES, Device
from sakuga.memory.stages import ENCODE
from sakuga.model.vae import VAE


@dataclass(frozen=True, slots=True)
class PictureInputs:
    """The autoencoder, pixels (B, 3, H, W) in [-1, 1] on the host, and how they are encoded."""

    run: Run
    vae: VAE
    pixels: Tensor
    how: StagePlan


def prepare(networks: Networks, run: Run, pixels: Tensor, how: StagePlan) -> PictureInputs:
    """On the host: the network as planned, and what it sees: pixels (B, H, W, 3), uint8."""
    seen = pixels.movedim(-1, 1)
    values = (seen.float() / 127.5 - 1).to(DTYPES[how.dtype])
    return PictureInputs(run, networks.of(ENCODE, how.weights, how.dtype), values, how)


def encode(inputs: PictureInputs, device: Device) -> Events[Tensor]:
    """Latents (B, C, h, w) in float32 on the host: the mean of what the encoder says.

    One picture at a time.
    """
    how, vae = inputs.how, inputs.vae
    with device.lend(vae.encoder):
        each = [
            vae.encode(device.to_device(pixels), how.strips, how.recompute).float()
            for pixels in inputs.pixels.split(1)
        ]
        latents = torch.cat(each)
        check_finite(inputs.run, ENCODE.name, latents)
    yield from ()  # nothing happens meanwhile
    return device.to_host(latents)
