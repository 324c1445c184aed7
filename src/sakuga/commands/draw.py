"""The `draw` command: what to draw, where it goes, what is shown meanwhile.

It draws through the protocol `ImageGenerator` alone; only `_opened` knows that an engine of
this process is behind it.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from sakuga.api.engine_spec import EngineSpec
from sakuga.api.events import Event, Finished, ImageGenerator, Planned, Result, Warned, summary
from sakuga.api.page import differences
from sakuga.api.receipt import AdapterRecord, Receipt
from sakuga.api.request import Request, parse_size
from sakuga.checkpoint.catalog import LintProfile, lint_profile
from sakuga.commands import interrupts
from sakuga.commands.environment import caches, faults, local_model
from sakuga.commands.flags import AsJson, Given, Size, Without, flags
from sakuga.commands.meter import Meter, open_meter
from sakuga.commands.output import Output
from sakuga.commands.pictures import NAMES, find_picture, remember, same_picture
from sakuga.commands.places import STDOUT, picture_paths, prove_writable, write_or_keep
from sakuga.commands.prompts import Prompt, read_prompt, show_findings
from sakuga.commands.sources import open_source
from sakuga.commands.streams import tell, write_out
from sakuga.errors import Cancelled, ReceiptMismatch, RequestError, SakugaError
from sakuga.files.atomic import write_atomically
from sakuga.files.saving import KINDS, PNG, shows
from sakuga.files.texts import read_texts
from sakuga.memory.report import Recorder
from sakuga.memory.report import files as report_files
from sakuga.model.spec import preset_of
from sakuga.printable import LISTED, cut, shown

# Decide what encoders read.
READ = {
    "prompt", "negative", "system", "verbatim", "as_xml", "text_mode", "weighting", "encoding",
}  # fmt: skip
MOST_REASONS = 20  # of why pixels differ: a stranger's receipt may name any number


@dataclass(slots=True)
class Session:
    """One drawing under way: what was asked of it, and what has come of it so far.

    `old`: the receipt that is drawn again, `exact` if nothing of it was changed. `save`: told
    before a picture is written. `paths`: where each picture goes, by index, once that is known.
    `unsaved`: the errors of what could not be written there.
    """

    request: Request
    output: Output
    old: Receipt | None
    exact: bool
    as_json: bool
    started: float
    save: Callable[[str], None] | None = None
    paths: Mapping[int, Path] | None = None
    unsaved: list[SakugaError] = field(default_factory=list)


@flags
def draw(
    prompt: Annotated[
        str | None, typer.Argument(help="Text, the path of a file, or - for standard input.")
    ] = None,
    *,
    engine: Annotated[EngineSpec, Without(("lora", "wait"))],
    request: Annotated[Mapping[str, Any], Given(Request, without=("prompt", "sent"))],
    size: Size = None,
    output: Output,
    strict: Annotated[bool, typer.Option("--strict", help="Stop on errors and warnings.")] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Draw pictures of a prompt, or one picture again."""
    asked = {**request, **sized(request, size)}
    draw_asked(prompt, engine, asked, output, strict=strict, no_cache=no_cache, as_json=as_json)


def draw_asked(
    prompt: str | None,
    engine: EngineSpec,
    request: Mapping[str, Any],
    output: Output,
    *,
    strict: bool,
    no_cache: bool,
    as_json: bool,
) -> None:
    """Draw what was asked for by flags. Raises SakugaError, and prints it too where JSON is."""
    started = time.perf_counter()
    asked = dict(request)
    try:
        output.check()
        read = None if prompt is None else read_prompt(prompt)
        if read is not None:
            asked["prompt"] = read.text
        spec = _local(engine, no_cache)
        say = _quiet if as_json else _note
        told = open_source(output.source, output.text, asked, spec.source, say)
        asked = {**(told.fields or {}), **asked}
        if "prompt" in asked:
            profile = lint_profile(spec.source or _preset_of_parts(spec))
            show_findings(
                read or Prompt("prompt", asked["prompt"]), _heeding(profile, asked, told.receipt),
                strict=strict, verbatim=bool(asked.get("verbatim")),
            )  # fmt: skip
        elif told.receipt is None:
            fix = "Write it, or name a --from file."
            raise RequestError("a drawing needs a prompt", "none", fix)
        _draw(asked, told.receipt, spec, output, as_json, started)
    except SakugaError as error:
        if as_json:
            _print_json({"event": "failed", "code": error.code, "message": str(error)})
        raise


