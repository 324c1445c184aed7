"""Tags that complete what is begun: by how they begin, then by how a word of theirs does."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from heapq import nsmallest
from itertools import islice, takewhile

from sakuga.prompt.nearest import Vocabulary
from sakuga.prompt.slots import home_of, slot_of
from sakuga.prompt.tag_table import all_keys, known_tag
from sakuga.prompt.tags import normal

MOST = 50
LONGEST = 120  # characters of what is typed


@dataclass(frozen=True, slots=True)
class Completion:
    """A tag to write: how often it is used, what it describes, in which field it stands.

    `typed`: the other name that was begun, empty if it is its own. `taught`: whether the model
    lists it; None for a model that lists nothing.
    """

    tag: str
    uses: int
    slot: str
    field: str
    typed: str
    taught: bool | None


def complete(
    begun: str, *, field: str = "", vocabulary: Vocabulary | None = None, limit: int = 12
) -> tuple[Completion, ...]:
    """Tags for what is begun. What the model was taught comes first, then what the field takes.

    With nothing begun, what the model was taught of that field.
    """
    key = normal(begun[:LONGEST])
    taught = vocabulary.spelled if vocabulary else {}
    if key:
        offered = _offered(key, taught)
    else:
        offered = (_of_word(word, one) for one, word in taught.items())
    found = {one.tag: one for one in offered if key or field in ("", one.field)}

    def rank(one: Completion) -> tuple[bool, bool, bool, int, str]:
        begins = not (one.typed or one.tag).lower().startswith(key)
        return not one.taught, field not in ("", one.field), begins, -one.uses, one.tag

    return tuple(nsmallest(min(limit, MOST), found.values(), rank))


def _offered(key: str, taught: Mapping[str, str]) -> Iterator[Completion]:
    """Every tag of the table or the model that a key may become; the last of one tag counts."""
    inner = f"_{key}"
    yield from (_of_table(one, taught) for one in _all() if inner in one)
    begun = takewhile(
        lambda one: one.startswith(key), islice(_all(), bisect_left(_all(), key), None)
    )
    yield from (_of_table(one, taught) for one in begun)
    for one, word in taught.items():
        if one.startswith(key) or inner in one:
            yield _of_word(word, one)


def _of_table(key: str, taught: Mapping[str, str]) -> Completion:
    tag = known_tag(key)
    assert tag is not None
    known = (tag.key in taught) if taught else None
    typed = "" if tag.key == key else key
    return Completion(
        tag.name, tag.uses, slot_of(tag.key) or "", home_of(tag.key) or "", typed, known
    )


def _of_word(word: str, key: str) -> Completion:
    """A word that a model lists."""
    tag = known_tag(key)
    return Completion(
        word, tag.uses if tag else 0, slot_of(key) or "", home_of(key) or "", "", True
    )


@cache
def _all() -> list[str]:
    """Every key of the table, in order."""
    return sorted(all_keys())


def by_slot(vocabulary: Vocabulary, slots: Iterable[str]) -> dict[str, list[str]]:
    """What a model was taught, by what it describes; "" has names and what nothing places."""
    return {
        slot: sorted(vocabulary.spelled[key] for key in vocabulary.by_slot[slot])
        for slot in (*slots, "")
        if slot in vocabulary.by_slot
    }
