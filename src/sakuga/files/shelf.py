"""A folder of what can be computed again: bounded, shared between processes, never trusted.

A file appears whole or not at all, and any file may vanish at any moment. Nothing is flushed
to the disk: after a power cut a file may hold anything, so whoever reads one checks it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePath

from sakuga.files.atomic import sweep, try_writing, write_private


def cache_folder(environ: Mapping[str, str], platform: str) -> Path | None:
    """Where a person's caches are, by the habits of their system; None where there is no home.

    environ: the environment; SAKUGA_CACHE names the folder outright. platform: as
    `sys.platform`. Source: the XDG Base Directory Specification 0.8, which also says that a
    relative XDG_CACHE_HOME counts as none.
    """
    if chosen := environ.get("SAKUGA_CACHE"):
        return Path(chosen)
    if platform == "win32":
        home, base = environ.get("USERPROFILE"), environ.get("LOCALAPPDATA")
        inner, leaf = "AppData/Local", "sakuga/Cache"
    elif platform == "darwin":
        home, base = environ.get("HOME"), None
        inner, leaf = "Library/Caches", "sakuga"
    else:
        home, base = environ.get("HOME"), environ.get("XDG_CACHE_HOME")
        base = base if base and PurePath(base).is_absolute() else None
        inner, leaf = ".cache", "sakuga"
    if base:
        return Path(base, leaf)
    return Path(home, inner, leaf) if home else None


class Shelf:
    """A cache on disk: files named by a SHA-256, together at most `limit` bytes.

    Where there are more, the least recently used are removed.
    Any number of processes may share a shelf. Each keeps the limit after its own write;
    between another's write and its clearing up there may be one file too many. Files with
    other names are not counted and not touched, whoever put them there.
    """

    def __init__(self, folder: Path, suffix: str, limit: int) -> None:
        self.folder, self.suffix, self.limit = folder, suffix, limit

    def file(self, name: str) -> Path:
        """Where the bytes of a name, 64 hexadecimal digits, lie."""
        return self.folder / (name + self.suffix)

    def read(self, name: str) -> bytes | None:
        """The bytes of a name, which is now the last one used; None where there are none.

        Of a file longer than the limit, which cannot be ours, no more than that is read.
        """
        file = self.file(name)
        try:
            with file.open("rb") as stream:
                # What is asked for is allocated before it is read.
                data = stream.read(min(self.limit, os.fstat(stream.fileno()).st_size))
        except OSError:
            return None
        with contextlib.suppress(OSError):  # a folder that may only be read is of use too
            os.utime(file)
        return data

    def write(self, name: str, data: bytes) -> None:
        """Keep bytes under a name, unless they alone pass the limit. Raises OSError."""
        if len(data) <= self.limit:
            write_private(self.file(name), data)
            self._clear(self.file(name).name)
            sweep(self.folder)

    def prove(self) -> None:
        """Try whether anything can be kept here. Raises OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try_writing(self.folder / "0")

    def drop(self, name: str) -> None:
        """Forget a name."""
        with contextlib.suppress(OSError):
            self.file(name).unlink()

    def _clear(self, newest: str) -> None:
        """Remove files, the least recently used first, until the rest keep the limit.

        The newest stays even where clocks disagree and others claim to be of tomorrow.
        """
        found = {}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if re.fullmatch("[0-9a-f]{64}" + re.escape(self.suffix), entry.name):
                    with contextlib.suppress(OSError):  # another process has just removed it
                        found[entry.name] = entry.stat(follow_symlinks=False)
        total = sum(status.st_size for status in found.values())
        for name in sorted(found.keys() - {newest}, key=lambda name: found[name].st_mtime_ns):
            if total <= self.limit:
                return
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()
            total -= found[name].st_size
