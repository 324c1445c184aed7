"""From the pixels of a picture to its latents: the autoencoder's other half."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sakuga.api.receipt import StagePlan
from sakuga.api.start import Start
from sakuga.engine.networks import Networks
from sakuga.engine.run import Events, Run
from sakuga.engine.runner import check_finite
from sakuga.memory.device import DTYPES, Device
from sakuga.memory.stages import ENCODE
from sakuga.model.vae import VAE


@dataclass(frozen=True, slots=True)
class PictureInputs:
    """The autoencoder, pixels (1, 3, H, W) in [-1, 1] on the host, and how they are encoded."""

    run: Run
    vae: VAE
    pixels: Tensor
    how: StagePlan


def prepare(networks: Networks, run: Run, start: Start, how: StagePlan) -> PictureInputs:
    """On the host: the network as planned, and what it sees."""
    seen = torch.tensor(start.canvas.framed()).movedim(-1, 0).unsqueeze(0)
    pixels = (seen.float() / 127.5 - 1).to(DTYPES[how.dtype])
    return PictureInputs(run, networks.of(ENCODE, how.weights, how.dtype), pixels, how)


def encode(inputs: PictureInputs, device: Device) -> Events[Tensor]:
    """Latents (1, C, h, w) in float32 on the host: the mean of what the encoder says."""
    how, vae = inputs.how, inputs.vae
    with device.lend(vae.encoder):
        pixels = device.to_device(inputs.pixels)
        latents = vae.encode(pixels, how.strips, how.recompute).float()
        check_finite(inputs.run, ENCODE.name, latents)
    yield from ()  # nothing happens meanwhile
    return device.to_host(latents)
