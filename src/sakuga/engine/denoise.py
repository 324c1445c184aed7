"""From noise to latents: the transformer as a velocity field, and the loop of a drawing.

What no step changes is made once, before the first: where all tokens stand, refined
captions, and a table of modulations with one row per time and branch. The table is used
always, so that no bit of a picture depends on whether the weights behind it are still on
the card.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from typing import cast

import torch
from torch import Tensor, nn

from sakuga.api.events import Stepped
from sakuga.api.receipt import StagePlan
from sakuga.api.resolved import Resolved, Seeds
from sakuga.engine.beginning import Beginning
from sakuga.engine.decode import Preview, PreviewMap, delayed
from sakuga.engine.networks import Networks
from sakuga.engine.regions import until, with_regions
from sakuga.engine.run import Events, Run
from sakuga.engine.runner import NotFinite
from sakuga.memory.attention import AttentionShape
from sakuga.memory.device import Device
from sakuga.memory.stages import DENOISE
from sakuga.model.layers import TORCH, Positions, Segments
from sakuga.model.nextdit import Group, Modulations, NextDiT, RefinerBlock, TransformerBlock
from sakuga.model.packing import Packing, packing_of, text_positions
from sakuga.model.spec import VAESpec
from sakuga.model.text import Conditioning
from sakuga.sample.guidance import first, guided
from sakuga.sample.noise import seeded, turned
from sakuga.sample.solvers import Step, Velocity, evaluation_times, solve

Branches = tuple[int, ...]  # 0: under the prompt, 1: under the negative

# The layers that make modulations of a time. They need not stream with their blocks: what they
# make is a table, computed before the first step.
HEADS = frozenset({"adaLN_modulation"})
# What is not lent with the whole transformer, because it passes the device block by block.
NOT_LENT = HEADS | {"noise_refiner", "context_refiner", "layers"}


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

    def within(self, run: Run) -> Packings:
        """The same, with characters held in their places."""

        def held(segments: PackedSegments) -> PackedSegments:
            return replace(segments, packing=with_regions(segments.packing, segments.branches, run))

        return Packings(tuple(map(held, self.conditional)), tuple(map(held, self.both)))

    def to(
        self, device: torch.device, choose: Callable[[Segments], str] = lambda _: TORCH
    ) -> Packings:
        """The same with its tables on `device`; segments that are alike share theirs.

        choose: names what computes attention over segments.
        """
        moved: dict[int, Packing] = {}

        def move(segments: PackedSegments) -> PackedSegments:
            key = id(segments.packing)
            if key not in moved:
                moved[key] = segments.packing.to(device).attending(choose)
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
    t = torch.tensor(times, dtype=torch.float32, device=texts[0].tokens.device)
    vectors, pooled = [text.pooled for text in texts if text.pooled is not None], None
    if vectors:
        dtype = transformer.x_embedder.weight.dtype
        pooled = torch.stack(vectors).to(dtype).repeat(len(times), 1)
    table = transformer.modulations(t.repeat_interleave(len(texts)), pooled, heads)
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
        return self._velocity(self._conditional, x, self.prepared.rows[t])

    def both(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """v (B, C, h, w) under the prompt and under the negative, in one pass."""
        velocity = self._velocity(self._both, x, self.prepared.rows[t])
        conditional, unconditional = velocity.chunk(2)
        return conditional, unconditional

    def _bundle(self, segments: PackedSegments) -> CaptionedSegments:
        captions, device = self.prepared.captions, self.prepared.captions[0].device
        return CaptionedSegments(
            torch.tensor(segments.pictures, device=device),
            torch.tensor(segments.branches, device=device),
            torch.cat([captions[branch] for branch in segments.branches]),
            segments.packing,
        )

    def _velocity(self, parts: Sequence[CaptionedSegments], x: Tensor, row: int) -> Tensor:
        latents = x.to(self.dtype)
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


@dataclass(frozen=True, slots=True)
class DenoiseInputs:
    """What the host prepares: noise and packings, group of pictures by group.

    `texts`: both sides of the guidance, or one; `positions`: where their tokens
    stand. `origins`: what each group begins with besides noise.
    """

    run: Run
    transformer: NextDiT
    texts: Sequence[Conditioning]
    positions: Sequence[Positions]
    noise: Sequence[Tensor]
    packings: Sequence[Packings]
    resident: int
    previews: PreviewMap | None
    origins: Sequence[Beginning | None]


def prepare(
    networks: Networks,
    run: Run,
    texts: Sequence[Conditioning],
    previews: PreviewMap | None,
    origin: Beginning | None,
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
    begun = repeat(None) if origin is None else origin.split(group)
    origins = [one for one, _ in zip(begun, groups, strict=False)]
    positions = [text_positions(transformer.spec, (length,)) for length in lengths]
    return DenoiseInputs(
        run, transformer, texts, positions, groups, packings, how.resident, previews, origins
    )


def noise(request: Resolved, vae: VAESpec) -> Tensor:
    """Float32 noise (B, C, h, w): that of each picture's seed, or on its way to another."""
    shape = (vae.latent_channels, request.height // vae.downscale, request.width // vae.downscale)
    return torch.stack([_noise_of(request.seeds(i), shape) for i in range(request.number)])


def _noise_of(seeds: Seeds, shape: tuple[int, ...]) -> Tensor:
    noise = seeded(shape, seeds.seed)
    return turned(noise, seeded(shape, seeds.other), seeds.share) if seeds.share else noise


def denoise(inputs: DenoiseInputs, device: Device) -> Events[Tensor]:
    """Latents (B, C, h, w) in float32, from noise."""
    run, transformer, latents = inputs.run, inputs.transformer, list[Tensor]()
    with device.lend(transformer, NOT_LENT):
        prepared = _prepared(inputs, device)
        with device.stream(transformer.blocks, inputs.resident, HEADS, again=True) as blocks:
            choose = partial(_attending, inputs, device)
            every = zip(inputs.noise, inputs.packings, inputs.origins, strict=True)
            for group, packings, origin in every:
                free = packings.to(device.where, choose)
                velocity = _guided(Denoiser(transformer, prepared, free, blocks), run.request)
                if run.texts.regions:
                    held = packings.within(run).to(device.where, choose)
                    denoiser = Denoiser(transformer, prepared, held, blocks)
                    velocity = first(_guided(denoiser, run.request), until(run), velocity)
                velocity, x = _begun(origin, velocity, group, device)
                steps = solve(velocity, x, run.times, run.request.solver)
                done = len(latents), len(inputs.noise)
                latents.append((yield from _shown(inputs, device, steps, done)))
    return torch.cat(latents)


def _attending(inputs: DenoiseInputs, device: Device, segments: Segments) -> str:
    """What computes attention over some segments, which the receipt will tell."""
    transformer = inputs.transformer
    dtype = transformer.x_embedder.weight.dtype
    shape = AttentionShape.of(transformer.spec, segments.lengths, dtype)
    name = device.attention.choose(device.where, shape)
    inputs.run.attention = tuple(sorted({*inputs.run.attention, name}))
    return name


def _begun(
    origin: Beginning | None, velocity: Velocity, noise: Tensor, device: Device
) -> tuple[Velocity, Tensor]:
    """The velocity of some pictures and where they begin, on the device."""
    if origin is None:
        return velocity, device.to_device(noise)
    with device.host():
        state = origin.state(noise)
    return origin.bounded(velocity, noise, device), device.to_device(state)


def _prepared(inputs: DenoiseInputs, device: Device) -> Prepared:
    """What no step changes; the weights behind it pass the device once."""
    transformer, run = inputs.transformer, inputs.run
    texts = [
        Conditioning(
            device.to_device(side.tokens),
            None if side.pooled is None else device.to_device(side.pooled),
        )
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
    rows = request.normalisation == "rows"
    return guided(
        denoiser.both, request.guidance, request.renorm, until, denoiser.conditional, rows
    )


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
