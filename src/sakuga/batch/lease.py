"""Who draws what: a lease for each item, with a heartbeat and a fencing number.

A process has one file that says who it is, and beats by changing that file's time. A lease is
a hard link to it, ITEM.NUMBER, so that making one fails where it is there, and one beat is
that of all its leases. Whoever finds that an owner is dead takes the next number; the highest
number holds. No clock is compared with another: a beat is a count, and how long it has stood
still is measured by who watches.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sakuga.batch.journal import nothing

BEAT = 5.0  # seconds between beats
LOST = 90.0  # seconds without one: longer than network file systems keep what they know


@dataclass(frozen=True, slots=True)
class Lease:
    """An item that is ours, by a number that nobody had before."""

    item: str
    number: int


class Leases:
    """The leases in a folder; those of this process are held until they are released.

    lost: seconds after which an owner elsewhere that has not beaten is taken for dead; one on
    this machine is known to be. clock: seconds that only grow. at: as in `Journal`.
    """

    def __init__(
        self, folder: Path, *, lost: float = LOST, clock: Callable[[], float] = time.monotonic,
        at: Callable[[str], None] = nothing,
    ) -> None:  # fmt: skip
        self.folder, self.lost, self._clock, self._at = folder, lost, clock, at
        self._seen: dict[str, tuple[int, float]] = {}  # owner: its beat, and since when
        self._count = 1
        folder.mkdir(parents=True, exist_ok=True)
        self.owner = folder / f"owner-{os.urandom(8).hex()}"
        identity = {
            "owner": self.owner.name,
            "machine": machine(),
            "process": _process(os.getpid()),
        }
        with open(self.owner, "x", encoding="utf-8") as file:
            json.dump(identity, file)
        self._inode = self.owner.stat().st_ino
        self.beat()

    def claim(self, item: str) -> Lease | None:
        """Take an item that nobody living has; None where somebody does. Raises OSError."""
        number = self._last(item)
        if number and self._lives(self._file(item, number)):
            return None
        lease = Lease(item, number + 1)
        try:
            os.link(self.owner, self._file(item, lease.number))
        except FileExistsError:
            return None
        self._at("leased")
        return lease

    def holds(self, lease: Lease) -> bool:
        """Whether a lease is still ours, and no later one was given."""
        try:
            mine = self._file(lease.item, lease.number).stat().st_ino == self._inode
        except FileNotFoundError:
            return False
        return mine and not self._file(lease.item, lease.number + 1).exists()

    def release(self, lease: Lease) -> None:
        """Give an item back, with all leases of it that are dead."""
        if self.holds(lease):
            for number in range(1, lease.number + 1):
                with contextlib.suppress(OSError):
                    self._file(lease.item, number).unlink()

    def beat(self) -> None:
        """Say that this process lives."""
        self._count += 1
        self._at("beat")
        os.utime(self.owner, ns=(0, self._count * 10**9))

    @contextlib.contextmanager
    def beating(self, every: float = BEAT) -> Iterator[None]:
        """Within, this process beats; afterwards it has no leases."""
        ended = threading.Event()

        def beats() -> None:
            while not ended.wait(every):
                with contextlib.suppress(OSError):  # what fails for good fails at the next write
                    self.beat()

        thread = threading.Thread(target=beats, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with contextlib.suppress(OSError):
                self.owner.unlink()

    def sweep(self) -> None:
        """Remove what the dead have left, and the folder if nobody living has anything there."""
        with contextlib.suppress(OSError):
            for file in list(self.folder.iterdir()):
                if not self._lives(file):
                    file.unlink(missing_ok=True)
            self.folder.rmdir()

    def _file(self, item: str, number: int) -> Path:
        return self.folder / f"{item}.{number}"

    def _last(self, item: str) -> int:
        """The highest number that was given, 0 for none."""
        number = 0
        while self._file(item, number + 1).exists():
            number += 1
        return number

    def _lives(self, file: Path) -> bool:
        """Whether the owner of a lease lives, as far as one can tell."""
        try:
            beat = file.stat().st_mtime_ns
            identity = json.loads(file.read_text(encoding="utf-8"))
            owner, where, process = (identity[key] for key in ("owner", "machine", "process"))
        except FileNotFoundError:
            return False  # released just now
        except (ValueError, LookupError, TypeError):
            owner, where, process = str(file), "", ""  # whatever it is, it does not beat
        if where == machine():
            pid = str(process).partition(" ")[0]
            return pid.isdigit() and _process(int(pid)) == process
        before, since = self._seen.get(owner, (None, 0.0))
        if before != beat:
            self._seen[owner] = beat, self._clock()
            return True
        return self._clock() - since < self.lost


@lru_cache(maxsize=1)
def machine() -> str:
    """Where process numbers mean the same: one boot of one system, one container in it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux
        return f"{platform.node()} {uuid.getnode():x}"


def _process(pid: int) -> str:
    """A process by its number and when it began, as numbers are given again; "" if none."""
    stat = Path(f"/proc/{pid}/stat")
    if not Path("/proc/self/stat").exists():
        try:
            os.kill(pid, 0)
        except OSError:
            return ""
        return str(pid)
    try:
        state, *rest = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else f"{pid} {rest[18]}"
