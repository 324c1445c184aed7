"""The processes that draw a batch: started, listened to, started again, stopped.

What kills a process must not end the batch, and what kills it twice must not kill it a third
time. So whoever gives the command draws nothing; it sees which item a process died over.
"""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sakuga.api.codec import plain
from sakuga.api.engine_spec import EngineSpec
from sakuga.batch.item import JobRow
from sakuga.batch.journal import STRUCK, Journal

PATIENCE = 30.0  # seconds that a process has for ending after the step under way
IDLE_DEATHS = 3  # of processes that had not begun with any item: something else is wrong


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one process of a batch is to do, as data.

    `rows`: a file of rows, as `write_rows` writes it. `number`, `of`: which of how many
    processes it is. `retry`: draw what has failed before; `redraw`: what was deleted.
    """

    spec: EngineSpec
    place: str
    rows: str
    number: int = 0
    of: int = 1
    retry: bool = False
    redraw: bool = False
    faults: str = ""


@dataclass(slots=True)
class Member:
    """A process, and the item it is at."""

    process: subprocess.Popen[str]
    number: int
    item: str = ""
    row: str = ""


class Crew:
    """Processes that do an assignment together; `journal`: where their deaths are written."""

    def __init__(self, assignment: Assignment, journal: Journal) -> None:
        self.assignment, self.journal = assignment, journal
        self.members: list[Member] = []
        self._events: queue.Queue[tuple[Member, Mapping[str, Any] | None]] = queue.Queue()
        self._idle_deaths = 0

    def run(self) -> Generator[Mapping[str, Any], None, None]:
        """What its processes tell, each with its `worker`, until all is drawn.

        Close the generator to stop them. The last event is `ended` where one of them could not
        go on; its `exit` and `message` say how and why.
        """
        try:
            for number in range(self.assignment.of):
                self._start(number)
            while self.members:
                member, event = self._events.get()
                told = self._buried(member) if event is None else self._noted(member, event)
                if told is not None:
                    yield {**told, "worker": member.number}
                    if told["event"] == "ended":
                        return
        finally:
            self._stop()

    def _start(self, number: int) -> None:
        assignment = replace(self.assignment, number=number)
        process = subprocess.Popen(
            [sys.executable, "-m", "sakuga.batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, encoding="utf-8", start_new_session=True,
        )  # fmt: skip
        member = Member(process, number)
        self.members.append(member)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(plain(assignment)) + "\n")
            process.stdin.flush()
        threading.Thread(target=self._listen, args=(member,), daemon=True).start()

    def _listen(self, member: Member) -> None:
        assert member.process.stdout is not None
        for line in member.process.stdout:
            with contextlib.suppress(ValueError):  # what a library prints
                event = json.loads(line)
                if isinstance(event, dict):
                    self._events.put((member, event))
        self._events.put((member, None))

    def _noted(self, member: Member, event: Mapping[str, Any]) -> Mapping[str, Any]:
        match event["event"]:
            case "begun":
                member.item, member.row = event["id"], event["row"]
            case "done" | "failed" | "elsewhere" | "ended":
                member.item = ""
        return event

    def _buried(self, member: Member) -> Mapping[str, Any] | None:
        """After the end of a process: where it died, its item is blamed, and another begins."""
        code = member.process.wait()
        self.members.remove(member)
        if code == 0:
            return None
        how = f"its process ended with {_told(code)}"
        if not member.item:
            self._idle_deaths += 1
            if self._idle_deaths >= IDLE_DEATHS:
                return {"event": "ended", "exit": 1, "message": f"A batch cannot begin: {how}."}
        self._start(member.number)
        if not member.item:
            return None
        self.journal.append(STRUCK, member.item, {"row": member.row, "error": how})
        return {"event": "struck", "id": member.item, "row": member.row, "error": how}

    def _stop(self) -> None:
        """End all processes after the step that each is at, or at once if that takes long."""
        for member in self.members:
            member.process.send_signal(signal.SIGTERM)
        for member in self.members:
            try:
                member.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                member.process.kill()
                member.process.wait()
        self.members.clear()


def write_rows(rows: Iterable[JobRow], file: Path) -> None:
    """Rows as a file for the processes of a batch."""
    with open(file, "w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(plain(row)) + "\n")


def read_rows(file: Path) -> Iterator[JobRow]:
    """The rows in a file."""
    with open(file, encoding="utf-8") as lines:
        for line in lines:
            data = json.loads(line)
            yield JobRow(data["where"], data["fields"], data["name"], tuple(data["notes"]))


def _told(code: int) -> str:
    """An exit code as people say it."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"