def _heeding(
    profile: LintProfile, asked: Mapping[str, Any], receipt: Receipt | None
) -> LintProfile:
    """The profile with what is asked to be done with weights of tags, and with flat ones."""
    verbatim = bool(asked.get("verbatim"))
    usual = receipt.request.as_xml if receipt else profile.as_xml and not verbatim
    return replace(
        profile,
        weighting="off" if verbatim else asked.get("weighting", profile.weighting),
        as_xml=asked.get("as_xml", usual),
    )


def _preset_of_parts(spec: EngineSpec) -> str:
    """What the prompt for a model of parts alone is linted against."""
    return preset_of(spec.transformer or "", pooled=spec.jina is not None).name


def sized(given: Mapping[str, Any], size: str | None) -> dict[str, int]:
    """Width and height of --size."""
    if size is None:
        return {}
    found = parse_size(size)
    if not found or {"width", "height"} & set(given):
        got = f"{size!r} beside --width or --height" if found else repr(size)
        fix = "Write --size 832x1216, or --size 1024 for a square."
        raise RequestError("--size is WIDTHxHEIGHT or one number, in place of both", got, fix)
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
    asked: Mapping[str, Any],
    old: Receipt | None,
    spec: EngineSpec,
    output: Output,
    as_json: bool,
    started: float,
) -> None:
    """Draw what was asked and save it. Raises SakugaError; Cancelled after Ctrl-C."""
    if output.out == str(STDOUT) and as_json:
        raise RequestError("one thing goes to standard output", "--out - and --json", "Take one.")
    unsaved = list[SakugaError]()
    try:
        with _opened(spec, output, as_json, unsaved) as (generator, save):
            request, exact = (
                (Request(**asked), False) if old is None
                else _again(old, asked, output.source, spec.cache)
            )  # fmt: skip
            session = Session(request, output, old, exact, as_json, started, save, unsaved=unsaved)
            finished = draw_with(generator, session)
    except KeyboardInterrupt:
        raise Cancelled(
            "a drawing runs until it is done or stopped", "Ctrl-C", "No partial file was left."
        ) from None
    for result in finished:
        _say_done(result, session)
        remember(result.receipt, {name: getattr(request, name) for name in NAMES}, spec.cache)
    if old is not None and exact and finished:
        _compare(session, old, finished[0])
    for error in unsaved[1:]:
        _note(f"sakuga: {error}")
    if unsaved:
        raise unsaved[0]


@contextlib.contextmanager
def _opened(
    spec: EngineSpec, output: Output, as_json: bool, unsaved: list[SakugaError]
) -> Iterator[tuple[ImageGenerator, Callable[[str], None] | None]]:
    """An engine of this process, its memory recorded if a report was asked for.

    unsaved: where the error goes if the report cannot be written.
    """
    with interrupts.at_once():
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
            error = _save_report(recorder, output, engine.device.limit, as_json)
            unsaved.extend([error] if error else [])


def _save_report(
    recorder: Recorder, output: Output, limit: int | None, as_json: bool
) -> SakugaError | None:
    """Write the report of a drawing, or keep it elsewhere and return the error."""
    assert output.memory_report is not None
    error = write_or_keep(
        output.memory_report, lambda path: recorder.write(path, limit, replace=output.force)
    )
    if not error and not as_json:
        _note(f"Memory over time: {', '.join(map(str, report_files(output.memory_report)))}.")
    return error


def _again(
    old: Receipt, asked: Mapping[str, Any], source: Path | None, cache: str | None
) -> tuple[Request, bool]:
    """The request of a receipt, and whether it is that; changed, this one picture is varied.

    Adapters are named anew: a receipt knows which they were, not where they are. So it is with
    the pictures it started from, which are looked for.
    """
    place = {name: asked[name] for name in ("lora", "lora_partial") if name in asked}
    for name in NAMES:
        record = getattr(old, name)
        if name in asked:
            place |= {name: asked[name]} if same_picture(record, asked[name]) else {}
        elif record is not None:
            place[name] = find_picture(record, name, source or Path(), cache)
    changes = {
        key: value
        for key, value in asked.items()
        if key not in place and getattr(old.request, key) != value
    }
    # Its texts are sent as they were: another version may read its prompt otherwise.
    if not READ & changes.keys():
        place["sent"] = old.texts.as_asked
    if not changes:
        return replace(old.request, **place), True
    told = ", ".join(
        f"{key} {cut(repr(getattr(old.request, key)), 80)} -> {cut(repr(changes[key]), 80)}"
        for key in changes
    )
    _note(f"Not the same request: {told}.")
    return replace(old.request, **{**old.request.seeds(old.index).alone, **changes, **place}), False


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
                if not _save(event.result, session):
                    continue
                finished.append(event.result)
            _tell(event, meter, session)
    return finished


