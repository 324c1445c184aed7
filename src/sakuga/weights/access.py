"""Which files may be opened: those that the system can read, within the folder they belong to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sakuga.errors import CorruptFile, ModelNotFound

MAX_NAME = 255  # bytes of a file name, as most file systems have it


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise ModelNotFound where the system cannot look at `path`, or at what is in it."""
    try:
        yield
    except OSError as error:
        raise ModelNotFound(
            "weights are where the system can read them",
            f"{error.strerror or error} for {str(path)[:MAX_NAME]}",
            "Check the path, and who may read what is there",
        ) from None


def confine(file: Path, root: Path) -> None:
    """Refuse a file whose links or dots lead out of `root`, with CorruptFile.

    The hub's download cache links each file of a snapshot to a blob of the same
    repository, or through it to the store of blobs that all repositories of the cache
    share; those links are followed.
    """
    real, home = file.resolve(), root.resolve()
    if real.is_relative_to(home):
        return
    for snapshot in (home, *home.parents):
        if snapshot.parent.name == "snapshots":
            repository = snapshot.parent.parent
            stores = (repository / "blobs", repository.parent / "blobs")
            if any(real.is_relative_to(store) for store in stores):
                return
            break
    raise CorruptFile(
        "the files of a checkpoint lie within its folder",
        f"{file} leads to {real}",
        "Copy the file in, or name it directly",
    )
