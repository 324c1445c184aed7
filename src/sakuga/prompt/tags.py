"""Tags as people write them, and the table of what they decide about a character.

A character has one hair colour, one hair length, one eye colour and one skin: these are its
slots. A tag such as `long_blue_hair` decides two of them. It is read word by word from the
right, and only when every word is known, so that `hair_between_eyes`, `black_hairband` and
`red_eyeshadow` decide nothing. The table (tags.json) gives each word the kinds it may mean
(silver hair passes for grey and for white); two tags contradict each other when they share
none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from sakuga.prompt.nodes import Field, Span

SEPARATORS = ",，、､،﹐;；\n\r\x85\u2028\u2029"
_SEPARATOR = re.compile(
    r"(?P<reference>&(?:#\w{1,8}|\w{1,31});)"
    r"|,(?!(?<=\d,)\d{3}(?!\d))"  # not of 1,000
    r"|(?<=[^\W_])[;；]|(?<=[)\]}])[;；]"  # not of the faces ;) and ;_;
    r"|[，、､،﹐]|(?P<line>[\n\r\x85\u2028\u2029])"
)
_BLANK = r"[^\S\n\r\x85\u2028\u2029]"
_LIST_MARKS = re.compile(
    rf"{_BLANK}*+(?:(?:[•・▪◦‣①-⑳]{_BLANK}*+|(?:[-*–—·]|\(?\d{{1,2}}[.)]){_BLANK}++))++"
)
_WEIGHT = re.compile(r"^[0-9.]+::|(?<=[^\s:]):\s*[0-9.]+$|::$")
_BRACKETS = {")": "(", "]": "[", "}": "{"}
_LONGEST_TAG = 120  # characters; what is longer is prose
_SPACING = re.compile(r"[\s_\-]+")
_HEADS = {
    "hair": ("hair length", "hair colour"),
    "haired": ("hair length", "hair colour"),
    "eyes": ("eye colour",),
    "eyed": ("eye colour",),
    "skin": ("skin",),
    "skinned": ("skin",),
}
_MOST_WORDS = 4  # of a clothing tag; what has more is prose
_LONGEST = 2  # words in one value: very_long, light_brown

Spelling = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag of a field: as written, as tables spell it, and where it begins in the field."""

    text: str
    key: str
    field: Field
    start: int

    @property
    def span(self) -> Span:
        """Where it stands in the source."""
        return self.field.locate(self.start, self.start + len(self.text))


@dataclass(frozen=True, slots=True)
class Table:
    """What tags.json says, indexed."""

    values: Mapping[str, Mapping[str, frozenset[str]]]
    exact: Mapping[str, Mapping[str, frozenset[str]]]
    passing: frozenset[str]
    pairs: Mapping[str, tuple[str, ...]]
    homes: Mapping[str, frozenset[str]]


@cache
def tag_table() -> Table:
    """The shipped table, read once."""
    data = json.loads(Path(__file__).with_name("tags.json").read_text(encoding="utf-8"))
    colours = _kinds(data["colours"])
    return Table(
        values={
            "hair colour": colours,
            "hair length": _kinds(data["lengths"]),
            "eye colour": colours,
            "skin": _kinds(data["skins"]),
        },
        exact={
            slot: _unspaced(data["unspaced"], slot) | _kinds(known)
            for slot, known in data["exact"].items()
        },
        passing=frozenset(data["shades"]) | frozenset(data["plain_words"]),
        pairs={slot: tuple(marks) for slot, marks in data["pairs"].items()},
        homes={field: frozenset(known) for field, known in data["homes"].items()},
    )


@lru_cache(4096)
def decides(key: str) -> Mapping[str, frozenset[str]]:
    """slot -> the kinds a tag gives it; nothing for most tags."""
    found = {slot: kinds[key] for slot, kinds in tag_table().exact.items() if kinds.get(key)}
    words = key.split("_")
    slots = _HEADS.get(words.pop(), ())
    while slots and words:
        for size in range(min(_LONGEST, len(words)), 0, -1):
            value = "_".join(words[-size:])
            slot = next((slot for slot in slots if value in tag_table().values[slot]), None)
            if slot is not None:
                found[slot] = found.get(slot, frozenset()) | tag_table().values[slot][value]
                del words[-size:]
                break
        else:
            if words.pop() not in tag_table().passing:
                return {}
    return found


