"""Opens a file of weights, of whatever kind, by what its first bytes say."""

from __future__ import annotations

from pathlib import Path

from sakuga.weights.store import Store


def open_source(path: Path, root: Path | None = None) -> Store:
    """The tensors of a file, of an index of shards, or of a folder that holds either.

    root: as `Store.open` takes it. Raises as that does.
    """
    return Store.open(path, root)
