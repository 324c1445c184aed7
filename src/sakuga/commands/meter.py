"""Progress on a terminal: a bar, the time per step, the time left, the memory in use."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from sakuga.api.request import Decoded, Encoded, Event, Planned, Stepped

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
    """A Rich progress bar; `memory` gives bytes, allocated and reserved, of `limit` if set."""

    progress: Progress
    task: TaskID
    memory: Callable[[], tuple[int, int]]
    limit: int | None
    last: float = field(default_factory=time.perf_counter)

    def show(self, event: Event) -> None:
        """Move the bar."""
        memory = f"{self.memory()[0] / 1e9:.2f} GB"
        if self.limit is not None:
            memory = f"{memory.removesuffix(' GB')} of {self.limit / 1e9:.2f} GB"
        match event:
            case Planned():
                self.progress.update(self.task, description="encode", memory=memory)
            case Encoded():
                self.progress.update(self.task, description="denoise", memory=memory)
            case Stepped(index=index, of=of):
                now = time.perf_counter()
                pace = f"{now - self.last:.2f} s/step"
                self.last = now
                stage = "decode" if index == of else "denoise"
                self.progress.update(
                    self.task, description=stage, completed=index, total=of, pace=pace,
                    memory=memory,
                )  # fmt: skip
            case Decoded():
                self.progress.update(self.task, description="save", memory=memory)


@contextlib.contextmanager
def open_meter(
    memory: Callable[[], tuple[int, int]], limit: int | None, *, quiet: bool
) -> Iterator[Meter]:
    """A bar if someone is watching standard error, else silence."""
    if quiet or not sys.stderr.isatty():
        yield Silence()
        return
    # Rich takes a tenth of a second to import; only a watched drawing pays for it.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
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
        yield Bar(progress, task, memory, limit)
