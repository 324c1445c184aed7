"""Runs the stages of a drawing as they were planned, or as memory and numbers allow.

Where memory runs out all the same, a stage runs again on the next rung of its plan, and where
a value is not finite, once more in float32.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from sakuga.api.events import Warned
from sakuga.api.receipt import Plan, StagePlan
from sakuga.engine.run import Events, Run
from sakuga.errors import NonFiniteOutput, OutOfMemory
from sakuga.memory.costs import Work
from sakuga.memory.device import FULL, Device, card_of, chip
from sakuga.memory.plan import MemoryPlan, Options, Priced, make_plan, smallest_limit
from sakuga.memory.report import BEGIN
from sakuga.memory.stages import DENOISE, Stage
from sakuga.model.inventory import Inventory
from sakuga.model.layers import TORCH
from sakuga.printable import readable

I = TypeVar("I")  # noqa: E741  # what the host prepares for a stage
T = TypeVar("T")  # what a stage makes

FORGET_AFTER = 16  # good runs of a stage: a stranger's program may have been in the way


class NotFinite(Exception):
    """A place where a value was not finite."""


def check_finite(run: Run, place: str, *tensors: Tensor) -> None:
    """Tell the observers of what leaves a stage; raises NotFinite if any value is not."""
    run.observe(place, *tensors)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise NotFinite(place)


class Runner:
    """Plans the stages of drawings on one device, and runs each."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.card = card_of(device.where)
        self.learned = LearnedLimits()

    def plan(
        self, inventory: Inventory, work: Work, options: Options,
        stages: Sequence[Stage] | None = None,
    ) -> MemoryPlan:  # fmt: skip
        """The fastest way within the budget, below what was learned. Raises BudgetTooSmall."""
        below = replace(options, most=self.learned.most)
        return make_plan(inventory, self.device.limit, work, self.card, below, stages)

    def record(self, run: Run) -> Plan:
        """The plan as a receipt keeps it."""
        on_card, denoised = self.device.on_card, run.stages.get(DENOISE.name)
        return Plan(
            device=str(self.device.where),
            chip=chip(self.device.where),
            dtype=run.options.dtype,
            batch=-(-run.request.number // denoised.batches) if denoised else 1,
            threads=0 if on_card else self.device.threads or torch.get_num_threads(),
            limit=self.device.limit,
            kept=run.plan.kept,
            pinned=run.options.pinned,
            stages=tuple(run.stages.values()),
            kernels="triton" if self.card.fused else "torch",
            attention=", ".join(run.attention)
            or (self.device.attention.asked if on_card else TORCH),
            second=tuple(run.second.stages.values()) if run.second else (),
        )

    def say_learned(self, run: Run) -> Events[None]:
        """Say so where a stage starts lower than it would without what was learned."""
        if not self.learned.refused:
            return
        free = make_plan(run.inventory, self.device.limit, run.work, self.card, run.options)
        for name, refused in self.learned.refused.items():
            planned = run.stages.get(name)
            if planned and planned != free.stage(name):
                note = (
                    f"Memory ran out before in {name}, planned for {readable(refused)}; now "
                    f"it is planned for {readable(planned.reserved_bytes)}."
                )
                run.notes.append(note)
                yield Warned("learned_limit", note)

    def run(
        self,
        run: Run,
        stage: Stage,
        prepare: Callable[[StagePlan], I],
        body: Callable[[I, Device], Events[T]],
    ) -> Events[T]:
        """Run a stage as planned; where it is not finite, once more in float32.

        prepare: what the host does, from how the stage is run. body: what the device then does.
        Raises NonFiniteOutput, OutOfMemory.
        """

        def attempt(how: StagePlan) -> Events[T]:
            return (yield from self._watched(body(prepare(how), self.device)))

        try:
            return (yield from self._laddered(run, stage, attempt, run.options))
        except NotFinite as place:
            note = f"NaN or infinity at {place}; once more in float32."
        run.notes.append(note)
        yield Warned("non_finite", note)
        self.release(run)  # what stays computes in the other dtype
        options = replace(run.options, dtype="float32", keep_resident=False)
        if run.options.dtype != "float32":
            again = self.plan(run.inventory, run.work, options, (stage,))
            run.stages[stage.name] = again.stage(stage.name)
        try:
            return (yield from self._laddered(run, stage, attempt, options))
        except NotFinite as place:
            raise NonFiniteOutput(
                "every value that leaves a stage must be finite",
                f"NaN or infinity at {place}, in float32 too",
                "Look for it in the weights: sakuga doctor MODEL --scan.",
            ) from None

    def _laddered(
        self, run: Run, stage: Stage, attempt: Callable[[StagePlan], Events[T]], options: Options
    ) -> Events[T]:
        """Run a stage; each time memory runs out, on the next rung of its plan."""
        name = stage.name
        for how in self._ladder(run, stage, options):
            run.stages[name] = how
            self.device.tidy()
            run.observe(BEGIN + name)
            try:
                made = yield from attempt(how)
            except RuntimeError as error:
                # Only the CUDA allocator has a class of its own for this; the CPU's and the
                # driver's words are all there is to go by.
                if not FULL.search(str(error)):
                    raise
                said = str(error).splitlines()[0]
            else:
                self.learned.went_well(name)
                return made
            # Outside the handler, so that no frame of the failed stage keeps its tensors alive.
            self.release(run)
            self.learned.learn(name, how.reserved_bytes)
            planned = readable(how.reserved_bytes)
            note = f"Out of memory in {name}, planned for {planned}: {said[:200]}"
            run.notes.append(note)
            yield Warned("out_of_memory", note)
        raise OutOfMemory(
            f"every stage of a drawing must fit in memory, and {name!r} needs a budget of at least "
            f"{readable(smallest_limit(how.reserved_bytes))}",
            said,
            "Ask for a smaller size or fewer pictures at once, or close other programs.",
        )

    def _ladder(self, run: Run, stage: Stage, options: Options) -> Iterator[StagePlan]:
        """The way a stage is planned, then every cheaper one, each taking less than the last."""
        yield (first := run.stages[stage.name])
        for rung in Priced.of(stage, run.inventory, run.work, self.card, options).rungs:
            if rung.reserved_bytes < first.reserved_bytes:
                yield rung

    def release(self, run: Run) -> None:
        """From here on, each stage of a drawing is lent its network alone."""
        self.device.kept.release()
        run.plan = replace(run.plan, kept=False)

    def _watched(self, stage: Events[T]) -> Events[T]:
        """Let what a stage computes count, and nothing of what a consumer does meanwhile."""
        with contextlib.closing(stage):
            while True:
                with self.device.watch():
                    try:
                        event = next(stage)
                    except StopIteration as end:
                        made: T = end.value
                        return made
                yield event


class LearnedLimits:
    """Bytes that stages were planned for and did not get; their next plans stay below.

    A stage that then runs well `forget_after` times is planned freely again.
    """

    def __init__(self, forget_after: int = FORGET_AFTER) -> None:
        self.forget_after = forget_after
        self.refused: dict[str, int] = {}
        self._left: dict[str, int] = {}

    def learn(self, stage: str, planned: int) -> None:
        """A stage that was planned for so many bytes did not get them."""
        self.refused[stage] = min(self.refused.get(stage, planned), planned)
        self._left[stage] = self.forget_after

    def went_well(self, stage: str) -> None:
        """A stage ran as it was planned."""
        if stage not in self.refused:
            return
        self._left[stage] -= 1
        if self._left[stage] == 0:
            del self.refused[stage], self._left[stage]

    @property
    def most(self) -> Mapping[str, int]:
        """By stage, the bytes that it should stay within."""
        return {stage: planned - 1 for stage, planned in self.refused.items()}
