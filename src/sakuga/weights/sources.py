"""Opens a file of weights, of whatever kind, by what its first bytes say."""

from __future__ import annotations

from pathlib import Path

from sakuga.errors import LayoutError
from sakuga.weights.archive import is_from_torch, open_archive
from sakuga.weights.store import Store
from sakuga.weights.untrusted import reading


def open_source(path: Path, root: Path | None = None, state: str | None = None) -> Store:
    """The tensors of a file, of an index of shards, or of a folder that holds either.

    A file or shard may also be a torch archive, which is read without unpickling it. root,
    state: as `open_archive` takes them. Raises as that does, and as `Store.open` does, and
    LayoutError where a state dict is named of what is no archive.
    """
    with reading(path):
        archive = is_from_torch(path)
    if archive:
        return open_archive(path, root, state)
    if state is not None:
        raise LayoutError(
            "a torch archive may hold several state dicts, other files hold one",
            f"{state!r} asked of {path}",
            "Leave out --state",
        )
    return Store.open(path, root)
