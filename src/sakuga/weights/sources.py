"""Opens a file of weights, of whatever kind, by what its first bytes say."""

from __future__ import annotations

from pathlib import Path

from sakuga.weights.archive import is_from_torch, open_archive
from sakuga.weights.store import Store


def open_source(path: Path, root: Path | None = None) -> Store:
    """The tensors of a file, of an index of shards, or of a folder that holds either.

    A file may also be a torch archive, which is read without unpickling it. root: as
    `Store.open` takes it. Raises as that does, and as `open_archive` does.
    """
    return open_archive(path) if is_from_torch(path) else Store.open(path, root)
