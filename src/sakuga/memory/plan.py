"""The fastest way to draw within a budget: pure arithmetic, no network is opened.

Encoding, denoising and decoding run one after the other, so the peak of a drawing is that
of its worst stage, and each stage may be planned by itself. All ways to run a stage are
priced; those that nothing beats in both memory and time are its rungs. A plan takes the
fastest rung of each stage that fits. It follows that a plan never passes its budget, that
more memory never makes it slower, and that the same question has the same answer. Formats
that round the weights, where they are allowed, come after everything that does not: there
more memory may buy exactness instead of time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sakuga.api.engine_spec import Budget
from sakuga.api.receipt import StagePlan
from sakuga.errors import BudgetTooSmall, RequestError
from sakuga.memory.cards import Card
from sakuga.memory.costs import Costs, Work
from sakuga.memory.reasons import Reason, reasons_for
from sakuga.memory.stages import Stage, stages_of
from sakuga.model.inventory import Inventory, NetworkWeights
from sakuga.printable import readable
from sakuga.weights.formats import FORMATS, choose_format, is_block_linear

RESERVE = 32 * 2**20  # kept below a limit besides 3% of it: an allocator rounds sizes up
UNITS = {
    "": 1, "b": 1, "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9,
    "t": 10**12, "tb": 10**12, "ki": 2**10, "kib": 2**10, "mi": 2**20, "mib": 2**20,
    "gi": 2**30, "gib": 2**30, "ti": 2**40, "tib": 2**40,
}  # fmt: skip
FEW = 10**5  # a number below this is of gigabytes or megabytes, and lacks its unit
LOSSY = ("int8", "int4")  # float8_e4m3 is as large as int8, and not nearer
Rooms = Mapping[str, int | None]
Stages = tuple[StagePlan, ...]
Order = tuple[int, float, int, int, int, str]


@dataclass(frozen=True, slots=True)
class Options:
    """What a plan may choose.

    `dtype`: what the request computes in. `weights`: the storage format of the transformer
    and Gemma, or "auto". `allow_lossy`: "auto" may choose one that rounds the weights.
    `keep_resident`: hold all networks on the card from stage to stage if there is room.
    `pinned`: bytes of host memory that may be pinned, None for as many as are wanted.
    `in_place`: weights are used where they lie, so that no block can stream. `most`: by stage,
    bytes that it should stay within if it can, because more was seen not to be there.
    """

    dtype: str = "bfloat16"
    weights: str = "auto"
    allow_lossy: bool = False
    keep_resident: bool = False
    pinned: int | None = None
    in_place: bool = False
    most: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, budget: Budget, dtype: str, pinned: int | None, in_place: bool = False) -> Options:
        """What a budget leaves open. pinned: its bytes, once `auto` is known."""
        return cls(
            dtype, budget.weights, allow_lossy=budget.allow_lossy,
            keep_resident=budget.keep_resident, pinned=pinned, in_place=in_place,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How a drawing is run: its stages in order, and why so.

    `limit`: bytes the allocator may reserve, None for no limit. `kept`: whether every
    network stays on the card from stage to stage.
    """

    stages: tuple[StagePlan, ...]
    reasons: tuple[Reason, ...]
    limit: int | None
    kept: bool

    def stage(self, name: str) -> StagePlan:
        """The plan of one stage."""
        (found,) = (stage for stage in self.stages if stage.stage == name)
        return found

    @property
    def peak_bytes(self) -> int:
        """The most that is allocated at once."""
        return max(stage.peak_bytes for stage in self.stages)

    @property
    def reserved_bytes(self) -> int:
        """The most that is reserved at once: what is allocated, and the holes between."""
        return max(stage.reserved_bytes for stage in self.stages)

    @property
    def seconds(self) -> float:
        """From the first text to the last pixel."""
        return sum(stage.seconds for stage in self.stages)


