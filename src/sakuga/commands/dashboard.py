"""How a batch goes: a dashboard for who watches, plain lines for everyone else."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sakuga.commands.streams import tell
from sakuga.printable import cut, duration, readable, shown

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

STEP_EVENTS = ("step", "busy", "begun")


@dataclass(slots=True)
class BatchTally:
    """How far a batch is. `left`: to be drawn when it began; `steps`: of pictures under way."""

    out: Path
    items: int = 0
    left: int = 0
    before: int = 0
    drawn: int = 0
    failed: int = 0
    wrong: int = 0
    memory: dict[int, int] = field(default_factory=dict)
    last: str = ""
    note: str = ""
    exit: int = 0
    began: float = field(default_factory=time.monotonic)
    first: float | None = None

    def count(self, event: Mapping[str, Any]) -> None:
        """Count what happened."""
        match event["event"]:
            case "job" if not self.items:
                self.items, self.left = event["items"], event["left"]
                self.before, self.failed = event["done"], event["failed"]
                self.wrong = len(event["wrong"])
            case "step":
                self.memory[event["worker"]] = event["memory"]
            case "begun":
                self.first = self.first or time.monotonic()
            case "done":
                self.drawn += 1
                self.last = event["file"]
            case "failed":
                self.failed += 1
                self.note = f"{event['row']}: {event['error']}"
            case "elsewhere":
                self.before += 1
            case "over":  # other commands may have drawn and failed too
                self.before, self.failed = event["done"] - self.drawn, event["failed"]
            case "struck" | "warned":
                self.note = str(event.get("error") or event.get("message"))
            case "ended":
                self.exit = event["exit"]
                self.note = event["message"]

    @property
    def rate(self) -> float:
        """Pictures a second since the first was begun."""
        spent = time.monotonic() - (self.first or time.monotonic())
        return self.drawn / spent if spent else 0.0

    @property
    def pace(self) -> str:
        """The rate and the time left, once a picture is there."""
        if not self.drawn:
            return "reading texts" if self.first is None else "drawing"
        left = max(0, self.left - self.drawn) / self.rate
        per = f"{1 / self.rate:.1f} s a picture" if self.rate < 1 else f"{self.rate:.1f} a second"
        return f"{per}, {duration(left)} left"


class Board(Protocol):
    """Something that shows a batch."""

    def show(self, event: Mapping[str, Any]) -> None:
        """Show an event."""
        ...

    def close(self) -> int:
        """Say how it ended; the exit code."""
        ...


@dataclass(slots=True)
class Lines:
    """A line for each picture; quiet: none at all, where JSON is printed instead."""

    tally: BatchTally
    quiet: bool = False

    def show(self, event: Mapping[str, Any]) -> None:
        """Print what is worth a line."""
        kind, tally = event["event"], self.tally
        first = kind == "job" and not tally.items
        tally.count(event)
        if self.quiet:
            return
        if first:
            for line in summary(event):
                tell(line, err=True)
        elif kind == "done":
            done = f"{tally.before + tally.drawn}/{tally.items}"
            tell(f"{done}  {shown(event['file'])}  {event['seconds']:.1f} s  {tally.pace}")
        elif kind in ("failed", "struck"):
            tell(shown(f"{event['row']}: {event['error']}"), err=True)
        elif kind == "ended":
            tell(shown(f"sakuga: {event['message']}"), err=True)

    def close(self) -> int:
        """Say how it ended."""
        tally = self.tally
        if not self.quiet and not tally.exit:
            spent = duration(time.monotonic() - tally.began)
            tell(f"{tally.drawn} drawn in {spent}, {tally.before} were there, "
                 f"{tally.failed + tally.wrong} failed; in {shown(str(tally.out))}")  # fmt: skip
            if tally.failed:
                tell("--retry-failed draws again what failed.", err=True)
        return tally.exit or int(tally.failed + tally.wrong > 0)


@dataclass(slots=True)
class Screen:
    """A panel on a terminal that is drawn anew as things happen."""

    lines: Lines
    live: Live

    def show(self, event: Mapping[str, Any]) -> None:
        """Show an event."""
        kind = event["event"]
        if kind in ("job", "failed", "struck", "ended"):
            self.lines.show(event)  # above the panel, to stay
        else:
            self.lines.tally.count(event)
        self.live.update(panel(self.lines.tally), refresh=kind not in STEP_EVENTS)

    def close(self) -> int:
        """Say how it ended."""
        return self.lines.close()


def panel(tally: BatchTally) -> Table:
    """The dashboard as it is now."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    done = tally.before + tally.drawn
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", justify="right")
    grid.add_column()
    bar = ProgressBar(total=max(1, tally.items), completed=done, width=40)
    grid.add_row("done", bar)
    counts = f"{done} of {tally.items}"
    counts += f", {tally.failed} failed" if tally.failed else ""
    grid.add_row("", counts)
    grid.add_row("pace", tally.pace)
    grid.add_row("memory", readable(sum(tally.memory.values())) if tally.memory else "")
    grid.add_row("last", Text(tally.last))
    grid.add_row("note", Text(cut(shown(tally.note), 200)))
    return grid


def summary(job: Mapping[str, Any]) -> Iterator[str]:
    """How a job stands when it is begun, a line for each thing to know."""
    yield (f"{job['items']} pictures: {job['done']} done before, {job['left']} to draw, "
           f"{job['failed']} failed before")  # fmt: skip
    for row, error in (*job["wrong"][:20], *job["errors"][:20]):
        yield shown(f"{row}: {error}")
    if job["failed"]:
        yield "What failed before is passed over; --retry-failed draws it again."
    if job["twice"]:
        yield f"{job['twice']} rows ask for a picture that another row asks for; it is drawn once."
    if job["others"]:
        yield (f"{job['others']} pictures of the folder are of rows or weights that this job does "
               "not have; they stay.")  # fmt: skip
    if job["deleted"]:
        yield f"{job['deleted']} finished pictures were deleted; --redraw-deleted draws them again."
    if job["edited"]:
        yield f"{job['edited']} finished pictures were changed since; they stay as they are."
    if job["torn"]:
        yield f"{job['torn']} lines of the journal were torn by an interruption; nothing is lost."


@contextlib.contextmanager
def open_board(out: Path, *, as_json: bool) -> Iterator[Board]:
    """A dashboard if someone is watching standard error, else lines."""
    lines = Lines(BatchTally(out), quiet=as_json)
    if as_json or not sys.stderr.isatty():
        yield lines
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    with Live(panel(lines.tally), console=console, refresh_per_second=4, transient=True) as live:
        yield Screen(lines, live)
