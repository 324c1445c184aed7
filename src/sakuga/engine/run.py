"""One request on its way through the stages of an engine."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from sakuga.adapters.fit import Fit
from sakuga.api.events import Event
from sakuga.api.receipt import AdapterRecord, Plan, Receipt, StagePlan
from sakuga.api.resolved import Resolved
from sakuga.api.start import Start
from sakuga.engine.texts import TokenizedTexts
from sakuga.memory.costs import Work
from sakuga.memory.plan import MemoryPlan, Options
from sakuga.memory.stages import GEMMA, JINA
from sakuga.model.inventory import Inventory
from sakuga.model.layers import channels_of
from sakuga.sample.solvers import SOLVERS, evaluation_times, find_solver

if TYPE_CHECKING:
    from sakuga.engine.upscaler import Upscaler

T = TypeVar("T")
MASKED = 3  # of each picture: latents that a mask holds, the course of the original and where
# Where files lie is nobody's business.
NOT_KEPT: Mapping[str, Any] = {
    "lora": (), "lora_partial": False, "sent": (), "image": None, "mask": None, "upscale": None,
}  # fmt: skip
Events: TypeAlias = Generator[Event, None, T]  # what happens meanwhile, and what it returns
Observer = Callable[..., None]  # told (place, *tensors): a stage that begins, what leaves one


@dataclass(slots=True)
class Run:
    """One request: what it reads, its time grid, what it asks of the device, how it goes.

    `began`: when, as time.perf_counter counts. `fits`, `adapters`: what changes the transformer,
    as modules and as a receipt tells it. `weights`: SHA-256 by component. `inventory`: with the
    adapters. `options`: what its plans may choose. `stages`: how each is run, as planned and then
    as it was. `start`: the picture it starts from, if there is one. `second`: the pass that
    follows this one, if one does. `upscaler`: what enlarges it, if anything does. `observers`
    are told of every place that a drawing passes. `notes`: what went otherwise, a sentence each.
    `attention`: which back-ends computed it.
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
    start: Start | None = None
    second: Run | None = None
    upscaler: Upscaler | None = None
    observers: tuple[Observer, ...] = ()
    notes: list[str] = field(default_factory=list)
    attention: tuple[str, ...] = ()

    def observe(self, place: str, *tensors: Tensor) -> None:
        """Tell all observers of a place, and what is there."""
        for observer in self.observers:
            observer(place, *tensors)


def work_of(
    request: Resolved,
    times: Sequence[float],
    texts: TokenizedTexts,
    start: Start | None = None,
) -> Work:
    """How much a request asks of a device.

    times: the grid of the solver, as far as it is walked. start: the picture to start from.
    """
    lengths, captions = texts.lengths, texts.captions
    solver, steps = find_solver(request.solver, request.steps), len(times) - 1
    masked = start is not None and start.canvas.alpha is not None
    return Work(
        request.width,
        request.height,
        request.number,
        evaluations=steps * solver.evaluations,
        branches=len(captions),
        gemma_tokens=lengths[GEMMA.name],
        jina_tokens=lengths.get(JINA.name, ()),
        times=len(evaluation_times(times, request.solver)) if steps else 0,
        held=solver.held + MASKED * masked,
        captions=captions,
        regions=channels_of(len(texts.regions)),
        encodes=int(start is not None and (masked or steps < request.steps)),
    )


def receipt_of(run: Run, index: int, model: str, plan: Plan) -> Receipt:
    """How picture `index` of a request was made. plan: as it was run."""
    request = run.request
    return Receipt(
        model=model,
        # Where files lie is nobody's business; `adapters`, `image` ... say which they are,
        # and `texts` what was sent.
        request=replace(request, **NOT_KEPT),
        index=index,
        seed=request.seeds(index).seed,
        texts=run.texts.sent,
        tokens=run.texts.counts,
        solver=f"{request.solver}: {SOLVERS[request.solver].source}",
        guidance=request.formula,
        plan=plan,
        weights=run.weights,
        versions={"sakuga": version("sakuga"), "torch": torch.__version__},
        notes=tuple(run.notes),
        adapters=run.adapters,
        image=run.start.image if run.start else None,
        mask=run.start.mask if run.start else None,
        upscale=run.upscaler.record if run.upscaler else None,
    )
