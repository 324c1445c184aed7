"""Remembers the SHA-256 of weight files between runs: hashing 16 GB takes ten seconds.

A file is known by its path, size, times and inode, as `make` and `git` know theirs. One that
was written a moment ago may change again within the same tick of the clock, so it is not
remembered yet.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

from sakuga.api.codec import plain, typed
from sakuga.errors import RequestError
from sakuga.files.atomic import sweep, write_private
from sakuga.weights.sha256 import FileState, file_sha256, file_state, hash_file

NAME = "digests.json"
SETTLED = 2.0  # seconds; the coarsest clock in use, FAT's, ticks this slowly
MAX_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class Known:
    """The digest that a file had in one state."""

    path: str
    state: FileState
    sha256: str

    def holds(self) -> bool:
        """Whether the file is still there, in the same state."""
        try:
            return file_state(Path(self.path)) == self.state
        except (OSError, ValueError):  # a path with a NUL cannot even be asked for
            return False


@dataclass(frozen=True, slots=True)
class Page:
    """What the JSON file holds."""

    files: tuple[Known, ...]


class DigestCache:
    """SHA-256 by file, kept in one JSON file of a cache folder that processes may share.

    It never raises on account of that folder: what cannot be read is unknown, what cannot be
    written is known to this process alone. settled: seconds that a file must have been left
    alone before its digest is remembered.
    """

    def __init__(self, folder: Path, settled: float = SETTLED) -> None:
        self.file = folder / NAME
        self.settled = settled
        self._known: dict[str, Known] = {}

    def of(self, file: Path) -> str:
        """The digest of a file in hex, computed if the file is new or changed. Raises OSError."""
        path, state = str(file.resolve()), file_state(file)
        for known in (self._known.get(path), self._read().get(path)):
            if known is not None and known.state == state:
                self._known[path] = known
                return known.sha256
        now = time.time_ns()
        if min(abs(now - state.modified_ns), abs(now - state.changed_ns)) < self.settled * 1e9:
            return file_sha256(file)
        # The state was read before the bytes: should the file change while it is hashed, its new
        # state matches no entry, and it is hashed again.
        self._known[path] = Known(path, state, hash_file(file))
        self._write()
        return self._known[path].sha256

    def _read(self) -> dict[str, Known]:
        """What the file says, by path; nothing where it is missing, damaged or not ours."""
        try:
            with self.file.open("rb") as stream:
                page = typed(Page, json.loads(stream.read(MAX_BYTES)))
        except (OSError, ValueError, RecursionError, RequestError):
            return {}
        return {one.path: one for one in page.files if re.fullmatch("[0-9a-f]{64}", one.sha256)}

    def _write(self) -> None:
        """Add what this process knows to what others wrote; leave out what no longer holds."""
        every = [*self._read().values(), *self._known.values()]
        kept = {one.path: one for one in every if one.holds()}
        page = Page(tuple(kept[path] for path in sorted(kept)))
        with contextlib.suppress(OSError):
            write_private(self.file, json.dumps(plain(page), indent=1).encode())
            sweep(self.file.parent)
