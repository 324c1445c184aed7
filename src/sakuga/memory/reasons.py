"""Why a plan is as it is: for every lever, what would be so without it, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sakuga.api.receipt import StagePlan
from sakuga.printable import duration, readable


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a lever was pulled for a stage, or was not."""

    stage: str
    lever: str
    pulled: bool
    why: str


@dataclass(frozen=True, slots=True)
class Lever:
    """A way to save memory: whether a plan pulls it, and how that reads."""

    name: str
    pulled: Callable[[StagePlan], bool]
    done: Callable[[StagePlan], str]
    undone: Callable[[StagePlan], str]


STREAM = Lever(
    "stream",
    lambda plan: plan.streamed > 0,
    lambda plan: f"{plan.streamed} of {plan.resident + plan.streamed} blocks stream",
    lambda plan: "every block stays",
)
PARTS = Lever(
    "parts",
    lambda plan: plan.parts > 1,
    lambda plan: f"segments pass each block in {plan.parts} parts",
    lambda plan: "all segments pass a block at once",
)
STRIPS = Lever(
    "strips",
    lambda plan: plan.strips > 1,
    lambda plan: f"pictures are {plan.stage}d in {plan.strips} strips",
    lambda plan: f"pictures are {plan.stage}d whole",
)
RECOMPUTE = Lever(
    "recompute",
    lambda plan: plan.recompute,
    lambda plan: "strips are computed twice, not stored",
    lambda plan: "nothing is computed twice",
)
BATCHES = Lever(
    "batches",
    lambda plan: plan.batches > 1,
    lambda plan: f"pictures are denoised in {plan.batches} groups",
    lambda plan: "all pictures are denoised together",
)
# The format a network computes in counts as no lever.
FORMAT = Lever(
    "format",
    lambda plan: plan.weights != plan.dtype,
    lambda plan: f"weights lie on the card as {plan.weights}",
    lambda plan: f"weights lie there as {plan.dtype}",
)


def reasons_for(
    plan: StagePlan, levers: Sequence[Lever], choices: Sequence[StagePlan], room: int | None
) -> Iterator[Reason]:
    """The reasons of one stage, cheapest lever first, for the levers that can be moved.

    `choices`: all ways to run the stage. `room`: bytes it may fill, None for no limit.
    """
    for lever in levers:
        pulled = lever.pulled(plan)
        others = [one for one in choices if lever.pulled(one) != pulled]
        if others:
            yield _reason(lever, plan, others, room)


def _reason(lever: Lever, plan: StagePlan, others: Sequence[StagePlan], room: int | None) -> Reason:
    """Why not one of `others`, which differ in this lever."""
    pulled = lever.pulled(plan)
    fitting = [one for one in others if room is None or one.reserved_bytes <= room]
    told = lever.done(plan) if pulled else lever.undone(plan)
    if fitting:
        rival = min(fitting, key=lambda one: (one.seconds, one.reserved_bytes))
        why = _comparison(plan, rival, pulled)
    else:
        least = min(one.reserved_bytes for one in others)
        why = f"otherwise it needs {readable(least)} or more, of {readable(room or 0)} usable"
    return Reason(plan.stage, lever.name, pulled, f"{told}: {why}")


def _comparison(plan: StagePlan, rival: StagePlan, pulled: bool) -> str:
    """What the best plan that differs in one lever would give."""
    theirs, ours = duration(rival.seconds), duration(plan.seconds)
    if rival.seconds > plan.seconds and theirs != ours:
        return f"otherwise it takes {theirs} instead of {ours}"
    if not pulled:
        return "there is room"
    taken = f"{readable(rival.reserved_bytes)} instead of {readable(plan.reserved_bytes)}"
    return f"otherwise no faster, and {taken}"
