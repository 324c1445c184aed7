"""The bytes of a network's weights on a card: block by block, and what stays of them."""

from __future__ import annotations

from dataclasses import dataclass

from sakuga.model.inventory import NetworkWeights, Weight
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


def _pieces(weight: Weight, form: StorageFormat, compute: StorageFormat) -> tuple[int, int]:
    """Bytes of values and of scales."""
    if not is_block_linear(weight.key):
        return compute.bytes(weight.shape), 0
    scales = form.scales(weight.shape) * form.scale_bits // 8
    return form.bytes(weight.shape) - scales, scales


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
