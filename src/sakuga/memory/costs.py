"""What it takes to run one network on one card: bytes of weights, seconds of work and copies.

The bytes are those that torch's allocator counts (`max_memory_allocated`); the seconds are a
roofline: the longer of computing and copying, and what cannot hide behind either. What each
stage of a drawing adds to this is in `price_encode`, `price_denoise` and `price_decode`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

from sakuga.api.resolved import Resolved
from sakuga.memory.activations import FLOAT
from sakuga.memory.cards import Card
from sakuga.model.inventory import NetworkWeights, Weight
from sakuga.model.spec import ModelSpec
from sakuga.weights.formats import FORMATS, Shape, StorageFormat, is_block_linear

ALIGNMENT = 256  # of every tensor in a flat buffer; kernels are chosen by alignment
SLOTS = 2  # on the card, for the blocks that stream: one computes while the next is copied

PAGEABLE_GBS = 6.0  # a copy from pageable memory goes through the driver's own small buffer
LAUNCHES = 60e-6  # seconds of the host for the kernels of one block
# Of what comes and goes beside the weights, an allocator that caches leaves so much in holes
# between tensors: measured 0.09 to 0.24 on an H200, and where less is left it frees and maps
# pages at every step, which made one a third slower.
HOLES = 0.22


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
        return _levels(self)


@dataclass(frozen=True, slots=True)
class Level:
    """`resident` blocks stay, the others stream through slots.

    `held`: bytes of weights on the card, slots included. `streamed`: bytes copied at every
    run through the blocks.
    """

    resident: int
    held: int
    streamed: int


@lru_cache(maxsize=64)
def _levels(network: PartBytes) -> tuple[Level, ...]:
    count = len(network.blocks)
    return tuple(_level(network, spread(resident, count)) for resident in range(count + 1))


def _level(network: PartBytes, stay: frozenset[int]) -> Level:
    """What it takes that these blocks stay. Each slot has room for the largest that goes."""
    here = sum(network.blocks[place] for place in stay)
    go = [size for place, size in enumerate(network.blocks) if place not in stay]
    slots = min(SLOTS, len(go)) * max(go, default=0)
    return Level(len(stay), network.rest + here + slots, sum(go))


def spread(resident: int, count: int) -> frozenset[int]:
    """Which of `count` blocks stay: as evenly as can be, so that copies find time between."""
    return frozenset(i for i in range(count) if (i + 1) * resident // count > i * resident // count)


def flat_bytes(weights: tuple[Weight, ...], form: StorageFormat, compute: StorageFormat) -> int:
    """Bytes of a flat buffer of these weights: matrices of blocks in `form`, all else computed."""
    return sum(
        _tensor_bytes(weight.shape, form if is_block_linear(weight.key) else compute)
        for weight in weights
    )


@lru_cache(maxsize=64)  # of a few networks, planned again and again
def part_bytes(part: NetworkWeights, form: StorageFormat, compute: StorageFormat) -> PartBytes:
    """The bytes of a network on a card that computes in `compute`."""
    return PartBytes(
        tuple(flat_bytes(block, form, compute) for block in part.blocks),
        flat_bytes(part.rest, compute, compute),
        tuple(flat_bytes(group, compute, compute) for group in part.passing),
    )


@lru_cache(maxsize=1024)  # a network has few shapes, each in every block
def _tensor_bytes(shape: Shape, form: StorageFormat) -> int:
    """Bytes of a tensor in `form`: its values, then its scales, each aligned."""
    scales = form.scales(shape) * form.scale_bits // 8
    return _aligned(form.bytes(shape) - scales) + _aligned(scales)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, slots=True)
class Work:
    """What of a request decides memory and time.

    `branches`: 2 with guidance, else 1. `evaluations` of the velocity, at `times` different
    times; None if each is at its own. `held`: of each picture, latents that the solver holds
    meanwhile. The token counts have one entry per text that is read, the prompt first;
    `jina_tokens` has none for a model without. `captions`: tokens of each branch while it is
    denoised, where those are not the first texts that Gemma reads. `encodes`: how many pictures
    to start from are encoded. `regions`: channels that hold characters in their places.
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
    captions: tuple[int, ...] = ()
    encodes: int = 0
    regions: int = 0


