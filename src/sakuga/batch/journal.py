"""What has become of the items of a batch: checksummed lines, appended and never changed.

Every process has a file of its own, so that no two write into one; what is known is what all
of them say together. A line counts if its checksum is right: one that was torn by a kill or a
full disk is passed over, and what it would have said is found out again.
"""

from __future__ import annotations

import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

SUFFIX = ".jsonl"
FATAL = 2  # deaths of a process over one item
DONE, FAILED, STRUCK, RETRIED = "done", "failed", "struck", "retried"


class Done(NamedTuple):
    """A picture that is durable: its file's name, bytes, time of change and SHA-256."""

    file: str
    size: int
    changed: int
    sha256: str


@dataclass(slots=True)
class Troubles:
    """What went wrong with an item: how often it failed or killed, when it was let try again."""

    failures: int = 0
    deaths: int = 0
    error: str = ""

    @property
    def settled(self) -> bool:
        """Whether it is not to be tried again."""
        return self.failures > 0 or self.deaths >= FATAL


def nothing(_place: str) -> None:
    """What happens at a place, when no failure is ordered there."""


class Journal:
    """The journal in a folder, and one file of it to append to, made when it is first needed.

    at: told of each place between two writes, so that tests can fail there.
    """

    def __init__(self, folder: Path, at: Callable[[str], None] = nothing) -> None:
        self.folder, self._at = folder, at
        self.done: dict[str, Done] = {}
        self.troubles: dict[str, Troubles] = {}
        self.torn = 0
        self._own: Path | None = None
        self._read: Counter[str] = Counter()  # bytes of each file

    def refresh(self) -> None:
        """Read what was appended since. Raises OSError."""
        with os.scandir(self.folder) as entries:
            files = sorted(
                (one.name, one.stat().st_size) for one in entries if one.name.endswith(SUFFIX)
            )
        for name, size in files:
            if size > self._read[name]:
                for entry in self._lines(name):
                    self._take(entry)

    def settled(self, item: str) -> bool:
        """Whether an item is done, or has gone wrong and is not to be tried again."""
        return item in self.done or (item in self.troubles and self.troubles[item].settled)

    def append(self, event: str, item: str, values: Mapping[str, Any]) -> None:
        """Write a line and wait until it is durable. Raises OSError."""
        entry = {"event": event, "id": item, **values}
        line = packed(entry)
        if self._own is None:
            self._own = self.folder / (os.urandom(8).hex() + SUFFIX)
        half = len(line) // 2
        with open(self._own, "ab", buffering=0) as file:
            if file.tell() > self._read[self._own.name]:
                line = b"\n" + line  # the last one may be torn: this must not become its end
            _write_all(file.fileno(), line[:half])
            self._at("line")
            _write_all(file.fileno(), line[half:])
            os.fsync(file.fileno())
            self._read[self._own.name] = file.tell()
        self._take(entry)

    def _lines(self, name: str) -> Iterator[dict[str, Any]]:
        """The sound lines that a file has got since; one without an end may still grow."""
        with open(self.folder / name, "rb") as file:
            file.seek(self._read[name])
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._read[name] += len(line)
                entry = unpacked(line)
                if entry is not None:
                    yield entry
                elif line.strip():
                    self.torn += 1

    def _take(self, entry: Mapping[str, Any]) -> None:
        """Count what a line says; lines of several files may come in any order."""
        event, item = str(entry["event"]), str(entry["id"])
        if event == DONE:
            self.done[item] = Done(entry["file"], entry["size"], entry["changed"], entry["sha256"])
            return
        trouble = self.troubles.setdefault(item, Troubles())
        match event:
            case "failed":
                trouble.failures += 1
            case "struck":
                trouble.deaths += 1
            case "retried":
                trouble.failures -= int(entry["failures"])
                trouble.deaths -= int(entry["deaths"])
        trouble.error = str(entry.get("error", trouble.error))


def packed(entry: Mapping[str, Any]) -> bytes:
    """A line: the checksum of some JSON, then that."""
    text = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def unpacked(line: bytes) -> dict[str, Any] | None:
    """What a line says; None of one that is not sound."""
    text = line[9:].rstrip(b"\n")
    if line[:9] != b"%08x " % zlib.crc32(text):
        return None
    try:
        entry = json.loads(text)
        sound = isinstance(entry, dict) and {"event", "id"} <= entry.keys()
    except ValueError:
        return None
    return entry if sound else None


def _write_all(handle: int, data: bytes) -> None:
    """A disk that is nearly full takes a part, and says so at the next."""
    while data:
        data = data[os.write(handle, data) :]
