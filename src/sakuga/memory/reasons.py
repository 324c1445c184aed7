"""Why a plan is as it is: for every lever, what would be so without it, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sakuga.api.request import StagePlan
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
    """A way to save memory: where it is of use, whether a plan pulls it, and how that reads."""

    name: str
    stages: tuple[str, ...]
    pulled: Callable[[StagePlan], bool]
    done: Callable[[StagePlan], str]
    undone: str


LEVERS = (
    Lever("stream", ("gemma", "jina", "denoise"), lambda plan: plan.streamed > 0,
          lambda plan: f"{plan.streamed} of {plan.resident + plan.streamed} blocks stream",
          "every block stays"),
    Lever("parts", ("denoise",), lambda plan: plan.parts > 1,
          lambda plan: f"segments pass each block in {plan.parts} parts",
          "all segments pass a block at once"),
    Lever("strips", ("decode",), lambda plan: plan.strips > 1,
          lambda plan: f"pictures are decoded in {plan.strips} strips",
          "pictures are decoded whole"),
    Lever("recompute", ("decode",), lambda plan: plan.recompute,
          lambda plan: "strips are computed twice, not stored", "nothing is computed twice"),
    Lever("batches", ("denoise",), lambda plan: plan.batches > 1,
          lambda plan: f"pictures are denoised in {plan.batches} groups",
          "all pictures are denoised together"),
)  # fmt: skip


def explain(
    plan: StagePlan, choices: Sequence[StagePlan], compute: str, room: int | None
) -> Iterator[Reason]:
    """The reasons of one stage, cheapest lever first, for the levers that can be moved.

    `choices`: all ways to run the stage. `compute`: the format it computes in, which counts
    as no lever. `room`: bytes it may fill, None for no limit.
    """
    storage = Lever(
        "format", ("gemma", "denoise"), lambda one: one.weights != compute,
        lambda one: f"weights lie on the card as {one.weights}", f"weights lie there as {compute}",
    )  # fmt: skip
    for lever in (*LEVERS, storage):
        others = [one for one in choices if lever.pulled(one) != lever.pulled(plan)]
        if plan.stage in lever.stages and others:
            yield _reason(lever, plan, others, room)


def _reason(lever: Lever, plan: StagePlan, others: Sequence[StagePlan], room: int | None) -> Reason:
    """Why not one of `others`, which differ in this lever."""
    pulled = lever.pulled(plan)
    fitting = [one for one in others if room is None or one.reserved_bytes <= room]
    told = lever.done(plan) if pulled else lever.undone
    if fitting:
        rival = min(fitting, key=lambda one: (one.seconds, one.reserved_bytes))
        why = _comparison(plan, rival, pulled)
    else:
        least = min(one.reserved_bytes for one in others)
        why = f"otherwise it would take {readable(least)} or more, of {readable(room or 0)} usable"
    return Reason(plan.stage, lever.name, pulled, f"{told}: {why}")


def _comparison(plan: StagePlan, rival: StagePlan, pulled: bool) -> str:
    """What the best plan that differs in one lever would give."""
    theirs, ours = duration(rival.seconds), duration(plan.seconds)
    if rival.seconds > plan.seconds and theirs != ours:
        return f"otherwise {theirs} instead of {ours}"
    if not pulled:
        return "there is room"
    taken = f"{readable(rival.reserved_bytes)} instead of {readable(plan.reserved_bytes)}"
    return f"otherwise no faster, in {taken}"
