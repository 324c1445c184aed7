"""From latents to pixels: the body of the stage that decodes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sakuga.api.events import Decoded
from sakuga.api.receipt import StagePlan
from sakuga.engine.networks import Networks
from sakuga.engine.run import Events, Run
from sakuga.engine.runner import check_finite
from sakuga.memory.device import DTYPES, Device
from sakuga.memory.stages import DECODE
from sakuga.model.vae import VAE


@dataclass(frozen=True, slots=True)
class DecodeInputs:
    """The autoencoder, latents (B, C, h, w) on the device, and how they are decoded."""

    run: Run
    vae: VAE
    latents: Tensor
    how: StagePlan


def prepare(networks: Networks, run: Run, latents: Tensor, how: StagePlan) -> DecodeInputs:
    """On the host: the network as planned."""
    return DecodeInputs(run, networks.of(DECODE, how.weights, how.dtype), latents, how)


def decode(inputs: DecodeInputs, device: Device) -> Events[list[Tensor]]:
    """Pixels (H, W, 3) of each picture, uint8 on the host; one picture at a time."""
    with device.lend(inputs.vae, frozenset({"encoder"})):
        pictures = [_pixels(inputs, one, device) for one in torch.split(inputs.latents, 1)]
    yield Decoded()
    return pictures


def _pixels(inputs: DecodeInputs, latents: Tensor, device: Device) -> Tensor:
    """Pixels of one picture; nothing else of it is left on the device."""
    how = inputs.how
    image = inputs.vae.decode(latents.to(DTYPES[how.dtype]), how.strips, how.recompute).float()
    check_finite(inputs.run, "decode", image)
    pixels = ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return device.to_host(pixels)[0].movedim(0, -1)
