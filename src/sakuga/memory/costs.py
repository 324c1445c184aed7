"""What a stage of a drawing takes of a card: bytes at its peak, and seconds.

The bytes are those that torch's allocator counts (`max_memory_allocated`): weights on the
card, what is kept from step to step, and the most that is alive at once within a block. The
formulas follow `model.nextdit` and `model.text` line by line, and a test holds them to the
real modules, counted by `memory.ledger` at the real size. The seconds are a roofline: the
longer of computing and copying, and what cannot hide behind either.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sakuga.api.request import StagePlan
from sakuga.memory.activations import FLOAT, Denoising, Segment, gemma_layer, jina_layer, table
from sakuga.memory.cards import Card
from sakuga.memory.vae_cost import decode_flops, decode_peak
from sakuga.model.inventory import Inventory, NetworkWeights, Weight, Weights
from sakuga.model.spec import ModelSpec
from sakuga.weights.formats import FORMATS, StorageFormat, is_block_linear

STAGES = ("gemma", "jina", "denoise", "decode")
ALIGNMENT = 256  # of every tensor in a flat buffer; kernels are chosen by alignment
SLOTS = 2  # on the card, for the blocks that stream: one computes while the next is copied

PAGEABLE_GBS = 6.0  # a copy from pageable memory goes through the driver's own small buffer
LAUNCHES = 60e-6  # seconds of the host for the kernels of one block
TRAFFIC = 60  # times that elementwise kernels move the hidden states of a block, in and out
# Of what comes and goes beside the weights, an allocator that caches leaves so much in holes
# between tensors: measured 0.09 to 0.24 on an H200, and where less is left it frees and maps
# pages at every step, which made one a third slower.
HOLES = 0.22
# Measured while decoding: with whole maps a card needs so many times as long; every strip takes
# the host that many seconds.
WHOLE, STRIP = 1.3, 1e-3


@dataclass(frozen=True, slots=True)
class Work:
    """What of a request decides memory and time.

    `branches`: 2 with guidance, else 1. `evaluations` of the velocity, at `times` different
    times; None if each is at its own. `held`: of each picture, latents that the solver holds
    meanwhile. The token counts have one entry per text that is read, the prompt first.
    """

    width: int
    height: int
    batch: int
    evaluations: int
    branches: int
    gemma_tokens: tuple[int, ...]
    jina_tokens: tuple[int, ...]
    times: int | None = None
    held: int = 6


@dataclass(frozen=True, slots=True)
class PartBytes:
    """The bytes of a network's weights on a card, place by place."""

    blocks: tuple[int, ...]
    rest: int
    passing: tuple[int, ...]

    @property
    def stage(self) -> int:
        """Of all that is there during its stage while every block stays."""
        return sum(self.blocks) + self.rest

    @property
    def total(self) -> int:
        """Of all there is: what passes only once too."""
        return self.stage + sum(self.passing)

    def levels(self) -> tuple[Level, ...]:
        """For every number of blocks that may stay on the card, what that takes."""
        count = len(self.blocks)
        return tuple(self._level(spread(resident, count)) for resident in range(count + 1))

    def _level(self, stay: frozenset[int]) -> Level:
        """What it takes that these blocks stay. Each slot has room for the largest that goes."""
        here = sum(self.blocks[place] for place in stay)
        go = [size for place, size in enumerate(self.blocks) if place not in stay]
        slots = min(SLOTS, len(go)) * max(go, default=0)
        return Level(len(stay), self.rest + here + slots, sum(go))


@dataclass(frozen=True, slots=True)
class Level:
    """`resident` blocks stay, the others stream through slots.

    `held`: bytes of weights on the card, slots included. `streamed`: bytes copied at every
    run through the blocks.
    """

    resident: int
    held: int
    streamed: int


