"""The SHA-256 of files, each computed once per process as long as the file stays the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileState:
    """Size in bytes, times of the last write and the last change of any kind, and inode."""

    size: int
    modified_ns: int
    changed_ns: int
    inode: int


def hash_file(file: Path) -> str:
    """The SHA-256 of a file as it is now, in hex. Raises OSError."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_state(file: Path) -> FileState:
    """What tells a file that changed from one that did not. Raises OSError."""
    stat = file.stat()
    return FileState(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


@lru_cache(maxsize=64)
def _sha256(file: Path, state: FileState) -> str:
    """The digest; the state is there to notice a file that changed."""
    del state
    return hash_file(file)


def file_sha256(file: Path) -> str:
    """The digest of a file, computed once per process as long as the file stays the same."""
    return _sha256(file.resolve(), file_state(file))
