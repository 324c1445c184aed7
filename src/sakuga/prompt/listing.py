"""Lines sorted by their first cell, searched where they lie

No line is parsed that nobody asks for. A listing is a file of blocks of lines, with a head of
comments before the first block. It is read at the first look-up; to find a key takes one search
among the blocks and one within one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

_ANY = b"\t\xff"  # after every line of a key, before the lines of the next one


class Listing:
    """A file of sorted lines, their cells parted by tabs."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def cells(self, key: str) -> list[str] | None:
        """The cells of a key's line, the key first."""
        sought = key.encode("utf-8", "surrogatepass")
        block = b"\n%b\n" % self._blocks[bisect_right(self._blocks, sought + _ANY) - 1]
        start = block.find(b"\n%b\t" % sought) + 1
        return block[start : block.index(b"\n", start)].decode().split("\t") if start else None

    def keys(self) -> Iterator[str]:
        """Every key."""
        for block in self._blocks:
            yield from (line.partition(b"\t")[0].decode() for line in block.splitlines())

    @cached_property
    def _blocks(self) -> list[bytes]:
        return self._path.read_bytes().split(b"\n\n")[1:]
