"""The main path, from a Request to pictures; the only place where the rooms meet.

    texts -> conditioning -> noise -> velocity, step by step -> latents -> pixels

An engine is four verbs: `open`, `resolve` what was asked, `plan` how to draw it, `run` the
plan. `generate` is the last three in a row. Each stage's body is a file of its own (`encode`,
`denoise`, `decode`), and `runner` runs it so that it fits the memory there is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from torch import Tensor

from sakuga.adapters.fit import (
    Fit,
    fit_adapters,
    record,
    remarks,
    transformer_targets,
    with_adapters,
)
from sakuga.adapters.spec import parse_adapters
from sakuga.api.engine_spec import EngineSpec, as_model
from sakuga.api.events import Event, Finished, Planned, Queued, Result, Warned
from sakuga.api.options import settled
from sakuga.api.request import Request
from sakuga.api.resolved import Resolved, resolve, untrained_size
from sakuga.api.start import Start, load_start
from sakuga.checkpoint.folder import Checkpoint, open_model, read_inventory
from sakuga.engine.ahead import Calls
from sakuga.engine.decode import finished, stored_preview
from sakuga.engine.encode import EmbeddingCache, TextEncoders
from sakuga.engine.networks import Networks
from sakuga.engine.passes import LATENT, MODEL, Passes, among, stages_of_second, work_of_second
from sakuga.engine.run import Events, Observer, Run, receipt_of, work_of
from sakuga.engine.runner import Runner
from sakuga.engine.texts import TokenizedTexts, Tokenizers
from sakuga.engine.upscaler import Upscaler
from sakuga.errors import Busy
from sakuga.memory.attention import AttentionChoice
from sakuga.memory.device import DTYPES, Device, choose_device, choose_dtype
from sakuga.memory.plan import Options
from sakuga.memory.stages import DECODE, DENOISE, stages_of
from sakuga.model.inventory import Inventory
from sakuga.model.text import Conditioning
from sakuga.sample.solvers import grid
from sakuga.weights.digests import DigestCache
from sakuga.weights.sha256 import file_sha256

WHOLE = "The prompt is encoded as one text: it has no <character_1> beside another block."


class Engine(Calls):
    """Draws with one model on one device; an ImageGenerator. Weights load at first use."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: Device,
        spec: EngineSpec,
        observers: tuple[Observer, ...] = (),
        digest: Callable[[Path], str] | None = None,
    ) -> None:
        self.checkpoint, self.device, self.spec = checkpoint, device, spec
        self.model, self.observers = checkpoint.spec, observers
        cache = Path(spec.cache) if spec.cache is not None else None
        self.digest = digest or (DigestCache(cache).of if cache else file_sha256)
        self.dtype = choose_dtype(spec.dtype, device.where)
        device.attention = AttentionChoice(spec.attention, cache)
        device.attention.check(device.where, DTYPES[self.dtype])
        self.networks = Networks(checkpoint, self.dtype, folded=device.lends)
        self.runner = Runner(device)
        self.encoders = TextEncoders(
            self.networks, self.runner, EmbeddingCache(cache) if cache else None, self.digest
        )
        self._previews = stored_preview(checkpoint)
        self._free = threading.Lock()

    @classmethod
    def open(
        cls,
        spec: EngineSpec | str | Path | None = None,
        *,
        observers: tuple[Observer, ...] = (),
        digest: Callable[[Path], str] | None = None,
    ) -> Engine:
        """Open a model by its spec, its name or its folder, the embedded one without.

        Only headers are read.
        observers: told of every place that a drawing passes. digest: how a file is hashed.
        Raises ModelNotFound, WeightsError, RequestError.
        """
        spec = settled(spec if isinstance(spec, EngineSpec) else EngineSpec(as_model(spec)))
        device = Device(choose_device(spec.device), spec.budget, spec.threads)
        engine = cls(open_model(spec), device, spec, observers, digest)
        fitted(engine)
        return engine

    def resolve(self, request: Request | str) -> Resolved:
        """The request in full, as this model draws it. Raises RequestError."""
        return resolve(request, self.model.drawing)

    def plan(self, request: Resolved) -> Run:
        """How a request will be run, with the memory there is now. Nothing is loaded yet.

        Raises PromptRefused, BudgetTooSmall, and as `adapters.fit.fit_adapters`.
        """
        began = time.perf_counter()
        self.device.measure()
        start = (
            None if request.image is None else load_start(request, request.size, self.model.drawing)
        )
        texts = self.tokenizers.read(request)
        run = _planned(self, began, request, texts, start)
        if (second := request.second) is not None:
            run.second = _planned(self, began, second, texts, None, first=run)
        if request.upscale is not None:
            run.upscaler = _upscaler(self, request)
        return run

    def run(self, run: Run) -> Generator[Event, None, None]:
        """Draw what was planned. Raises NonFiniteOutput, OutOfMemory, CorruptFile."""
        plan, name = self.runner.record(run), self.model.name
        yield Planned(run.request, plan, name, run.weights, run.adapters)
        yield from _warnings(self, run)
        self.settle(run)
        texts = list[Conditioning]()
        if DENOISE.name in run.stages:
            texts = yield from self.encoders.read(run)
        passes = Passes(self.networks, self.runner, self._previews)
        made = _in_one_pass if run.second is None else _in_two_passes
        for index, pixels in enumerate((yield from made(passes, run, texts))):
            receipt = receipt_of(run, index, name, self.runner.record(run))
            picture = finished(run, pixels)
            yield Finished(Result(picture, receipt, time.perf_counter() - run.began))

    def generate(self, request: Request | str) -> Generator[Event, None, None]:
        """Draw a request or a text. Close the generator to cancel: the step under way ends.

        All is released then. One request at a time: another waits for as long as the spec says.
        Raises Busy then, RequestError before any work, and what `plan` and `run` raise.
        """
        if not self._free.acquire(blocking=False):
            if self.spec.wait:
                yield Queued(1)
            if not self._free.acquire(timeout=self.spec.wait):
                raise Busy(
                    "an engine draws one request at a time", "another while one is drawn",
                    "Close the events of the other, let requests wait, or open a second engine.",
                )  # fmt: skip
        try:
            yield from self.run(self.plan(self.resolve(request)))
        finally:
            self._free.release()

    @contextmanager
    def observed(self, observer: Observer) -> Iterator[None]:
        """Within, one more observer is told of what is planned."""
        before, self.observers = self.observers, (*self.observers, observer)
        try:
            yield
        finally:
            self.observers = before

    @cached_property
    def tokenizers(self) -> Tokenizers:
        """Of both encoders."""
        return Tokenizers.open(self.checkpoint)

    @cached_property
    def _inventory(self) -> Inventory:
        """Without adapters."""
        return read_inventory(self.checkpoint)

    def settle(self, run: Run) -> None:
        """Let the transformer have the adapters of this drawing, and networks stay or leave."""
        if not run.plan.kept or not self.networks.has(run.fits):
            self.device.kept.release()  # first: an adapter's factors go where its module's lie
        self.networks.adapt(run.fits)
        if run.plan.kept:
            self.device.kept.keep(tuple(one.weights for one in run.plan.stages))


