"""Sentences and phrases: what of them is surely about whom, and what is left."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple

from sakuga.prompt.mention import NUMBERS, PEOPLE, PLURALS, SIDE, Mention, Role, mention, person
from sakuga.prompt.nodes import Field
from sakuga.prompt.slots import decides, slot_of
from sakuga.prompt.tag_table import known_tag
from sakuga.prompt.tags import pieces

_WORD = re.compile(r"[\w'’\-/]+|[^\w\s]")
_LONGEST = 5  # words of what is looked up
_LISTED_WORDS = 5  # a piece of more may be a sentence
_SHORTEST = 4  # words of a sentence
_FILLER = frozenset(
    """
    a an the and with in on at of to from by is are was has have wearing wears who that she he
    they it her his their them its while as also very some there , ; : . ! ? under near beside
    through stands stand one other next
    """.split()  # noqa: SIM905 (a list would be forty lines)
)
_BEFORE_PLACES = frozenset(["in", "on", "at", "under", "by", "near", "inside", "through"])
_STANDING = frozenset(["on", "at", "in"])
_LIMBS = frozenset(["hand", "arm", "eye", "leg", "foot", "shoulder", "cheek", "side"])
_ARTICLES = frozenset(["a", "an", "the"])
_ENDS = re.compile(r"[.!?](?=\s|\Z)|[。！？]")
_BEGINS = re.compile(
    r"(?:a|an|the|she|he|they|it|her|his|there|two|three|this|in|on|under)\s", re.I
)
_VERBS = re.compile(r"\b(?:is|are|was|were|has|have|wears|stands|sits|looks|holds|walks|runs)\b")
_SURE = frozenset(
    ("hair colour", "hair length", "hair style", "eye colour", "skin", "features", "clothing",
     "accessory", "expression", "pose", "gaze", "interaction")
)  # fmt: skip
_HEADS = {"haired": "hair", "eyed": "eyes", "skinned": "skin"}


class Read(NamedTuple):
    """What was understood of a phrase, and whether that was all of it."""

    mentions: list[Mention]
    whole: bool


def sentences(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Where sentences stand in a part of a text, and what is too long for a tag."""
    found: list[tuple[int, int]] = []
    at = start
    for match in (*_ENDS.finditer(text, start, end), None):
        stop = match.end() if match else end
        begin = _beginning(text, at, stop, ended=match is not None)
        if begin is not None:
            found.append((begin, stop))
        at = stop
    return found


def _beginning(text: str, start: int, end: int, *, ended: bool) -> int | None:
    """Where the sentence begins that may end a part of a text; tags may stand before it."""
    part = text[start:end]
    if not part.isascii() and ended and part.rstrip()[-1:] in "。！？":
        return start + len(part) - len(part.lstrip())
    for first, last in pieces(part):
        piece = part[first:last]
        words = piece.count(" ") + 1
        whole = part[first:].count(" ") + 1
        if ended and whole >= _SHORTEST and (words >= _LISTED_WORDS or _BEGINS.match(piece)):
            return start + first
        if not ended and words > _LISTED_WORDS and _VERBS.search(piece):
            return start + first
    return None


def read_phrase(text: str, field: Field, start: int, *, prose: bool) -> Read:
    """What a phrase says of people and places; of `prose`, only what is sure."""
    words = list(_WORD.finditer(text))
    found: list[Mention] = []
    whole, at, close = True, 0, False
    while at < len(words):
        size, said = _longest(words, at, field, start, prose=prose)
        role = said[0].role if said else None
        found[_place(found, role, close) :] = [*said, *found[_place(found, role, close) :]]
        close = role is Role.OWN
        if not size:
            whole = whole and words[at][0].lower() in _FILLER
        at += size or 1
    return Read(found, whole)


def _place(found: list[Mention], role: Role | None, close: bool) -> int:
    """Where something said belongs among what was: who somebody is before what is beside that."""
    if role is Role.PERSON and close:  # blue-haired girl
        return len(found) - 1
    if role is Role.SIDE:  # a girl with blue hair on the left
        for at in range(len(found), 0, -1):
            if found[at - 1].role is Role.SIDE:
                break
            if found[at - 1].role is Role.PERSON:
                return at
    return len(found)


def _longest(
    words: list[re.Match[str]], at: int, field: Field, start: int, *, prose: bool
) -> tuple[int, list[Mention]]:
    """How many words from here on say something, and what."""
    for size in range(min(_LONGEST, len(words) - at), 0, -1):
        chosen = words[at : at + size]
        low = [word[0].lower() for word in chosen]
        text = chosen[0].string[chosen[0].start() : chosen[-1].end()]
        key = "_".join(low)
        place = start + chosen[0].start()
        base = Mention(text, key, field.locate(place, place + len(text)), Role.UNKNOWN)
        side = SIDE.fullmatch(key)
        if side and _is_side(words, at, size):
            return size, [
                replace(base, role=Role.SIDE, field="position", text=side[1].replace("_", " "))
            ]
        if size == 1 and key in PEOPLE:
            definite = at > 0 and words[at - 1][0].lower() == "the"
            return size, [replace(person(base, key), definite=definite)]
        if size == 2 and low[1] in PLURALS and low[0] in NUMBERS:
            return size, mention(text, field, place)
        if _FILLER.isdisjoint(low) and not any(word in PEOPLE for word in low):
            said = _said(text, key, field, place)
            if said and (not prose or _is_sure(said, words, at)):
                return size, [said]
    return 0, []


def _is_side(words: list[re.Match[str]], at: int, size: int) -> bool:
    """Whether words say where somebody is: not `her left hand`, not `looking to the left`."""
    first = words[at][0].lower()
    behind = words[at + size][0].lower() if at + size < len(words) else ""
    return (size > 2 and first in _STANDING and behind not in _LIMBS) or behind in PEOPLE


def _said(text: str, key: str, field: Field, place: int) -> Mention | None:
    """A tag among words: known as it stands, or a thing behind its colours."""
    first, _, last = text.rpartition("-" if "-" in text.rsplit(maxsplit=1)[-1] else " ")
    if last.lower() in _HEADS and first:
        one = mention(f"{first} {_HEADS[last.lower()]}", field, place)[0]
        return replace(one, span=field.locate(place, place + len(text)))
    adjectives = key.split("_")[:-1]
    coloured = adjectives and decides(f"{adjectives[0]}_hair")
    if not (known_tag(key) or decides(key) or (coloured and slot_of(key))):
        return None
    one = mention(text, field, place)[0]
    return one if one.role in {Role.OWN, Role.MUTUAL, Role.GENERAL} and one.slot else None


def _is_sure(said: Mention, words: list[re.Match[str]], at: int) -> bool:
    """Whether a sentence means by these words what a list of tags would."""
    if said.slot in _SURE:
        return True
    before = [word[0].lower() for word in words[max(at - 2, 0) : at]]
    placed = before[-1:] and before[-1] in _ARTICLES and before[0] in _BEFORE_PLACES
    return said.field in {"background", "environment"} and bool(placed)
