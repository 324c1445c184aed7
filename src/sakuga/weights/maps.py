"""Files mapped into memory, each once, for as long as something reads them."""

from __future__ import annotations

import mmap
from pathlib import Path


class FileMaps:
    """The bytes of files, mapped when they are first asked for, private to this process.

    What is written to them is changed for this process alone, never in the file.
    """

    def __init__(self) -> None:
        self._maps: dict[Path, memoryview] = {}

    def of(self, file: Path) -> memoryview:
        """All bytes of a file. They stay valid as long as they are referenced."""
        if file not in self._maps:
            self._maps[file] = _map(file)
        return self._maps[file]

    def release(self) -> None:
        """Let go of the memory that read pages take; views stay valid, and read them again.

        What was written to a view is lost.
        """
        for view in self._maps.values():
            if isinstance(view.obj, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                view.obj.madvise(mmap.MADV_DONTNEED)


def _map(file: Path) -> memoryview:
    with file.open("rb") as stream:
        # Copy on write: torch wants writable memory, and the file must stay untouched.
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY))
