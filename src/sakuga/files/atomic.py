"""Files written whole or not at all: as a draft beside their place, then moved there in one step.

Whatever ends the writing, a full disk, Ctrl-C or a killed process, the place still holds what
it held before. Only a killed process leaves its draft behind.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sakuga.errors import OutputExists

DRAFT = (".sakuga-", ".part")  # how the name of a draft begins and ends
ABANDONED = 3600.0  # seconds after which whoever wrote a draft is taken to be dead


def write_atomically(
    path: Path, data: bytes, *, replace: bool, before: Callable[[], None] = lambda: None
) -> None:
    """Make `path` hold all of `data`, or leave it as it was; once done, it survives a power cut.

    before: called when all is written but for the last step; what it raises leaves all as it was.
    Raises OutputExists if the file is there and `replace` is False, OSError where the system
    cannot write it.
    """
    with _draft(path, replace=replace) as draft, open(draft, "xb", opener=_new) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        before()
    _sync_folder(path.parent)


def build_atomically(path: Path, build: Callable[[Path], object]) -> None:
    """Let `build` write a new file under the name it is given, then let that be `path`.

    What is at `path` is replaced, and everyone may read what is there then. Flushing to the
    disk is left to `build`. Raises OSError, and whatever `build` raises.
    """
    with _draft(path, replace=True) as draft:
        build(draft)
        os.chmod(draft, 0o644)  # safetensors makes files that only their owner may read


def write_private(path: Path, data: bytes) -> None:
    """Make `path` hold all of `data` for this user alone, or leave it as it was.

    Folders that are missing are made, for this user alone too. What is at `path` is replaced.
    Nothing is flushed to the disk: after a power cut the file may hold anything. Raises OSError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _draft(path, replace=True) as draft, open(draft, "xb", opener=_private) as file:
        file.write(data)


def refuse_existing(path: Path, *, replace: bool = False) -> None:
    """Raise OutputExists if `path` is a folder, or is taken and not to be replaced."""
    if path.is_dir():
        raise OutputExists("one file is written", f"the folder {path}", "Choose another name.")
    if not replace and (path.exists() or path.is_symlink()):
        raise _taken(path)


def try_writing(path: Path, size: int = 0) -> None:
    """Write a draft of `size` bytes beside `path`, and remove it. Raises OSError where that fails.

    A name that the system does not take fails too.
    """
    with contextlib.suppress(FileNotFoundError):
        path.lstat()
    draft = _draft_of(path)
    try:
        with open(draft, "xb", opener=_private) as file:
            file.write(bytes(size))
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def sweep(folder: Path) -> None:
    """Remove the drafts that killed processes left in a folder. Raises OSError if it is none."""
    with os.scandir(folder) as entries:
        drafts = [one for one in entries if one.name.startswith(DRAFT[0])]
    for one in drafts:
        with contextlib.suppress(OSError):
            age = time.time() - one.stat(follow_symlinks=False).st_mtime
            if one.name.endswith(DRAFT[1]) and age > ABANDONED:
                os.unlink(one)


@contextlib.contextmanager
def _draft(path: Path, *, replace: bool) -> Iterator[Path]:
    """A free name beside `path`; the file written there is moved to `path` at the end.

    Where writing or moving fails, the draft is removed.
    """
    draft = _draft_of(path)
    try:
        yield draft
        _move(draft, path, replace=replace)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def _draft_of(path: Path) -> Path:
    """A name beside `path` that nobody can know before, however long the file's own is."""
    return path.with_name(os.urandom(8).hex().join(DRAFT))


def _move(draft: Path, path: Path, *, replace: bool) -> None:
    if replace:
        os.replace(draft, path)
        return
    try:
        # A hard link, unlike a rename, fails when another process has just made the file.
        os.link(draft, path)
    except FileExistsError:
        raise _taken(path) from None
    except OSError:  # a file system without hard links
        refuse_existing(path)
        os.replace(draft, path)


def _new(path: str, flags: int) -> int:
    """Open a new file; flags have O_EXCL, and here no link is followed either."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _taken(path: Path) -> OutputExists:
    return OutputExists(
        "a file is never overwritten unasked", str(path), "Use --force, or another name."
    )
