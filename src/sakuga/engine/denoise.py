"""From noise to latents: the loop of a drawing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from sakuga.api.events import Stepped
from sakuga.api.receipt import StagePlan
from sakuga.api.resolved import Resolved
from sakuga.engine.networks import Networks
from sakuga.engine.preview import Preview, PreviewMap, delayed
from sakuga.engine.run import Events, Run
from sakuga.engine.runner import NotFinite
from sakuga.engine.velocity import Denoiser, Packings, Prepared, modulated, refined
from sakuga.memory.device import Device
from sakuga.memory.stages import DENOISE
from sakuga.model.blocks import RefinerBlock
from sakuga.model.layers import Positions
from sakuga.model.nextdit import NextDiT
from sakuga.model.packing import text_positions
from sakuga.model.spec import VAESpec
from sakuga.model.text import Conditioning
from sakuga.sample.guidance import Velocity, guided
from sakuga.sample.solvers import Step, evaluation_times, solve

# The layers that make modulations of a time. They need not stream with their blocks: what they
# make is a table, computed before the first step.
HEADS = frozenset({"adaLN_modulation"})
# What is not lent with the whole transformer, because it passes the device block by block.
NOT_LENT = HEADS | {"noise_refiner", "context_refiner", "layers"}


@dataclass(frozen=True, slots=True)
class DenoiseInputs:
    """What the host prepares: noise and packings, group of pictures by group.

    `texts`: both sides of the guidance, or one; `positions`: where their tokens
    stand.
    """

    run: Run
    transformer: NextDiT
    texts: Sequence[Conditioning]
    positions: Sequence[Positions]
    noise: Sequence[Tensor]
    packings: Sequence[Packings]
    resident: int
    previews: PreviewMap | None


def prepare(
    networks: Networks,
    run: Run,
    texts: Sequence[Conditioning],
    previews: PreviewMap | None,
    how: StagePlan,
) -> DenoiseInputs:
    """On the host: the network as planned, the noise, and where all tokens stand."""
    transformer = networks.of(DENOISE, how.weights, how.dtype)
    lengths = [len(side.tokens) for side in texts]
    group = -(-run.request.number // how.batches)  # pictures that are denoised together
    groups = torch.split(noise(run.request, networks.checkpoint.spec.vae), group)
    packings = [
        Packings.of(transformer, lengths, len(group), (group.shape[2], group.shape[3]), how.parts)
        for group in groups
    ]
    positions = [text_positions(transformer.spec, (length,)) for length in lengths]
    return DenoiseInputs(
        run, transformer, texts, positions, groups, packings, how.resident, previews
    )


def noise(request: Resolved, vae: VAESpec) -> Tensor:
    """Float32 noise (B, C, h, w) from one CPU generator per picture, seeded seed + i."""
    shape = (vae.latent_channels, request.height // vae.downscale, request.width // vae.downscale)
    generators = [torch.Generator().manual_seed(request.seed + i) for i in range(request.number)]
    return torch.stack([torch.randn(shape, generator=one) for one in generators])


def denoise(inputs: DenoiseInputs, device: Device) -> Events[Tensor]:
    """Latents (B, C, h, w) in float32, from noise."""
    run, transformer, latents = inputs.run, inputs.transformer, list[Tensor]()
    with device.lend(transformer, NOT_LENT):
        prepared = _prepared(inputs, device)
        with device.stream(transformer.blocks, inputs.resident, HEADS, again=True) as blocks:
            for group, packings in zip(inputs.noise, inputs.packings, strict=True):
                denoiser = Denoiser(transformer, prepared, packings.to(device.where), blocks)
                velocity, x = _guided(denoiser, run.request), device.to_device(group)
                steps = solve(velocity, x, run.times, run.request.solver)
                done = len(latents), len(inputs.noise)
                latents.append((yield from _shown(inputs, device, steps, done)))
    return torch.cat(latents)


def _prepared(inputs: DenoiseInputs, device: Device) -> Prepared:
    """What no step changes; the weights behind it pass the device once."""
    transformer, run = inputs.transformer, inputs.run
    texts = [
        Conditioning(device.to_device(side.tokens), device.to_device(side.pooled))
        for side in inputs.texts
    ]
    refiner = cast(list[RefinerBlock], list(transformer.context_refiner))
    with device.stream(refiner) as blocks:
        positions = [one.to(device.where) for one in inputs.positions]
        captions = refined(transformer, texts, positions, blocks)
    times = evaluation_times(run.times, run.request.solver)
    with device.stream(transformer.heads) as heads:
        return Prepared(captions, *modulated(transformer, texts, times, heads))


def _guided(denoiser: Denoiser, request: Resolved) -> Velocity:
    """The velocity that a request asks for."""
    if not request.guided:
        return denoiser.conditional
    until = request.truncation if request.truncation < 1 else None
    return guided(denoiser.both, request.guidance, request.renorm, until, denoiser.conditional)


def _shown(
    inputs: DenoiseInputs, device: Device, steps: Iterator[Step], done: tuple[int, int]
) -> Events[Tensor]:
    """Walk one group of pictures, telling of each step.

    done: groups that were denoised before, and how many there are in all.
    """
    before, groups = done
    painter = inputs.previews.on(device.where) if inputs.previews else None

    def previewed(step: Step) -> Preview:
        inputs.run.observe(f"step{step.index}", step.x)
        return Preview(step, painter)

    # One step late on a card: the host reads a preview while the next step is computed.
    for preview in delayed(map(previewed, steps), by=int(device.on_card)):
        step = preview.step
        if not preview.finite:
            raise NotFinite(f"step {step.index}")
        memory, _ = device.memory()
        yield Stepped(before * step.of + step.index, groups * step.of, preview.pictures, memory)
    return step.x
