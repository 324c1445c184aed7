"""The `draw` command: what to draw, where it goes, what is shown meanwhile.

It draws through the protocol `ImageGenerator` alone; only `_opened` knows that an engine of
this process is behind it.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from sakuga.api.engine_spec import EngineSpec
from sakuga.api.events import Event, Finished, ImageGenerator, Planned, Result, Warned, summary
from sakuga.api.infotext import differences, receipt_from
from sakuga.api.options import Option, option
from sakuga.api.receipt import AdapterRecord, Receipt
from sakuga.api.request import Request, parse_size
from sakuga.api.resolved import Resolved
from sakuga.checkpoint.catalog import ELSEWHERE, lint_profile
from sakuga.commands.environment import caches, faults, local_model
from sakuga.commands.flags import AsJson, Given, Size, Without, flags
from sakuga.commands.meter import Meter, open_meter
from sakuga.commands.prompts import read_prompt, show_findings
from sakuga.errors import Cancelled, ReceiptMismatch, RequestError, SakugaError
from sakuga.files.atomic import refuse_existing
from sakuga.files.png import read_texts, shows
from sakuga.memory.report import Recorder
from sakuga.memory.report import files as report_files


@dataclass(frozen=True, slots=True)
class Output:
    """Where pictures go, and what else is written."""

    out: Path | None = option(Option("Where to save; sakuga-SEED.png here."))
    force: bool = option(Option("Overwrite what is there.", flags=("--force",)), default=False)
    source: Path | None = option(
        Option("Draw a picture again, as its receipt says.", flags=("--from",))
    )
    allow_other_weights: bool = option(
        Option("Let --from use another model.", flags=("--allow-other-weights",)), default=False
    )
    memory_report: Path | None = option(
        Option("Write memory over time here, as NAME.csv and NAME.svg.")
    )


@dataclass(slots=True)
class Session:
    """One drawing under way: what was asked of it, and what has come of it so far.

    `old`: the receipt that is drawn again, `exact` if nothing of it was changed. `save`: told
    before a picture is written. `paths`: where each picture goes, by index, once that is known.
    """

    request: Request
    output: Output
    old: Receipt | None
    exact: bool
    as_json: bool
    started: float
    save: Callable[[str], None] | None = None
    paths: Mapping[int, Path] | None = None


@flags
def draw(
    prompt: Annotated[
        str | None, typer.Argument(help="Text, the path of a file, or - for standard input.")
    ] = None,
    *,
    engine: Annotated[EngineSpec, Without(("lora", "wait"))],
    request: Annotated[Mapping[str, Any], Given(Request, without=("prompt",))],
    size: Size = None,
    output: Output,
    strict: Annotated[bool, typer.Option("--strict", help="Stop on errors and warnings.")] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Draw pictures of a prompt, or one picture again."""
    started = time.perf_counter()
    try:
        asked = {**request, **_sized(request, size)}
        if prompt is not None:
            asked["prompt"] = read_prompt(prompt)
        spec = _local(engine, no_cache)
        if prompt is not None:
            profile = lint_profile(spec.source or next(iter(ELSEWHERE)))
            show_findings(prompt, asked["prompt"], profile, strict=strict)
        elif output.source is None:
            fix = "Write it, or name a --from file."
            raise RequestError("a drawing needs a prompt", "none", fix)
        _draw(asked, spec, output, as_json, started)
    except SakugaError as error:
        if as_json:
            _print_json({"event": "failed", "code": error.code, "message": str(error)})
        raise


def _sized(given: Mapping[str, Any], size: str | None) -> dict[str, int]:
    """Width and height of --size."""
    if size is None:
        return {}
    found = parse_size(size)
    if not found or {"width", "height"} & set(given):
        got = f"{size!r} beside --width or --height" if found else repr(size)
        raise RequestError("--size is WIDTHxHEIGHT, alone", got, "Write --size 256x320.")
    return dict(zip(("width", "height"), found, strict=True))


def _local(spec: EngineSpec, no_cache: bool) -> EngineSpec:
    """A spec whose every part is on this machine, and which has the user's cache."""

    def local(place: str | None) -> str | None:
        return None if place is None else local_model(place)

    cache = spec.cache or caches()
    return replace(
        spec,
        model=local(spec.model),
        transformer=local(spec.transformer),
        gemma=local(spec.gemma),
        jina=local(spec.jina),
        vae=local(spec.vae),
        cache=None if no_cache or cache is None else str(cache),
    )


def _draw(
    asked: Mapping[str, Any], spec: EngineSpec, output: Output, as_json: bool, started: float
) -> None:
    """Draw what was asked and save it. Raises SakugaError; Cancelled after Ctrl-C."""
    source = output.source
    old = receipt_from(read_texts(source), source.name) if source else None
    try:
        with _opened(spec, output, as_json) as (generator, save):
            request, exact = (Request(**asked), False) if old is None else _again(old, asked)
            session = Session(request, output, old, exact, as_json, started, save)
            finished = draw_with(generator, session)
    except KeyboardInterrupt:
        raise Cancelled(
            "a drawing runs until it is done or stopped", "Ctrl-C", "No partial file was left."
        ) from None
    for result in finished:
        _say_done(result, session)
    if old is not None and exact:
        _compare(session, old, finished[0])


