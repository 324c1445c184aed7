"""What a tag decides about a character, and which field it belongs to.

A character has one hair colour, one hair length, one eye colour and one skin. A tag such as
`long_blue_hair` decides two of them. It is read word by word from the right, and only when
every word is known, so that `hair_between_eyes`, `black_hairband` and `red_eyeshadow` decide
nothing. slots.json gives each word the kinds it may mean (silver hair passes for grey and
for white); two tags contradict each other when they share none, and not quite when their
kinds are neighbours. What else is known of a tag, its place among our slots and its other
names, is in the table of tags.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from sakuga.prompt.tag_table import implied_by, known_tag

FIELDS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("hair colour", "hair length", "hair style"), "appearance"),
        **dict.fromkeys(("eye colour", "eyes", "skin", "marks"), "appearance"),
        **dict.fromkeys(("face", "makeup", "features", "kind"), "appearance"),
        **dict.fromkeys(("clothing", "accessory"), "clothing"),
        "body": "body_type",
        "expression": "expression",
        **dict.fromkeys(("gaze", "pose"), "action"),
        **{
            field: field
            for field in (
                "interaction", "position", "count", "style", "background", "environment",
                "perspective", "atmosphere", "lighting", "quality", "objects", "other",
            )
        },
    }
)  # fmt: skip
"""slot -> the field its tags belong to."""

_HEADS = {
    "hair": ("hair length", "hair colour"),
    "haired": ("hair length", "hair colour"),
    "eyes": ("eye colour",),
    "eyed": ("eye colour",),
    "skin": ("skin",),
    "skinned": ("skin",),
}
_LONGEST = 2  # words in one value: very_long, light_brown
_MOST_WORDS = 4  # of a tag that its last word places; what has more is prose
# Slots of things: a tag that nobody listed is where its last word is, whatever is said of it.
_WORN = {"clothing", "accessory"}
_THINGS = {"clothing", "accessory", "hair style", "features"}


class Words(NamedTuple):
    """What slots.json says, indexed."""

    values: Mapping[str, Mapping[str, frozenset[str]]]
    exact: Mapping[str, dict[str, frozenset[str]]]
    passing: frozenset[str]
    neighbours: Mapping[str, frozenset[frozenset[str]]]
    pairs: Mapping[str, tuple[str, ...]]
    unspaced: Mapping[str, Any]
    slots: Mapping[str, str]


@lru_cache(4096)
def decides(key: str) -> Mapping[str, frozenset[str]]:
    """slot -> the kinds a tag gives it, by one of its names; nothing for most tags."""
    known = _decided(key)
    if not known and (tag := known_tag(key)) and tag.key != key:
        return _decided(tag.key)
    return known


def allows_two(slot: str, key: str) -> bool:
    """Whether a tag, or one that it implies, says that a slot has more than one kind."""
    keys = [key, *(tag.key for tag in implied_by(key))]
    return any(mark in each for mark in _words().pairs[slot] for each in keys)


def neighbours(slot: str, kinds: frozenset[str], others: frozenset[str]) -> bool:
    """Whether one person may call so what another calls otherwise: aqua and blue eyes."""
    near = _words().neighbours.get(slot, frozenset())
    return any(frozenset((one, other)) in near for one in kinds for other in others)


@lru_cache(4096)
def slot_of(key: str) -> str | None:
    """The slot of a tag, when it decides one, is known, or is named after a known thing."""
    if decided := decides(key):
        return next(iter(decided))
    if slot := _listed(key):
        return slot
    first, *rest = key.split("_")
    if not rest or len(rest) >= _MOST_WORDS or first in {"no", "without"}:
        return None
    if _listed(first) == "pose":  # holding_dress
        return "pose"
    slot = _listed("_".join(rest[-2:])) or _listed(rest[-1])
    return slot if slot in _THINGS else None


def is_worn(key: str) -> bool:
    """Whether a tag is known as a thing to wear, and does not only end in the word for one."""
    return _listed(key) in _WORN


def home_of(key: str) -> str | None:
    """The field a tag belongs to, when its slot is known: appearance, clothing, ..."""
    slot = slot_of(key)
    return FIELDS[slot] if slot else None


def _listed(key: str) -> str | None:
    tag = known_tag(key)
    return _words().slots.get(key) or (tag.slot if tag else None) or None


@lru_cache(4096)
def _decided(key: str) -> Mapping[str, frozenset[str]]:
    exact = _words().exact if key.isascii() else _unspaced()
    found = {slot: kinds[key] for slot, kinds in exact.items() if kinds.get(key)}
    if found:
        return found
    words = key.split("_")
    slots = _HEADS.get(words.pop(), ())
    while slots and words:
        for size in range(min(_LONGEST, len(words)), 0, -1):
            value = "_".join(words[-size:])
            slot = next((slot for slot in slots if value in _words().values[slot]), None)
            if slot is not None:
                found[slot] = found.get(slot, frozenset()) | _words().values[slot][value]
                del words[-size:]
                break
        else:
            if words.pop() not in _words().passing:
                return {}
    return found


@cache
def _words() -> Words:
    """The shipped words, read once."""
    data = json.loads(Path(__file__).with_name("slots.json").read_text(encoding="utf-8"))
    colours = _kinds(data["colours"])
    near = {
        slot: frozenset(frozenset(pair.split()) for pair in pairs)
        for slot, pairs in data["neighbours"].items()
    }
    return Words(
        values={
            "hair colour": colours,
            "hair length": _kinds(data["lengths"]),
            "eye colour": colours,
            "skin": _kinds(data["skins"]),
        },
        exact={slot: _kinds(known) for slot, known in data["exact"].items()},
        passing=frozenset(data["shades"]) | frozenset(data["plain_words"]),
        neighbours={**near, "eye colour": near["hair colour"]},
        pairs={slot: tuple(marks) for slot, marks in data["pairs"].items()},
        unspaced=data["unspaced"],
        slots={word: slot for slot, words in data["slots"].items() for word in words},
    )


def _kinds(words: Mapping[str, str]) -> dict[str, frozenset[str]]:
    return {word: frozenset(kinds.split()) for word, kinds in words.items()}


@cache
def _unspaced() -> Mapping[str, Mapping[str, frozenset[str]]]:
    """Tags of scripts that put no space between words: 蓝色眼睛 is 蓝 + 色 + 眼睛."""
    parts = _words().unspaced
    return {
        slot: {
            f"{colour}{joint}{head}": frozenset(kinds.split())
            for colour, kinds in parts["colours"].items()
            for joint in parts["joints"]
            for head in parts["heads"].get(slot, ())
        }
        | exact
        for slot, exact in _words().exact.items()
    }
