"""One request on its way through the stages of an engine."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor

from sakuga.adapters.fit import Fit
from sakuga.api.engine_spec import Budget
from sakuga.api.events import Event
from sakuga.api.receipt import AdapterRecord, Plan, Receipt, StagePlan
from sakuga.api.resolved import Resolved
from sakuga.engine.texts import TokenizedTexts
from sakuga.memory.costs import Work
from sakuga.memory.device import Device
from sakuga.memory.plan import MemoryPlan, Options
from sakuga.memory.stages import GEMMA, JINA
from sakuga.model.inventory import Inventory
from sakuga.sample.solvers import SOLVERS, evaluation_times, find_solver

T = TypeVar("T")
Events: TypeAlias = Generator[Event, None, T]  # what happens meanwhile, and what it returns
Observer = Callable[..., None]  # told (place, *tensors): a stage that begins, what leaves one


@dataclass(slots=True)
class Run:
    """One request: what it reads, its time grid, what it asks of the device, how it goes.

    `began`: when, as time.perf_counter counts. `fits`, `adapters`: what changes the transformer,
    as modules and as a receipt tells it. `weights`: SHA-256 by component. `inventory`: with the
    adapters. `options`: what its plans may choose. `stages`: how each is run, as planned and then
    as it was. `observers` are told of every place that a drawing passes. `notes`: what went
    otherwise, a sentence each.
    """

    began: float
    request: Resolved
    texts: TokenizedTexts
    times: tuple[float, ...]
    fits: tuple[Fit, ...]
    adapters: tuple[AdapterRecord, ...]
    weights: Mapping[str, str]
    inventory: Inventory
    work: Work
    options: Options
    plan: MemoryPlan
    stages: dict[str, StagePlan]
    observers: tuple[Observer, ...] = ()
    notes: list[str] = field(default_factory=list)

    def observe(self, place: str, *tensors: Tensor) -> None:
        """Tell all observers of a place, and what is there."""
        for observer in self.observers:
            observer(place, *tensors)


def work_of(request: Resolved, times: Sequence[float], texts: TokenizedTexts) -> Work:
    """How much a request asks of a device. times: the grid of the solver."""
    lengths, captions = texts.lengths, texts.captions
    solver = find_solver(request.solver, request.steps)
    return Work(
        request.width,
        request.height,
        request.number,
        evaluations=request.steps * solver.evaluations,
        branches=len(captions),
        gemma_tokens=lengths[GEMMA.name],
        jina_tokens=lengths.get(JINA.name, ()),
        times=len(evaluation_times(times, request.solver)),
        held=solver.held,
        captions=captions,
    )


def plan_options(budget: Budget, dtype: str, device: Device) -> Options:
    """What the plans of a drawing may choose, on a device as it is now."""
    return Options(
        dtype,
        budget.weights,
        allow_lossy=budget.allow_lossy,
        keep_resident=budget.keep_resident,
        pinned=device.pinned,
        in_place=not device.lends,
    )


def receipt_of(run: Run, index: int, model: str, plan: Plan) -> Receipt:
    """How picture `index` of a request was made. plan: as it was run."""
    request = run.request
    return Receipt(
        model=model,
        # Where adapters lie is nobody's business; `adapters` says which files they are, and
        # `texts` what was sent.
        request=replace(request, lora=(), lora_partial=False, sent=()),
        index=index,
        seed=request.seed + index,
        texts=run.texts.sent,
        tokens=run.texts.counts,
        solver=f"{request.solver}: {SOLVERS[request.solver].source}",
        guidance=request.formula,
        plan=plan,
        weights=run.weights,
        versions={"sakuga": version("sakuga"), "torch": torch.__version__},
        notes=tuple(run.notes),
        adapters=run.adapters,
    )