def fitted(engine: Engine, lora: Sequence[str] = (), partial: bool = False) -> tuple[Fit, ...]:
    """The adapters of every drawing, then those of one, held against the transformer."""
    specs = parse_adapters((*engine.spec.lora, *lora))
    if not specs:
        return ()
    return fit_adapters(specs, transformer_targets(engine.model.transformer), partial=partial)


def _planned(
    engine: Engine,
    began: float,
    request: Resolved,
    texts: TokenizedTexts,
    start: Start | None,
    first: Run | None = None,
) -> Run:
    """How one pass will be run; `first`: the one before it."""
    times = grid(request.steps, request.solver, request.schedule, request.shift)
    times = times[request.steps - request.walked :]
    fits = first.fits if first else fitted(engine, request.lora, request.lora_partial)
    inventory = with_adapters(engine._inventory, fits)
    work = work_of(request, times, texts, start)
    device = engine.device
    options = Options.of(engine.spec.budget, engine.dtype, device.pinned, not device.lends)
    stages = stages_of(inventory, work)
    if first:
        options, work = (
            replace(options, keep_resident=False),
            work_of_second(work, first.request),
        )
        stages = stages_of_second(first.request)
    elif request.hires_by == LATENT:
        stages = tuple(stage for stage in stages if stage is not DECODE)
    memory = engine.runner.plan(inventory, work, options, stages)
    return Run(
        began=began,
        request=request,
        texts=texts,
        times=times,
        fits=fits,
        adapters=first.adapters if first else tuple(record(each, engine.digest) for each in fits),
        weights=first.weights if first else engine.checkpoint.sha256(engine.digest),
        inventory=inventory,
        work=work,
        options=options,
        plan=memory,
        stages={one.stage: one for one in memory.stages},
        start=start,
        observers=engine.observers,
    )


def _upscaler(engine: Engine, request: Resolved) -> Upscaler:
    """What enlarges the pictures of a request. Raises as `Upscaler.open`."""
    assert request.upscale is not None
    found = Upscaler.open(request.upscale, engine.device, engine.digest)
    found.check(request.size if request.hires_by == MODEL else request.final_size)
    return found


def _in_one_pass(passes: Passes, run: Run, texts: Sequence[Conditioning]) -> Events[list[Tensor]]:
    """The pixels of all pictures."""
    latents = yield from passes.latents(run, texts)
    return (yield from passes.pixels(run, latents))


def _in_two_passes(passes: Passes, run: Run, texts: Sequence[Conditioning]) -> Events[list[Tensor]]:
    """The same, drawn small first."""
    assert run.second is not None
    first, last = (
        one.stages[DENOISE.name].batches * one.request.walked for one in (run, run.second)
    )
    small = yield from among(passes.latents(run, texts), 0, last)
    begun = yield from among(passes.enlarged(run, small), 0, 0, last=False)
    passes.runner.release(run)
    latents = yield from among(passes.again(run, begun, texts), first, 0)
    return (yield from passes.pixels(run.second, latents))


def _warnings(engine: Engine, run: Run) -> Events[None]:
    """What should be known before it is drawn."""
    yield from engine.runner.say_learned(run)
    for said in run.start.notes if run.start else ():
        run.notes.append(said)
        yield Warned("picture", said)
    if note := untrained_size(run.request, engine.model.drawing):
        yield Warned("size", note)
    if run.request.encoding == "per-character" and not run.texts.apart:
        run.notes.append(WHOLE)
        yield Warned("encoding", WHOLE)
    for each in run.fits:
        if each.unmatched or any(remarks(each.adapter)):
            yield Warned("adapter", str(each))
    for note in engine.tokenizers.notes:
        run.notes.append(note)
        yield Warned("tokenizer", note)
