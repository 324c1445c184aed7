"""Stages of a drawing, planned within the memory there is, and run as planned or as they can be.

A stage is a generator of events that returns what it made. It runs on the device under watch;
where memory runs out all the same, it runs again on the next rung of its plan, and where a
value is not finite, once more in float32.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch

from sakuga.api.request import Event, Plan, Request, StagePlan, Warned
from sakuga.engine.texts import Reading
from sakuga.errors import NonFiniteOutput, OutOfMemory
from sakuga.memory.costs import STAGES, Costs, Work
from sakuga.memory.device import Home, card_of, chip
from sakuga.memory.plan import MemoryPlan, Options, make_plan, rungs, smallest_limit
from sakuga.model.inventory import Inventory
from sakuga.printable import readable
from sakuga.sample.solvers import evaluation_times, find_solver, grid

T = TypeVar("T")
Stage = Generator[Event, None, T]
# The words of torch's allocators, of the driver, and of libraries that had no room to begin.
FULL = re.compile(
    "out of memory|can't allocate memory|ALLOC_FAILED|CUBLAS_STATUS_NOT_INITIALIZED"
    "|unable to find an engine", re.IGNORECASE,
)  # fmt: skip


class NotFinite(Exception):
    """A place where a value was not finite."""


@dataclass(slots=True)
class Drawing:
    """One request on its way: what it reads, its time grid, what it asks of the device.

    `stages`: how each is run, as planned and then as it was. `notes`: what went otherwise.
    """

    request: Request
    reading: Reading
    times: tuple[float, ...]
    work: Work
    plan: MemoryPlan
    stages: dict[str, StagePlan]
    notes: list[str] = field(default_factory=list)


class Stages:
    """Plans the stages of drawings on one device, and runs each.

    `learned`: bytes that a stage was planned for and turned out not to get; its later plans
    stay below, for as long as this object lives.
    """

    def __init__(self, inventory: Inventory, home: Home, options: Options) -> None:
        self.inventory, self.home, self.options = inventory, home, options
        self.card = card_of(home.device)
        self.learned: dict[str, int] = {}

    def plan(self, request: Request, reading: Reading) -> Drawing:
        """How a resolved request will be run. Raises BudgetTooSmall."""
        times = grid(request.steps, request.solver, request.schedule, request.shift)
        work = work_of(request, reading, times)
        plan = self._plan(work, self.options)
        return Drawing(request, reading, times, work, plan, {one.stage: one for one in plan.stages})

    def _plan(self, work: Work, options: Options, stages: Sequence[str] = STAGES) -> MemoryPlan:
        below = {stage: reserved - 1 for stage, reserved in self.learned.items()}
        options = replace(options, most=below)
        return make_plan(self.inventory, self.home.limit, work, self.card, options, stages)

    def told(self, drawing: Drawing) -> Plan:
        """The plan as a receipt tells it."""
        on_card = self.home.on_card
        return Plan(
            device=str(self.home.device),
            chip=chip(self.home.device),
            dtype=self.options.dtype,
            batch=-(-drawing.request.number // drawing.stages["denoise"].batches),
            threads=0 if on_card else torch.get_num_threads(),
            limit=self.home.limit,
            kept=drawing.plan.kept,
            pinned=self.options.pinned,
            stages=tuple(drawing.stages.values()),
        )

    def say_learned(self, drawing: Drawing) -> Stage[None]:
        """Say so where a stage starts lower than it would without what was learned."""
        if not self.learned:
            return
        free = make_plan(self.inventory, self.home.limit, drawing.work, self.card, self.options)
        for stage, reserved in self.learned.items():
            planned = drawing.stages[stage]
            if planned != free.stage(stage):
                note = (f"Memory ran out before in {stage}, planned for {readable(reserved)}; now "
                        f"it is planned for {readable(planned.reserved_bytes)}.")
                drawing.notes.append(note)
                yield Warned("learned_limit", note)

    def run(
        self, drawing: Drawing, name: str, work: Callable[[StagePlan], Stage[T]]
    ) -> Stage[T]:
        """Run a stage as planned; where it is not finite, once more in float32.

        work: makes the stage from how it is run. Raises NonFiniteOutput, OutOfMemory.
        """
        dtype = self.options.dtype
        try:
            return (yield from self._laddered(drawing, name, work, self.options))
        except NotFinite as place:
            note = f"NaN or infinity at {place}; once more in float32."
        drawing.notes.append(note)
        yield Warned("non_finite", note)
        self._release(drawing)  # what stays computes in the other dtype
        options = replace(self.options, dtype="float32", keep_resident=False)
        if dtype != "float32":
            drawing.stages[name] = self._plan(drawing.work, options, (name,)).stage(name)
        try:
            return (yield from self._laddered(drawing, name, work, options))
        except NotFinite as place:
            raise NonFiniteOutput(
                "every value that leaves a stage must be finite",
                f"NaN or infinity at {place}, in float32 too",
                "Check the weights with another prompt, or lower the guidance.",
            ) from None

    def _laddered(
        self, drawing: Drawing, name: str, work: Callable[[StagePlan], Stage[T]],
        options: Options,
    ) -> Stage[T]:  # fmt: skip
        """Run a stage; each time memory runs out, on the next rung of its plan."""
        for how in self._ladder(drawing, name, options):
            drawing.stages[name] = how
            self.home.begin(name)
            try:
                return (yield from self._watched(work(how)))
            except RuntimeError as error:
                # Only the CUDA allocator has a class of its own for this; the CPU's and the
                # driver's words are all there is to go by.
                if not FULL.search(str(error)):
                    raise
                said = str(error).splitlines()[0]
            # Outside the handler, so that no frame of the failed stage keeps its tensors alive.
            self._release(drawing)
            planned = how.reserved_bytes
            self.learned[name] = min(self.learned.get(name, planned), planned)
            note = f"Out of memory in {name}, planned for {readable(planned)}: {said[:200]}"
            drawing.notes.append(note)
            yield Warned("out_of_memory", note)
        raise OutOfMemory(
            f"every stage of a drawing must fit in memory, and {name!r} needs a budget of at least "
            f"{readable(smallest_limit(how.reserved_bytes))}",
            said,
            "Ask for a smaller size or fewer pictures at once, or close other programs.",
        )

    def _ladder(self, drawing: Drawing, name: str, options: Options) -> Iterator[StagePlan]:
        """The way a stage is planned, then every cheaper one, each taking less than the last."""
        yield (first := drawing.stages[name])
        costs = Costs(self.inventory, drawing.work, self.card, options.dtype, options.pinned)
        for rung in rungs(name, costs, options):
            if rung.reserved_bytes < first.reserved_bytes:
                yield rung

    def _release(self, drawing: Drawing) -> None:
        """From here on, each stage of a drawing is lent its network alone."""
        self.home.release()
        drawing.plan = replace(drawing.plan, kept=False)

    def _watched(self, stage: Stage[T]) -> Stage[T]:
        """Let what a stage computes count, and nothing of what a consumer does meanwhile."""
        with contextlib.closing(stage):
            while True:
                with self.home.watch():
                    try:
                        event = next(stage)
                    except StopIteration as end:
                        return end.value
                yield event


def work_of(request: Request, reading: Reading, times: Sequence[float]) -> Work:
    """What of a resolved request decides memory and time."""
    width, height = request.size
    counts = {name: tuple(map(len, ids)) for name, ids in reading.ids.items()}
    solver = find_solver(request.solver, request.steps)
    return Work(
        width, height, request.number, request.steps * solver.evaluations,
        len(counts["gemma"]), counts["gemma"], counts["jina"],
        times=len(evaluation_times(times, request.solver)), held=solver.held,
    )  # fmt: skip
