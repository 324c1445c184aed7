"""Progress on a terminal: a bar, the time per step, the time left, the memory in use."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from sakuga.api.events import Decoded, Encoded, Event, Planned, Stepped

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Meter(Protocol):
    """Something that shows events as they come."""

    def show(self, event: Event) -> None:
        """Show one event."""
        ...


class Silence:
    """Shows nothing: standard error is no terminal."""

    def show(self, event: Event) -> None:
        """Show nothing."""


@dataclass(slots=True)
class Bar:
    """A Rich progress bar; `limit`: bytes of the budget, once they are known."""

    progress: Progress
    task: TaskID
    limit: int | None = None
    last: float = field(default_factory=time.perf_counter)

    def show(self, event: Event) -> None:
        """Move the bar."""
        match event:
            case Planned(plan=plan):
                self.limit, self.last = plan.limit, time.perf_counter()
                self.progress.update(self.task, description="encode")
            case Encoded():
                self.progress.update(self.task, description="denoise")
            case Stepped(index=index, of=of, memory=memory):
                now = time.perf_counter()
                pace = f"{now - self.last:.2f} s/step"
                self.last = now
                stage = "decode" if index == of else "denoise"
                self.progress.update(
                    self.task, description=stage, completed=index, total=of, pace=pace,
                    memory=self._memory(memory),
                )  # fmt: skip
            case Decoded():
                self.progress.update(self.task, description="save")

    def _memory(self, used: int) -> str:
        """Memory in use, of the budget if there is one."""
        if self.limit is None:
            return f"{used / 1e9:.2f} GB"
        return f"{used / 1e9:.2f} of {self.limit / 1e9:.2f} GB"


@contextlib.contextmanager
def open_meter(*, quiet: bool) -> Iterator[Meter]:
    """A bar if someone is watching standard error, else silence."""
    if quiet or not sys.stderr.isatty():
        yield Silence()
        return
    # Rich takes a tenth of a second to import; only a watched drawing pays for it.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[memory]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=None, pace="", memory="")
        yield Bar(progress, task)