def expected_work(
    request: Resolved, spec: ModelSpec, evaluations: int, tokens: int, shorter: int = 1
) -> Work:
    """What a request asks before its texts are read.

    tokens: of the prompt; the negative has one for `shorter` of them.
    """
    branches = 1 + request.guided

    def both(length: int) -> tuple[int, ...]:
        return (length, -(-length // shorter))[:branches]

    pooled = both(min(tokens, spec.jina.max_position_embeddings)) if spec.jina else ()
    return Work(
        request.width, request.height, request.number, evaluations, branches, both(tokens), pooled
    )


class Costs:
    """Prices what one network of a model does in one drawing on one card.

    stage: what it is run for. network: its weights by place. compute: the dtype it computes in.
    pinned: bytes of host memory that may be pinned for copies, None for as many as are wanted.
    """

    def __init__(
        self,
        stage: str,
        spec: ModelSpec,
        network: NetworkWeights,
        work: Work,
        card: Card,
        compute: str,
        pinned: int | None = None,
    ) -> None:
        self.stage, self.spec, self.network = stage, spec, network
        self.work, self.card, self.compute, self.pinned = work, card, compute, pinned
        self._copying: dict[int, float] = {}

    @property
    def size(self) -> int:
        """Bytes of a value that it computes with."""
        return FORMATS[self.compute].bits // 8

    def weights(self, form: str) -> PartBytes:
        """The bytes of the network, the matrices of its blocks stored in `form`."""
        return part_bytes(self.network, FORMATS[form], FORMATS[self.compute])

    def levels(self, form: str) -> tuple[Level, ...]:
        """What every number of resident blocks takes, stored in `form`."""
        return self.weights(form).levels()

    @cached_property
    def values(self) -> int:
        """How many numbers the matrices of the blocks hold."""
        every = (weight for block in self.network.blocks for weight in block)
        return sum(math.prod(weight.shape) for weight in every if len(weight.shape) > 1)

    @cached_property
    def _largest(self) -> int:
        """How many numbers the largest matrix of a block holds."""
        every = (weight for block in self.network.blocks for weight in block)
        matrices = (math.prod(weight.shape) for weight in every if is_block_linear(weight.key))
        return max(matrices, default=0)

    def latents(self, pictures: int) -> int:
        """Bytes of the latents of so many pictures."""
        vae, work = self.spec.vae, self.work
        pixels = work.width * work.height // vae.downscale**2
        return pictures * vae.latent_channels * pixels * FLOAT

    def unfolding(self, form: str) -> int:
        """Bytes moved within the card where stored matrices are unfolded before use."""
        if form == self.compute:
            return 0
        full = sum(self.weights(self.compute).blocks)
        return sum(self.weights(form).blocks) + 2 * full

    def unfolded(self, form: str) -> int:
        """Bytes of the largest matrix while unfolded; of packed values, half the steps too."""
        compute = FORMATS[self.compute]
        if form == compute.name:
            return 0
        most = self._largest
        return most * compute.bits // 8 + (most // 2 if FORMATS[form].packed else 0)

    def passes(self, times: int, compute: float, form: str) -> list[float]:
        """Seconds of `times` runs through all blocks, each of which computes for `compute`.

        One entry for every number of resident blocks. All blocks are copied during the first
        run, those that stream during every one. A copy hides behind computing but for the first
        block, and takes its share of the card's own bandwidth.
        """
        first, bandwidth = self.copying(sum(self.weights(form).blocks)), self.card.memory_gbs * 1e9
        streamed = [level.streamed for level in self.levels(form)]
        every = [self.copying(size) for size in streamed]
        if self.card.unified:
            return [times * (compute + copy) for copy in every]
        longest, rest = max(compute, first), times - 1
        return [
            longest + rest * max(compute, copy) + rest * size / bandwidth
            for copy, size in zip(every, streamed, strict=True)
        ]

    def copying(self, size: int) -> float:
        """Seconds to copy `size` bytes from the host, of which so many as may be are pinned."""
        if size not in self._copying:
            self._copying[size] = self._seconds_to_copy(size)
        return self._copying[size]

    def _seconds_to_copy(self, size: int) -> float:
        fast, slow = self.card.link_gbs * 1e9, min(self.card.link_gbs, PAGEABLE_GBS) * 1e9
        if self.pinned is None or self.pinned >= size:
            return size / fast
        return size / (size / (self.pinned / fast + (size - self.pinned) / slow))


def with_holes(size: int) -> int:
    """Bytes that an allocator reserves for `size` bytes of tensors that come and go."""
    return size + int(size * HOLES)
