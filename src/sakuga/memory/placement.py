"""The bytes of a network's weights on a card: block by block, and what stays of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from sakuga.model.inventory import NetworkWeights, Shape, Weight
from sakuga.weights.formats import StorageFormat, is_block_linear

ALIGNMENT = 256  # of every tensor in a flat buffer; kernels are chosen by alignment
SLOTS = 2  # on the card, for the blocks that stream: one computes while the next is copied


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