def allows_two(slot: str, key: str) -> bool:
    """Whether a tag says that a slot has more than one kind (`heterochromia`)."""
    return any(mark in key for mark in tag_table().pairs[slot])


@lru_cache(4096)
def home_of(key: str) -> str | None:
    """The field a tag belongs to, when the table knows: appearance, clothing, ..."""
    if decides(key):
        return "appearance"
    for field, known in tag_table().homes.items():
        if key in known:
            return field
    words = key.split("_")
    named = words[-1] in tag_table().homes["clothing"] and words[0] not in {"no", "without"}
    return "clothing" if named and len(words) <= _MOST_WORDS else None


@lru_cache(64)  # rule after rule asks for the tags of one field
def pieces(text: str) -> tuple[tuple[int, int], ...]:
    """Where the tags of a text stand, without what separates and lists them."""
    found: list[tuple[int, int]] = []
    start, begins_line = 0, True
    for match in (*_SEPARATOR.finditer(text), None):
        if match and match["reference"]:
            continue
        end = match.start() if match else len(text)
        marks = _LIST_MARKS.match(text, start, end) if begins_line else None
        raw = text[marks.end() if marks else start : end]
        tag = raw.lstrip()
        if tag:
            found.append((end - len(tag), end - len(tag) + len(tag.rstrip())))
        if match:
            begins_line = bool(match["line"]) or (begins_line and not tag)
            start = match.end()
    return tuple(found)


def tags(part: Field) -> Iterator[Tag]:
    """The tags of a field in reading order, whatever separates and weights them."""
    for start, end in pieces(part.text):
        if end - start <= _LONGEST_TAG:
            text = part.text[start:end]
            yield Tag(text, normal(text), part, start)


def tidied(text: str, spelling: Spelling | None = None) -> str:
    """The tags of a text as training has them: a comma and a space between, one space within."""
    found = (" ".join(text[start:end].split()) for start, end in pieces(text))
    return ", ".join(spelled(tag, spelling) if spelling else tag for tag in found)


def respelled(text: str, spelling: Spelling) -> str:
    """A text whose tags are in another spelling, and which is else as it was."""
    parts: list[str] = []
    done = 0
    for start, end in pieces(text):
        parts += text[done:start], spelled(text[start:end], spelling)
        done = end
    return "".join([*parts, text[done:]])


def spelling_of(words: Iterable[str]) -> Spelling:
    """How a model that knows these words spells tags."""
    known = sorted(words)
    return {normal(word): word for word in reversed(known)} | {word: word for word in known}


def spelled(tag: str, spelling: Spelling) -> str:
    """A tag as a model spells it; as it is, when it is weighted or unknown."""
    key = "_".join(tag.lower().split())
    other = _SPACING.sub("_", key)
    return spelling.get(key) or (spelling.get(other) if other == normal(tag) else None) or tag


@lru_cache(4096)
def normal(text: str) -> str:
    """A tag as tables spell it: `(Red Eyes:1.2)` is `red_eyes`."""
    bare = text.strip().lstrip("([{")
    while bare and bare.count(bare[-1]) > bare.count(_BRACKETS.get(bare[-1], bare[-1])):
        bare = bare[:-1]
    bare = _WEIGHT.sub("", bare).replace("\\", "").lower()
    return _SPACING.sub("_", bare).strip("_")


def _kinds(words: Mapping[str, str]) -> dict[str, frozenset[str]]:
    return {word: frozenset(kinds.split()) for word, kinds in words.items()}


def _unspaced(parts: Mapping[str, Any], slot: str) -> dict[str, frozenset[str]]:
    """Tags of scripts that put no space between words: 蓝色眼睛 is 蓝 + 色 + 眼睛."""
    return {
        f"{colour}{joint}{head}": frozenset(kinds.split())
        for colour, kinds in parts["colours"].items()
        for joint in parts["joints"]
        for head in parts["heads"].get(slot, ())
    }
