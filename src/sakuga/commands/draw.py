"""The `draw` command behind its flags: what to draw, where it goes, what is shown meanwhile."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from sakuga.api.infotext import differences, receipt_from, texts_of
from sakuga.api.request import Event, Finished, Receipt, Request, Result, Warned, summary
from sakuga.checkpoint.catalog import Source
from sakuga.commands.meter import Meter, open_meter
from sakuga.engine.engine import Engine
from sakuga.errors import Cancelled, ReceiptMismatch, RequestError, SakugaError
from sakuga.files.atomic import refuse_existing, write_atomically
from sakuga.files.png import encode_png, read_texts, shows
from sakuga.memory.plan import Budget
from sakuga.memory.report import Recorder
from sakuga.memory.report import files as report_files


@dataclass(frozen=True, slots=True)
class Job:
    """What `draw` was asked besides the Request itself.

    `source` is the picture to draw again, `memory_report` where a table and a plot of memory
    go, `cache` the folder that keeps what can be computed again, `started` when the command
    began (as time.perf_counter counts), `faults` a plan for `sakuga.engine.faults`.
    """

    model: Source
    device: str
    dtype: str
    out: Path | None
    force: bool
    source: Path | None
    allow_other_weights: bool
    as_json: bool
    budget: Budget
    memory_report: Path | None
    cache: Path | None
    started: float
    faults: str = ""


def draw(asked: Mapping[str, Any], job: Job) -> None:
    """Draw what was asked and save it. Raises SakugaError; Cancelled after Ctrl-C."""
    old = receipt_from(read_texts(job.source), job.source.name) if job.source else None
    try:
        engine = Engine.open(
            job.model, device=job.device, dtype=job.dtype, budget=job.budget, cache=job.cache,
            faults=job.faults,
        )  # fmt: skip
        wish = Request(**asked) if old is None else _again(old, asked)
        request = engine.resolve(wish)
        if old is not None:
            _refuse_other_weights(old, engine, job)
        exact = old is not None and wish == old.request
        paths = _paths(job, request, only=old.index if old is not None and exact else None)
        reports = report_files(job.memory_report) if job.memory_report else ()
        for path in (*paths.values(), *reports):
            if not job.force:
                refuse_existing(path)
            _make_folder(path.parent)
        finished = _run(engine, request, job, paths)
    except KeyboardInterrupt:
        raise Cancelled(
            "a drawing runs until it is done or stopped", "Ctrl-C", "No partial file was left."
        ) from None
    for result in finished:
        _say_done(result, paths[result.receipt.index], job)
    if old is not None and exact:
        _compare(job, old, finished[0])


def _again(old: Receipt, asked: Mapping[str, Any]) -> Request:
    """The request of a receipt; with changes it is this one picture that is varied."""
    changes = {key: value for key, value in asked.items() if getattr(old.request, key) != value}
    if not changes:
        return old.request
    listed = ", ".join(f"{key} {getattr(old.request, key)!r} -> {changes[key]!r}"
                       for key in changes)
    _note(f"Not the same request: {listed}.")
    return replace(old.request, **{"number": 1, "seed": old.seed, **changes})


def _refuse_other_weights(old: Receipt, engine: Engine, job: Job) -> None:
    now = engine.weights
    other = sorted(key for key in {*old.weights, *now} if old.weights.get(key) != now.get(key))
    if other and not job.allow_other_weights:
        raise ReceiptMismatch(
            "a picture must be drawn again with its own weights",
            f"other weights of {', '.join(other)} in {engine.spec.name!r} than in {old.model!r}",
            "Pass the model with --model, or --allow-other-weights.",
        )
    if old.adapters != engine.adapters and not job.allow_other_weights:
        told, here = (", ".join(f"{one.file} at {one.strength:g}" for one in adapters) or "none"
                      for adapters in (old.adapters, engine.adapters))  # fmt: skip
        raise ReceiptMismatch(
            "a picture must be drawn again with its own adapters",
            f"{here}, and it was drawn with {told}",
            "Pass them with --lora as then, or --allow-other-weights.",
        )


def _paths(job: Job, request: Request, only: int | None) -> dict[int, Path]:
    """Where each picture goes, by index; `only` when just one of them is wanted."""
    default = f"{job.source.stem}-again.png" if job.source else f"sakuga-{request.seed}.png"
    out = job.out or Path(default)
    if out.is_dir():
        out = out / default
    if out.suffix.lower() != ".png":
        raise RequestError("a picture must be a PNG file", str(out), "Let --out end in .png.")
    if only is not None or request.number == 1:
        return {only or 0: out}
    return {i: out.with_stem(f"{out.stem}-{i + 1}") for i in range(request.number)}


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            "--out must be in a folder that can be made",
            f"{folder}: {error.strerror}",
            "Choose another.",
        ) from None


def _run(engine: Engine, request: Request, job: Job, paths: Mapping[int, Path]) -> list[Result]:
    """Draw, save each wanted picture as it comes, and tell of everything on the way."""
    finished = []
    with (
        _reported(engine, job),
        contextlib.closing(engine.generate(request)) as events,
        open_meter(engine.home.memory, engine.home.limit, quiet=job.as_json) as meter,
    ):
        for event in events:
            wanted = not isinstance(event, Finished) or event.result.receipt.index in paths
            if isinstance(event, Finished) and wanted:
                _save(event.result, paths[event.result.receipt.index], job, engine)
                finished.append(event.result)
            if wanted:
                _tell(event, meter, job, paths)
    return finished


@contextlib.contextmanager
def _reported(engine: Engine, job: Job) -> Iterator[None]:
    """Within, memory is recorded if a report of it was asked for; written whatever happens."""
    if job.memory_report is None:
        yield
        return
    home = engine.home
    home.recorder = recorder = Recorder(home.memory, home.peak)
    try:
        yield
    finally:
        home.recorder = None
        recorder.close()
        if len(recorder.peaks) > 1:  # some stage has begun
            recorder.write(job.memory_report, home.limit, replace=job.force)
            if not job.as_json:
                _note(f"Memory over time: {', '.join(map(str, report_files(job.memory_report)))}.")


def _save(result: Result, path: Path, job: Job, engine: Engine) -> None:
    data = encode_png(result.picture, texts_of(result.receipt))
    try:
        if engine.faults:
            engine.faults.strike("save")
        write_atomically(path, data, replace=job.force)
    except OSError as error:
        raise SakugaError(
            "a picture must be written whole", f"{error.strerror} for {path}",
            "Nothing was left there; make room or choose another --out.",
        ) from None


def _tell(event: Event, meter: Meter, job: Job, paths: Mapping[int, Path]) -> None:
    if job.as_json:
        form = summary(event)
        if isinstance(event, Finished):
            form["path"] = str(paths[event.result.receipt.index])
        _print_json(form)
    elif isinstance(event, Warned):
        _note(event.message)
    else:
        meter.show(event)


def _say_done(result: Result, path: Path, job: Job) -> None:
    if not job.as_json:
        size = f"{result.picture.width}x{result.picture.height}, seed {result.receipt.seed}"
        whole = time.perf_counter() - job.started
        typer.echo(f"{path}  {size}, drawn in {result.seconds:.1f} s, {whole:.1f} s in all")


def _compare(job: Job, old: Receipt, result: Result) -> None:
    """Say whether the pixels are those of the source, and what could be why not."""
    assert job.source is not None
    equal = shows(job.source, result.picture)
    reasons = differences(old, result.receipt)
    if job.as_json:
        _print_json({"event": "compared", "equal": equal, "differences": list(reasons)})
        return
    verdict = "Equal pixels" if equal else "Other pixels"
    _note(f"{verdict}, compared with {job.source}.")
    for reason in reasons:
        _note(f"  {reason}")
    if not equal and not reasons:
        _note("  The source was changed after it was drawn, or the device is not repeatable.")


def _print_json(form: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(form))


def _note(text: str) -> None:
    typer.echo(text, err=True)