def spread(resident: int, count: int) -> frozenset[int]:
    """Which of `count` blocks stay: as evenly as can be, so that copies find time between."""
    return frozenset(i for i in range(count) if (i + 1) * resident // count > i * resident // count)


def flat_bytes(weights: tuple[Weight, ...], form: StorageFormat, compute: StorageFormat) -> int:
    """Bytes of a flat buffer of these weights: matrices of blocks in `form`, all else computed."""
    return sum(sum(map(_aligned, _pieces(weight, form, compute))) for weight in weights)


def part_bytes(part: NetworkWeights, form: StorageFormat, compute: StorageFormat) -> PartBytes:
    """The bytes of a network on a card that computes in `compute`."""
    return PartBytes(
        tuple(flat_bytes(block, form, compute) for block in part.blocks),
        flat_bytes(part.rest, compute, compute),
        tuple(flat_bytes(group, compute, compute) for group in part.passing),
    )


def stage_dtype(stage: str, dtype: str) -> str:
    """What a stage computes in; only the transformer stays finite in float16."""
    return "float32" if dtype == "float16" and stage != "denoise" else dtype


def with_holes(size: int) -> int:
    """Bytes that an allocator reserves for `size` bytes of tensors that come and go."""
    return size + int(size * HOLES)


def values_of(blocks: tuple[Weights, ...]) -> int:
    """How many numbers the matrices of these blocks hold."""
    return sum(math.prod(w.shape) for block in blocks for w in block if len(w.shape) > 1)


def image_tokens(spec: ModelSpec, work: Work) -> int:
    """Tokens of one picture."""
    side = spec.vae.downscale * spec.transformer.patch_size
    return (work.width // side) * (work.height // side)


def _pieces(weight: Weight, form: StorageFormat, compute: StorageFormat) -> tuple[int, int]:
    """Bytes of values and of scales."""
    if not is_block_linear(weight.key):
        return compute.bytes(weight.shape), 0
    scales = form.scales(weight.shape) * form.scale_bits // 8
    return form.bytes(weight.shape) - scales, scales


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class Costs:
    """Prices the stages of one drawing of one model on one card.

    `dtype`: what the request computes in. `pinned`: bytes of host memory that may be pinned
    for copies, None for as many as are wanted.
    """

    def __init__(
        self, inventory: Inventory, work: Work, card: Card, dtype: str, pinned: int | None = None
    ) -> None:
        self.inventory, self.work, self.card = inventory, work, card
        self.dtype, self.pinned = dtype, pinned
        self._bytes: dict[tuple[str, str], PartBytes] = {}
        self._levels: dict[tuple[str, str], tuple[Level, ...]] = {}

    def part(self, stage: str) -> NetworkWeights:
        """The network that a stage runs."""
        inventory = self.inventory
        return {
            "gemma": inventory.gemma,
            "jina": inventory.jina,
            "denoise": inventory.transformer,
            "decode": inventory.vae,
        }[stage]

    def weights(self, stage: str, form: str) -> PartBytes:
        """The bytes of a stage's network stored in `form`."""
        if (stage, form) not in self._bytes:
            compute = FORMATS[stage_dtype(stage, self.dtype)]
            self._bytes[stage, form] = part_bytes(self.part(stage), FORMATS[form], compute)
        return self._bytes[stage, form]

    def encode(self, stage: str, form: str) -> tuple[StagePlan, ...]:
        """Price a text encoder, with none, one ... all of its layers on the card."""
        spec, compute, size = self.inventory.spec, stage_dtype(stage, self.dtype), self._size(stage)
        if stage == "gemma":
            texts, width = self.work.gemma_tokens, spec.gemma.hidden_size
            beside = gemma_layer(spec.gemma, max(texts), size, self._unfolded(stage, form))
        else:
            texts, width = self.work.jina_tokens, spec.jina.hidden_size
            beside = jina_layer(spec.jina, max(texts), size)
        beside += sum(texts) * width * size + self.card.workspace
        seconds = 2.0 * sum(texts) * values_of(self.part(stage).blocks) / self.card.peak(compute)
        seconds += len(texts) * len(self.part(stage).blocks) * LAUNCHES
        seconds += len(texts) * self._unfolding(stage, form) / (self.card.memory_gbs * 1e9)
        blocks, total = len(self.part(stage).blocks), sum(self.weights(stage, form).blocks)
        return tuple(
            StagePlan(
                stage,
                form,
                compute,
                resident=level.resident,
                streamed=blocks - level.resident,
                peak_bytes=level.held + beside,
                reserved_bytes=level.held + with_holes(beside),
                seconds=self._passes(1, seconds, total, level.streamed),
            )
            for level in self.levels(stage, form)
        )

    def denoise(self, form: str, batches: int, parts: int) -> tuple[StagePlan, ...]:
        """Price the denoising, with none, one ... all of its blocks on the card.

        `batches` groups of pictures, each through all evaluations; within them `parts`
        groups of segments, each through a block in turn.
        """
        weights, blocks = self.weights("denoise", form), len(self.part("denoise").blocks)
        group = -(-self.work.batch // batches)
        last = self.work.batch - group * (batches - 1)
        beside = self._activations(form, group, parts) + self.card.workspace
        beside += self._latents(self.work.batch - last)  # of the groups that are done
        total, passing = sum(weights.blocks), sum(weights.passing)
        runs = [(self._evaluation(form, group, parts), batches - 1)]
        runs += [(self._evaluation(form, last, parts), 1)]
        return tuple(
            StagePlan(
                "denoise",
                form,
                self.dtype,
                resident=level.resident,
                streamed=blocks - level.resident,
                batches=batches,
                parts=parts,
                peak_bytes=level.held + beside,
                reserved_bytes=level.held + with_holes(beside),
                seconds=self._copy(passing)
                + sum(
                    times * self._passes(self.work.evaluations, compute, total, level.streamed)
                    for compute, times in runs
                ),
            )
            for level in self.levels("denoise", form)
        )

    def decode(self, strips: int, recompute: bool) -> StagePlan:
        """Price the decoder: one picture after the other, each in `strips`."""
        spec, work, size = self.inventory.spec.vae, self.work, self._size("decode")
        compute = stage_dtype("decode", self.dtype)
        rest = self.weights("decode", compute).rest
        copied = not self.card.unified  # by cuDNN, into its own layout
        peak = decode_peak(spec, work.width, work.height, size, strips, recompute, copied)
        operations = decode_flops(spec, work.width, work.height, strips, recompute)
        seconds = operations / self.card.convolution_peak(compute)
        if strips > 1:
            seconds += strips * STRIP
        elif not self.card.unified:
            seconds *= WHOLE
        beside = peak + self._latents(work.batch) + self.card.workspace
        return StagePlan(
            "decode",
            compute,
            compute,
            batches=work.batch,
            strips=strips,
            recompute=recompute,
            peak_bytes=rest + beside,
            reserved_bytes=rest + with_holes(beside),
            seconds=self._copy(rest) + work.batch * seconds,
        )

    def levels(self, stage: str, form: str) -> tuple[Level, ...]:
        """What every number of resident blocks takes, for a stage stored in `form`."""
        if (stage, form) not in self._levels:
            self._levels[stage, form] = self.weights(stage, form).levels()
        return self._levels[stage, form]

    def _segments(self, pictures: int) -> tuple[Segment, ...]:
        """The segments of a group of pictures, branch by branch."""
        image = image_tokens(self.inventory.spec, self.work)
        texts = self.work.gemma_tokens[: self.work.branches]
        return tuple(Segment(image, text) for text in texts for _ in range(pictures))

    def _latents(self, pictures: int) -> int:
        """Bytes of the latents of so many pictures."""
        spec, work = self.inventory.spec.vae, self.work
        pixels = work.width * work.height // spec.downscale**2
        return pictures * spec.latent_channels * pixels * FLOAT

    def _activations(self, form: str, pictures: int, parts: int) -> int:
        """Bytes beside the weights while a group of pictures is denoised."""
        spec, size = self.inventory.spec.transformer, self._size("denoise")
        unfolded = self._unfolded("denoise", form)
        segments, held = self._segments(pictures), self.work.held
        run = Denoising(spec, pictures, segments, parts, held, size, unfolded)
        rows = table(spec, self.work.times or self.work.evaluations, self.work.branches, size)
        return run.kept + run.latents + run.working + rows

    def _evaluation(self, form: str, pictures: int, parts: int) -> float:
        """Seconds that one evaluation of `pictures` computes."""
        spec, blocks = self.inventory.spec.transformer, self.part("denoise").blocks
        segments = self._segments(pictures)
        tokens = sum(segment.tokens for segment in segments)
        linear = 2.0 * tokens * values_of(blocks)
        squares = sum(segment.tokens**2 for segment in segments)
        attention = 4.0 * squares * spec.dim * len(blocks)
        moved = TRAFFIC * tokens * spec.dim * self._size("denoise") * len(blocks)
        moved += parts * self._unfolding("denoise", form)
        return (
            linear / self.card.peak(self.dtype)
            + attention / self.card.attention_peak(self.dtype)
            + moved / (self.card.memory_gbs * 1e9)
            + parts * len(blocks) * LAUNCHES
        )

    def _unfolding(self, stage: str, form: str) -> int:
        """Bytes moved within the card where stored matrices are unfolded before use."""
        compute = stage_dtype(stage, self.dtype)
        if form == compute:
            return 0
        full = sum(self.weights(stage, compute).blocks)
        return sum(self.weights(stage, form).blocks) + 2 * full

    def _unfolded(self, stage: str, form: str) -> int:
        """Bytes of the largest matrix while unfolded; of packed values, half the steps too."""
        compute = FORMATS[stage_dtype(stage, self.dtype)]
        if form == compute.name:
            return 0
        matrices = [w for b in self.part(stage).blocks for w in b if is_block_linear(w.key)]
        most = max((math.prod(weight.shape) for weight in matrices), default=0)
        return most * compute.bits // 8 + (most // 2 if FORMATS[form].packed else 0)

    def _passes(self, times: int, compute: float, total: int, streamed: int) -> float:
        """Seconds of `times` runs through all blocks.

        All of them are copied during the first, those that stream during every one. A copy
        hides behind computing but for the first block, and takes its share of the card's
        own bandwidth.
        """
        every, first = self._copy(streamed), self._copy(total)
        if self.card.unified:
            return times * (compute + every)
        share = (times - 1) * streamed / (self.card.memory_gbs * 1e9)
        return max(compute, first) + (times - 1) * max(compute, every) + share

    def _copy(self, size: int) -> float:
        """Seconds to copy `size` bytes from the host."""
        return size / self._link(size)

    def _link(self, size: int) -> float:
        """Bytes per second of copying `size` bytes, of which so many as may be are pinned."""
        fast, slow = self.card.link_gbs * 1e9, min(self.card.link_gbs, PAGEABLE_GBS) * 1e9
        if self.pinned is None or self.pinned >= size:
            return fast
        return size / (self.pinned / fast + (size - self.pinned) / slow)

    def _size(self, stage: str) -> int:
        """Bytes of a value that a stage computes with."""
        return FORMATS[stage_dtype(stage, self.dtype)].bits // 8
