"""What public lists say of tags: slot, uses, other names, what a tag implies.

The table, tag_table.txt, is made by scripts/tag_table.py, and its head says where each fact
was seen. It is read at the first look-up, as blocks of lines in the order of their keys: to
find a tag takes one search among the blocks and one within a block, and no line is parsed
that nobody asks for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

_PARTS = ("", "", "", "0", "", "")
_ANY = b"\t\xff"  # after every line of a key, before the lines of the next one


class KnownTag(NamedTuple):
    """A tag of the lists. `slot` is "" where we have none for it; keys as `normal` spells them."""

    key: str
    slot: str
    uses: int
    implies: tuple[str, ...]
    name: str


@lru_cache(4096)
def known_tag(key: str) -> KnownTag | None:
    """The tag that a key names, itself or by another of its names."""
    line = _line(key)
    if line is None:
        return None
    given = line.split("\t")
    key, slot, _, uses, implied, name = (*given, *_PARTS[len(given) :])
    if slot == "=":
        return known_tag(given[2])
    return KnownTag(key, slot, int(uses), tuple(implied.split()), name or key)


@lru_cache(4096)
def implied_by(key: str) -> tuple[KnownTag, ...]:
    """The tag that a key names, then all that it implies, nearest first."""
    found: dict[str, KnownTag] = {}
    waiting = [key]
    for each in waiting:
        known = known_tag(each)
        if known and known.key not in found:
            found[known.key] = known
            waiting += known.implies
    return tuple(found.values())


def all_keys() -> Iterator[str]:
    """Every key of the table, of tags and of their other names."""
    for block in _blocks():
        yield from (line.partition(b"\t")[0].decode() for line in block.splitlines())


@cache
def _blocks() -> list[bytes]:
    data = Path(__file__).with_name("tag_table.txt").read_bytes()
    return data.split(b"\n\n")[1:]


def _line(key: str) -> str | None:
    sought = key.encode("utf-8", "surrogatepass")
    block = b"\n%b\n" % _blocks()[bisect_right(_blocks(), sought + _ANY) - 1]
    start = block.find(b"\n%b\t" % sought) + 1
    return block[start : block.index(b"\n", start)].decode() if start else None