@contextlib.contextmanager
def _opened(
    spec: EngineSpec, output: Output, as_json: bool
) -> Iterator[tuple[ImageGenerator, Callable[[str], None] | None]]:
    """An engine of this process, its memory recorded if a report was asked for."""
    from sakuga.engine.engine import Engine
    from sakuga.engine.faults import Faults

    strike = Faults(planned).strike if (planned := faults()) else None
    engine = Engine.open(spec, observers=(strike,) if strike else ())
    if output.memory_report is None:
        yield engine, strike
        return
    recorder = Recorder(engine.device.memory, engine.device.peak)
    try:
        with engine.observed(recorder.on):
            yield engine, strike
    finally:
        recorder.close()
        if len(recorder.peaks) > 1:  # some stage has begun
            limit = engine.device.limit
            recorder.write(output.memory_report, limit, replace=output.force)
            if not as_json:
                names = ", ".join(map(str, report_files(output.memory_report)))
                _note(f"Memory over time: {names}.")


def _again(old: Receipt, asked: Mapping[str, Any]) -> tuple[Request, bool]:
    """The request of a receipt, and whether it is that; changed, this one picture is varied.

    Adapters are named anew: a receipt knows which they were, not where they are.
    """
    place = {name: asked[name] for name in ("lora", "lora_partial") if name in asked}
    changes = {
        key: value
        for key, value in asked.items()
        if key not in place and getattr(old.request, key) != value
    }
    if not changes:
        return replace(old.request, **place), True
    listed = ", ".join(
        f"{key} {getattr(old.request, key)!r} -> {changes[key]!r}" for key in changes
    )
    _note(f"Not the same request: {listed}.")
    return replace(old.request, **{"number": 1, "seed": old.seed, **changes, **place}), False


def draw_with(generator: ImageGenerator, session: Session) -> list[Result]:
    """Draw, save each wanted picture as it comes, and tell of everything on the way."""
    finished = []
    with (
        contextlib.closing(generator.generate(session.request)) as events,
        open_meter(quiet=session.as_json) as meter,
    ):
        for event in events:
            if isinstance(event, Planned):
                _accept(event, session)
            if isinstance(event, Finished):
                if event.result.receipt.index not in (session.paths or {}):
                    continue
                _save(event.result, session)
                finished.append(event.result)
            _tell(event, meter, session)
    return finished


def _accept(planned: Planned, session: Session) -> None:
    """Check that what is about to be drawn is wanted, and has a place to go."""
    output, old = session.output, session.old
    if old is not None and not output.allow_other_weights:
        _refuse_other_weights(old, planned)
    only = old.index if old is not None and session.exact else None
    session.paths = _paths(output, planned.request, only)
    reports = report_files(output.memory_report) if output.memory_report else ()
    for path in (*session.paths.values(), *reports):
        if not output.force:
            refuse_existing(path)
        _make_folder(path.parent)


def _refuse_other_weights(old: Receipt, planned: Planned) -> None:
    now = planned.weights
    other = sorted(key for key in {*old.weights, *now} if old.weights.get(key) != now.get(key))
    if other:
        raise ReceiptMismatch(
            "a picture must be drawn again with its own weights",
            f"other weights of {', '.join(other)} in {planned.model!r} than in {old.model!r}",
            "Pass the model with --model, or --allow-other-weights.",
        )
    if old.adapters != planned.adapters:
        raise ReceiptMismatch(
            "a picture must be drawn again with its own adapters",
            f"{_named(planned.adapters)}, and it was drawn with {_named(old.adapters)}",
            "Pass them with --lora as then, or --allow-other-weights.",
        )


def _named(adapters: tuple[AdapterRecord, ...]) -> str:
    return ", ".join(f"{one.file} at {one.strength:g}" for one in adapters) or "none"


def _paths(output: Output, request: Resolved, only: int | None) -> dict[int, Path]:
    """Where each picture goes, by index; `only` when just one of them is wanted."""
    default = f"sakuga-{request.seed}.png"
    if output.source:
        default = f"{output.source.stem}-again.png"
    out = output.out or Path(default)
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


def _path_of(result: Result, session: Session) -> Path:
    return (session.paths or {})[result.receipt.index]


def _save(result: Result, session: Session) -> None:
    path = _path_of(result, session)
    try:
        if session.save:
            session.save("save")
        result.save(path, overwrite=session.output.force)
    except OSError as error:
        raise SakugaError(
            "a picture must be written whole",
            f"{error.strerror} for {path}",
            "Nothing was left there; make room or choose another --out.",
        ) from None


def _tell(event: Event, meter: Meter, session: Session) -> None:
    if session.as_json:
        form = summary(event)
        if isinstance(event, Finished):
            form["path"] = str(_path_of(event.result, session))
        _print_json(form)
    elif isinstance(event, Warned):
        _note(event.message)
    else:
        meter.show(event)


def _say_done(result: Result, session: Session) -> None:
    if not session.as_json:
        size = f"{result.picture.width}x{result.picture.height}, seed {result.receipt.seed}"
        whole = time.perf_counter() - session.started
        path = _path_of(result, session)
        typer.echo(f"{path}  {size}, drawn in {result.seconds:.1f} s, {whole:.1f} s in all")


def _compare(session: Session, old: Receipt, result: Result) -> None:
    """Say whether the pixels are those of the source, and what could be why not."""
    source = session.output.source
    assert source is not None
    equal = shows(source, result.picture)
    reasons = differences(old, result.receipt)
    if session.as_json:
        _print_json({"event": "compared", "equal": equal, "differences": list(reasons)})
        return
    verdict = "Equal pixels" if equal else "Other pixels"
    _note(f"{verdict}, compared with {source}.")
    for reason in reasons:
        _note(f"  {reason}")
    if not equal and not reasons:
        _note("  The source was changed after it was drawn, or the device is not repeatable.")


def _print_json(form: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(form))


def _note(text: str) -> None:
    typer.echo(text, err=True)
