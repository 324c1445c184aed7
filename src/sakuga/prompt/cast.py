"""Who is drawn most, and from which works: names, as prompts have them.

The list, cast.txt, is made by scripts/cast.py, and its head says where each fact was seen.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from sakuga.prompt.listing import Listing

_CAST = Listing(Path(__file__).with_name("cast.txt"))
_QUALIFIED = re.compile(r"(.+)_\(([^()]+)\)")
_PAIR = re.compile(r"([a-z]+)_([a-z]+)")


class KnownName(NamedTuple):
    """A character or a work. `boy`: whether it is known to be a boy; most others are girls."""

    key: str
    kind: Literal["character", "work"]
    boy: bool = False


@lru_cache(4096)
def known_name(key: str) -> KnownName | None:
    """Whom a key names, also with the family name last, or with a work behind."""
    if found := _listed(key):
        return found
    if swapped := _PAIR.fullmatch(key):
        return _listed(f"{swapped[2]}_{swapped[1]}")
    qualified = _QUALIFIED.fullmatch(key)
    if qualified is None:
        return None
    inner = _listed(qualified[2])
    if inner is None or inner.kind != "work":
        return None
    plain = known_name(qualified[1])
    return KnownName(key, "character", plain is not None and plain.boy)


def _listed(key: str) -> KnownName | None:
    cells = _CAST.cells(key)
    if cells is None:
        return None
    if cells[1] == "=":
        return _listed(cells[2])
    return KnownName(key, "character" if cells[1] == "c" else "work", cells[2:] == ["m"])
