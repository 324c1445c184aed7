"""The `batch` command: many pictures into one folder, drawn by processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sakuga.api.engine_spec import EMBEDDED, EngineSpec
from sakuga.api.options import Option, option
from sakuga.api.request import Request
from sakuga.commands.dashboard import Board, open_board
from sakuga.commands.environment import caches, faults, local_model
from sakuga.commands.flags import AsJson, Given, Size, Without, flags
from sakuga.commands.streams import tell
from sakuga.errors import Cancelled, RequestError
from sakuga.printable import shown

if TYPE_CHECKING:
    from sakuga.batch.item import JobRow
    from sakuga.batch.variation import Variation

MEMORY = 1 << 30  # bytes for a process that draws with the embedded model
MOST_TOLD = 20  # rows that are wrong, of which the rest are counted


@dataclass(frozen=True, slots=True)
class Manner:
    """How a batch is drawn, and what of it."""

    workers: int | None = option(
        Option(
            "Processes that draw; more than one compute with one thread each. When left out as "
            "many as there are cores for the embedded model on a CPU, else one.",
            low=1, high=256,
        )
    )  # fmt: skip
    retry_failed: bool = option(
        Option("Draw again what has failed.", flags=("--retry-failed",)), default=False
    )
    redraw_deleted: bool = option(
        Option("Draw again what was deleted.", flags=("--redraw-deleted",)), default=False
    )
    wildcards: Path | None = option(
        Option("The folder of files for __NAME__ in prompts; wildcards/ beside the job.")
    )
    variations: int = option(
        Option("How often a row is drawn, each time with other choices.", low=1, high=100_000),
        default=1,
    )
    every: bool = option(
        Option("Draw every choice that a row leaves.", flags=("--every",)), default=False
    )
    x: str | None = option(
        Option("Columns of a grid: guidance=3,4.5 or appearance=s/blue/red/.", metavar="AXIS")
    )
    y: str | None = option(Option("Rows of a grid.", metavar="AXIS"))
    z: str | None = option(Option("Sheets of a grid.", metavar="AXIS"))
    allow_outside: bool = option(
        Option("Let a job name files outside its folder.", flags=("--allow-outside",)),
        default=False,
    )


@flags
def batch(
    job: Annotated[
        str,
        typer.Argument(
            help="A folder of prompts, a file of requests (JSONL, JSON, TOML, CSV, Parquet, text), "
            "or - for prompts on standard input."
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="The folder of the pictures.")],
    engine: Annotated[EngineSpec, Without(("lora", "wait"))],
    request: Annotated[Mapping[str, Any], Given(Request, without=("prompt", "sent"))],
    size: Size = None,
    manner: Manner,
    as_json: AsJson = False,
) -> None:
    """Draw many pictures, and go on where it was stopped."""
    from sakuga.batch.job import open_job
    from sakuga.commands.draw import sized

    given = {**request, **sized(request, size)}
    vary = _variation(manner, Path(job))
    rows = open_job(job, given, outside=manner.allow_outside, vary=vary)
    for where, error in rows.wrong[:MOST_TOLD]:
        tell(shown(f"{where}: {error}"), err=True)
    if len(rows.wrong) > MOST_TOLD:
        tell(f"and {len(rows.wrong) - MOST_TOLD} more rows that are wrong", err=True)
    if not rows.rows:
        raise RequestError("a job has something to draw", f"no sound row in {job}", "Mend it.")
    spec = replace(
        engine, model=None if engine.model is None else local_model(engine.model),
        cache=engine.cache or (str(found) if (found := caches()) else None),
    )  # fmt: skip
    with _as_interrupt(signal.SIGTERM):
        try:
            code, files = _draw(rows.rows, spec, out, manner, as_json)
            if vary.axes and files:
                from sakuga.batch.contact import grid_sheets

                for sheet in grid_sheets(vary.axes, rows.rows, files, out):
                    tell(shown(str(sheet)), err=as_json)
        except KeyboardInterrupt:
            raise Cancelled(
                "a batch runs until it is done or stopped", "a signal to stop",
                "What is done stays done; give the same command again to go on.",
            ) from None  # fmt: skip
    if code or rows.wrong:
        raise typer.Exit(code or 1)


def _variation(manner: Manner, job: Path) -> Variation:
    """How rows become several."""
    from sakuga.batch.variation import Axis, Variation
    from sakuga.prompt.wildcards import Wildcards

    beside = (job if job.is_dir() else job.parent) / "wildcards"
    axes = tuple(Axis.parse(one) for one in (manner.x, manner.y, manner.z) if one is not None)
    return Variation(Wildcards(manner.wildcards or beside), manner.variations, manner.every, axes)


def _draw(
    rows: list[JobRow], spec: EngineSpec, out: Path, manner: Manner, as_json: bool
) -> tuple[int, dict[str, str]]:
    """Let a crew draw rows, and show how it goes; the exit code, and the file of each row."""
    from sakuga.batch.album import Album
    from sakuga.batch.crew import Assignment, Crew, write_rows

    album = Album(out)
    count = manner.workers or usual_workers(spec, len(rows))
    if count > 1 and spec.threads is None:
        spec = replace(spec, threads=1)
    with tempfile.TemporaryDirectory(prefix="sakuga-") as folder:
        file = Path(folder) / "rows.jsonl"
        write_rows(rows, file)
        assignment = Assignment(
            spec, str(out), str(file), of=count, retry=manner.retry_failed,
            redraw=manner.redraw_deleted, faults=faults(),
        )  # fmt: skip
        board: Board
        files: dict[str, str] = {}
        with (
            open_board(out, as_json=as_json) as board,
            contextlib.closing(Crew(assignment, album.journal).run()) as events,
        ):
            for event in events:
                if event["event"] == "over":
                    files = dict(event["files"])
                if as_json:
                    tell(json.dumps(event), wrap=False)
                board.show(event)
    album.clear()
    return board.close(), files


def usual_workers(spec: EngineSpec, rows: int) -> int:
    """One for each core where the embedded model is drawn with on a CPU, and memory is there."""
    from sakuga.memory.host import host_memory

    if spec.source != EMBEDDED or spec.device not in ("auto", "cpu") or _has_card(spec.device):
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    _, free = host_memory()
    return max(1, min(cores or 1, rows, free // MEMORY or 1))


def _has_card(device: str) -> bool:
    """Whether `auto` may mean a card."""
    return device == "auto" and Path("/proc/driver/nvidia").exists()


@contextlib.contextmanager
def _as_interrupt(number: int) -> Iterator[None]:
    """Within, a signal is raised as Ctrl-C is."""

    def raised(*_: object) -> None:
        raise KeyboardInterrupt

    before: Callable[..., Any] | int | None = signal.signal(number, raised)
    try:
        yield
    finally:
        signal.signal(number, before)
