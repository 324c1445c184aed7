"""A flat prompt taken apart: its regions, its lines, and what each piece of them says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from sakuga.prompt.mention import PEOPLE, Mention, Role, mention
from sakuga.prompt.names import ALIASES, CHARACTER_FIELDS, GENERAL_FIELDS
from sakuga.prompt.nodes import Field
from sakuga.prompt.phrases import read_phrase, sentences
from sakuga.prompt.speech import wide
from sakuga.prompt.tags import normal, pieces

_JOINTS = re.compile(
    r"(?<![^\s,，])(BREAK|AND|ADD(?:COMM|BASE|ROW|COL))(?![^\s,，])"
    r"|\{[^{}\n]{0,400}\}|(?<!\|)(\|{1,2})(?!\|)"
)
_LABEL = re.compile(r"([^:,;()\[\]{}<>]{1,40}?)\s*(?::\s+(?=\S)|(?<!\\)(\()(?=[^()]+\Z))")
_OPENED = re.compile(r"[(\[{]\s*(?=[^()\[\]{}]*\Z)")
_LETTERED = re.compile(
    r"(?:character|char|girl|boy|person|subject|woman|man)_?(?:[1-9]|[a-f])", re.A
)
_CAPTION = re.compile(r"caption:\s*", re.I)
_PHRASE = 3  # words that may be more than a tag
_WIDE_TAG = 4  # signs of a script without spaces that may be no more than one
_FIELDS = {*CHARACTER_FIELDS, *GENERAL_FIELDS, *ALIASES}
_DESCRIBING = {Role.COUNT, Role.PERSON, Role.NAME, Role.OWN}
_COMMON = {"ADDCOMM", "ADDBASE"}


@dataclass(frozen=True, slots=True)
class FlatParts:
    """What the pieces of a flat prompt say, in reading order.

    `regions`: how many there are; `common`: whether the first is said to be for all.
    """

    mentions: tuple[Mention, ...]
    regions: int
    common: bool


def take_apart(field: Field) -> FlatParts:
    """The mentions of a flat prompt."""
    found: list[Mention] = []
    region, common, start = 0, False, 0
    for match in (*_JOINTS.finditer(field.text), None):
        if match and not (match[1] or match[2]):
            continue  # a choice in braces
        end = match.start() if match else len(field.text)
        said = list(_region(field, start, end))
        found += (replace(one, region=region) for one in said)
        region += bool(said)
        if match:
            common = common or (region == 1 and match[1] in _COMMON)
            start = match.end()
    if any(one.role in _DESCRIBING and not one.prose for one in found):
        # Beside tags a sentence speaks of the same people again.
        found = [one for one in found if not one.prose or one.role is Role.CAPTION]
    placed = (replace(one, place=place) for place, one in enumerate(found))
    return FlatParts(tuple(placed), region, common)


def _region(field: Field, start: int, end: int) -> Iterator[Mention]:
    line, at = 0, start
    for match in (*re.finditer(r"\n", field.text[start:end]), None):
        stop = start + match.start() if match else end
        said = list(_line(field, at, stop))
        yield from (replace(one, line=line) for one in said)
        line += bool(said)
        at = stop + 1


def _line(field: Field, start: int, end: int) -> Iterator[Mention]:
    at = start
    for begin, stop in sentences(field.text, start, end):
        yield from _tags(field, at, begin)
        yield from _sentence(field, begin, stop)
        at = stop
    yield from _tags(field, at, end)


def _sentence(field: Field, start: int, end: int) -> Iterator[Mention]:
    text = field.text[start:end]
    start += len(text) - len(text.lstrip())
    if marked := _CAPTION.match(field.text, start, end):
        start = marked.end()
    text = field.text[start:end].strip()
    span = field.locate(start, start + len(text))
    yield Mention(" ".join(text.split()), "", span, Role.CAPTION, "caption")
    for one in read_phrase(text, field, start, prose=True).mentions:
        yield replace(one, prose=True)


def _tags(field: Field, start: int, end: int) -> Iterator[Mention]:
    text = field.text[start:end]
    for first, last in pieces(text):
        piece, place = text[first:last], start + first
        if opened := _OPENED.match(piece):
            place += opened.end()
            piece = piece[opened.end() :]
        label = _LABEL.match(piece)
        said = _label(label[1], field, place, listed=bool(label[2])) if label else []
        if label and (said or normal(label[1]) in _FIELDS):
            yield from said
            place += label.end()
            piece = piece[label.end() :]
        yield from _piece(piece, field, place)


def _label(text: str, field: Field, place: int, *, listed: bool) -> list[Mention]:
    """Whom a text before a colon or a list in brackets names; nothing where it names nobody."""
    said = mention(text, field, place)
    if listed and said[0].role is Role.UNKNOWN:
        return [replace(said[0], role=Role.NAME, field="n", guessed=True)]
    if _LETTERED.fullmatch(normal(text)):
        kind = next((kind for kind in ("girl", "boy") if normal(text).startswith(kind)), "")
        return [replace(said[0], role=Role.LABEL, kind=kind)]
    return said if all(one.role in {Role.NAME, Role.SIDE, Role.PERSON} for one in said) else []


def _piece(text: str, field: Field, place: int) -> Iterator[Mention]:
    said = mention(text, field, place)
    words = text.replace("_", " ").split(" ")
    phrase = len(words) >= _PHRASE or (len(words) > 1 and words[-1].lower() in PEOPLE)
    if said[0].role is Role.UNKNOWN and wide(text) > _WIDE_TAG:
        yield replace(said[0], role=Role.CAPTION, field="caption")
        return
    if said[0].role is not Role.UNKNOWN or not phrase:
        yield from said
        return
    read = read_phrase(text.replace("_", " "), field, place, prose=False)
    if not read.whole:
        read = read_phrase(text.replace("_", " "), field, place, prose=True)
        yield from (replace(one, role=Role.CAPTION) if read.mentions else one for one in said)
    elif not read.mentions:
        yield from said
    yield from read.mentions