def _accept(planned: Planned, session: Session) -> None:
    """Check that what is about to be drawn is wanted, and has a place to go."""
    output, old = session.output, session.old
    if old is not None and not output.allow_other_weights:
        _refuse_other_weights(old, planned)
    only = old.index if old is not None and session.exact else None
    asked = planned.request
    stem = f"{output.source.stem}-again" if output.source else f"sakuga-{asked.seed}"
    default = f"{stem}{KINDS[output.format or PNG.name].suffix}"
    indices = range(asked.number) if only is None else [only]
    session.paths = picture_paths(output.out, default, indices)
    # A picture seldom packs into less than a quarter of its pixels.
    least = asked.final_size[0] * asked.final_size[1] * 3 // 4
    for path in session.paths.values():
        output.kind(path)
        prove_writable(path, least, replace=output.force, flag="--out")
    if output.memory_report:
        for path in report_files(output.memory_report):
            prove_writable(path, 0, replace=output.force, flag="--memory-report")


def _refuse_other_weights(old: Receipt, planned: Planned) -> None:
    now = planned.weights
    other = sorted(key for key in {*old.weights, *now} if old.weights.get(key) != now.get(key))
    if other:
        raise ReceiptMismatch(
            "a picture must be drawn again with its own weights",
            f"other weights of {_some(other)} in {planned.model!r} than in {cut(old.model, 80)!r}",
            "Pass the model with --model, or --allow-other-weights.",
        )
    if old.adapters != planned.adapters:
        raise ReceiptMismatch(
            "a picture must be drawn again with its own adapters",
            f"{_named(planned.adapters)}, and it was drawn with {_named(old.adapters)}",
            "Pass them with --lora as then, or --allow-other-weights.",
        )


def _named(adapters: tuple[AdapterRecord, ...]) -> str:
    return _some([f"{cut(one.file, 80)} at {one.strength:g}" for one in adapters]) or "none"


def _some(names: Sequence[str]) -> str:
    """The first names of many that a receipt may hold."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(cut(name, 120) for name in names[:LISTED]) + more


def _path_of(result: Result, session: Session) -> Path:
    return (session.paths or {})[result.receipt.index]


def _save(result: Result, session: Session) -> bool:
    """Write a picture to its place; whether it is there. If not, it is kept elsewhere."""
    wanted = _path_of(result, session)
    data, lost = session.output.encoded(result, wanted)
    if lost:
        _note(lost)

    def write(path: Path) -> None:
        if path == wanted and session.save:
            session.save("save")
        if path == STDOUT:
            write_out(data)
        else:
            write_atomically(path, data, replace=session.output.force)

    error = write_or_keep(wanted, write, session.output.kind(wanted).suffix)
    if error:
        session.unsaved.append(error)
    return error is None


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
        place = "standard output" if path == STDOUT else shown(str(path))
        line = f"{place}  {size}, drawn in {result.seconds:.1f} s, {whole:.1f} s in all"
        tell(line, err=path == STDOUT)


def _compare(session: Session, old: Receipt, result: Result) -> None:
    """Say whether the pixels are those of the source, and what could be why not."""
    source = session.output.source
    assert source is not None
    equal = shows(source, result.picture, read_texts(source))
    reasons = differences(old, result.receipt)
    if session.as_json:
        _print_json({"event": "compared", "equal": equal, "differences": list(reasons)})
        return
    verdict = "Equal pixels" if equal else "Other pixels"
    _note(f"{verdict}, compared with {source}.")
    for reason in reasons[:MOST_REASONS]:
        _note(f"  {reason}")
    if len(reasons) > MOST_REASONS:
        _note(f"  and {len(reasons) - MOST_REASONS} more")
    if not equal and not reasons:
        _note("  The source was changed after it was drawn, or the device is not repeatable.")


def _print_json(form: Mapping[str, Any]) -> None:
    tell(json.dumps(form), wrap=False)


def _note(text: str) -> None:
    tell(shown(text), err=True)


def _quiet(text: str) -> None:
    """Say nothing, where only JSON is wanted."""
