"""What public lists say of tags: slot, uses, other names, what a tag implies.

The table, tag_table.txt, is made by scripts/tag_table.py, and its head says where each fact
was seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from sakuga.prompt.listing import Listing

_PARTS = ("", "", "", "0", "", "")
_TABLE = Listing(Path(__file__).with_name("tag_table.txt"))


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
    given = _TABLE.cells(key)
    if given is None:
        return None
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
    return _TABLE.keys()