def parse_bytes(text: str) -> int:
    """Bytes as people write them: "8GB", "8G" are 8·10^9, "7.5GiB" is 7.5·2^30, a number bytes.

    Raises RequestError on anything else, and on a few bytes, which nobody means.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if not match or match[2] not in UNITS:
        raise RequestError(
            "an amount of memory is a number and a unit", repr(text),
            "Write 8GB (10^9 bytes each), 7.5GiB (2^30), 900MB, or plain bytes.",
        )  # fmt: skip
    number = float(match[1])
    if 0 < number < FEW and not match[2]:
        unit = "GB" if number < 200 else "MB"
        raise RequestError(
            "an amount of memory has a unit", f"{match[1]} bytes", f"Did you mean {match[1]}{unit}?"
        )
    return int(number * UNITS[match[2]])


def usable(limit: int) -> int:
    """What a plan may fill of a limit."""
    return limit * 97 // 100 - RESERVE


def smallest_limit(reserved: int) -> int:
    """The smallest limit whose usable part holds `reserved` bytes."""
    return -(-(reserved + RESERVE) * 100 // 97)


def make_plan(
    inventory: Inventory,
    limit: int | None,
    work: Work,
    card: Card,
    options: Options,
    stages: Sequence[Stage] | None = None,
) -> MemoryPlan:
    """The fastest plan whose every stage stays within the usable part of `limit`, if any.

    stages: by default all that the drawing has.

    Raises BudgetTooSmall where there is none, naming the smallest limit that has one, and
    RequestError for a storage format that nobody knows.
    """
    stages = stages_of(inventory, work) if stages is None else stages
    asked = [Priced.of(stage, inventory, work, card, options) for stage in stages]
    rooms = _rooms(asked, limit, options.most)
    chosen = _best(asked, rooms)
    if chosen is None:
        raise _too_small(asked, limit or 0)
    kept = _kept(asked, rooms, chosen) if options.keep_resident else None
    reasons = [_release(asked, chosen, options, kept is not None)]
    for priced, plan in zip(asked, kept or chosen, strict=True):
        room = rooms[priced.stage.name]
        reasons.extend(reasons_for(plan, priced.stage.levers, priced.choices, room))
    return MemoryPlan(kept or chosen, tuple(reasons), limit, kept is not None)


@dataclass(frozen=True, slots=True)
class Priced:
    """A stage with every way to run it, and how those are ranked."""

    stage: Stage
    costs: Costs
    choices: tuple[StagePlan, ...]
    rank: Callable[[StagePlan], Order]

    @classmethod
    def of(
        cls, stage: Stage, inventory: Inventory, work: Work, card: Card, options: Options
    ) -> Priced:
        """Price a stage of a drawing."""
        costs = stage.costs(inventory, work, card, options.dtype, options.pinned)
        loss = formats(stage, costs.network, options)
        choices = stage.ways(costs, loss)
        allowed = tuple(plan for plan in choices if not (options.in_place and plan.streamed))
        return cls(stage, costs, allowed, _ranking(loss))

    @property
    def rungs(self) -> tuple[StagePlan, ...]:
        """All ways to run it that nothing beats in memory, time and what is lost, best first.

        What they reserve descends from the fastest to the least memory there is, while seconds
        rise. Where formats that lose something are allowed, theirs follow, fastest first again.
        """
        front: list[StagePlan] = []
        for plan in sorted(self.choices, key=self.rank):
            if not front or plan.reserved_bytes < front[-1].reserved_bytes:
                front.append(plan)
        return tuple(front)

    @property
    def least(self) -> int:
        """The fewest bytes that any way reserves."""
        return min(plan.reserved_bytes for plan in self.choices)

    def best(self, room: int | None) -> StagePlan | None:
        """The best way that reserves at most `room` bytes; None where there is none."""
        fitting = [one for one in self.choices if room is None or one.reserved_bytes <= room]
        return min(fitting, key=self.rank, default=None)


def formats(stage: Stage, network: NetworkWeights, options: Options) -> dict[str, int]:
    """The storage formats a stage may use, and how much each loses: 0 is nothing.

    A file's own format loses nothing, whatever it is, and one that was asked for is what is
    wanted.
    """
    compute = stage.compute(options.dtype)
    if not stage.storage:
        return {compute: 0}
    if options.weights != "auto":
        half = options.weights == "float16" and not stage.half  # which it never meets
        name = "bfloat16" if half else options.weights
        return {choose_format(name, stage.component.name).name: 0}
    found = {compute: 0}
    own = {w.stored for block in network.blocks for w in block if is_block_linear(w.key)}
    if len(own) == 1:
        found |= {form.name: 0 for form in own if form.bits < FORMATS[compute].bits}
    if options.allow_lossy:
        found = {form: loss for loss, form in enumerate(LOSSY, start=1)} | found
    return found


def _ranking(loss: Mapping[str, int]) -> Callable[[StagePlan], Order]:
    """How the ways to run a stage are ranked: what loses nothing first, then by time.

    Then small before large; the rest makes the choice unique.
    """
    return lambda plan: (
        loss.get(plan.weights, 0), plan.seconds, plan.reserved_bytes, plan.batches, plan.parts,
        plan.weights,
    )  # fmt: skip


def _rooms(asked: Sequence[Priced], limit: int | None, most: Mapping[str, int]) -> Rooms:
    """Bytes each stage may fill: what is usable of the limit; no more than `most` if it can."""
    rooms: dict[str, int | None] = {}
    for priced in asked:
        name = priced.stage.name
        found = [] if limit is None else [usable(limit)]
        if name in most:
            found.append(max(most[name], priced.least))
        rooms[name] = min(found, default=None)
    return rooms


def _best(asked: Sequence[Priced], rooms: Rooms) -> Stages | None:
    """The best choice of every stage that has room, or None where a stage has none."""
    chosen = [priced.best(rooms[priced.stage.name]) for priced in asked]
    found = tuple(plan for plan in chosen if plan is not None)
    return found if len(found) == len(chosen) else None


def _kept(asked: Sequence[Priced], rooms: Rooms, alone: Stages) -> Stages | None:
    """The plan that holds all networks at once, unless it does not fit or is slower."""
    held = sum(_held(asked, alone).values())
    whole = [
        replace(priced, choices=tuple(
            replace(
                one,
                peak_bytes=one.peak_bytes + others,
                reserved_bytes=one.reserved_bytes + others,
            )
            for one in priced.choices
            if not one.streamed and one.weights == plan.weights
        ))
        for priced, plan in zip(asked, alone, strict=True)
        for others in [held - priced.costs.weights(plan.weights).stage]
    ]  # fmt: skip
    kept = _best(whole, rooms)
    return kept if kept and _seconds(kept) <= _seconds(alone) else None


def _held(asked: Sequence[Priced], stages: Stages) -> dict[str, int]:
    """Bytes of each network if all of it stays on the card; stages share no weights."""
    found: dict[str, int] = {}
    for priced, plan in zip(asked, stages, strict=True):
        name = priced.stage.component.name
        found[name] = found.get(name, 0) + priced.costs.weights(plan.weights).total
    return found


def _release(asked: Sequence[Priced], stages: Stages, options: Options, kept: bool) -> Reason:
    """Why networks leave the card after their stage, or stay."""
    together = readable(sum(_held(asked, stages).values()))
    if kept:
        why = f"every network stays: there is room for all {together}, as asked"
    elif options.keep_resident:
        why = f"each network leaves after its stage: all {together} have no room at once"
    else:
        why = f"each network leaves after its stage, so that never all {together} are there"
    return Reason("all", "release", not kept, why)


def _seconds(stages: Iterable[StagePlan]) -> float:
    return sum(stage.seconds for stage in stages)


def _too_small(asked: Sequence[Priced], limit: int) -> BudgetTooSmall:
    """The error that names the smallest budget, and the stage that needs it."""
    largest = max(asked, key=lambda priced: priced.least)
    stage, reserved = largest.stage.name, largest.least
    smallest = smallest_limit(reserved)
    enough = -(-smallest // 10**6)
    return BudgetTooSmall(
        f"this drawing needs a budget of at least {enough}MB, for its stage {stage!r}",
        readable(limit),
        "Give it that much, or ask for a smaller size or fewer pictures at once.",
        smallest,
    )
