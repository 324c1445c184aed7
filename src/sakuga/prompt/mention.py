"""What one piece of a flat prompt says: of how many, of whom, of which field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from types import MappingProxyType

from sakuga.prompt.cast import known_name
from sakuga.prompt.counts import counts_of
from sakuga.prompt.nodes import Field, Span
from sakuga.prompt.slots import FIELDS, slot_of
from sakuga.prompt.tag_table import known_tag
from sakuga.prompt.tags import Tag, normal


class Role(Enum):
    """Whom a piece is about, or whom it brings in."""

    COUNT = auto()  # how many there are
    PERSON = auto()  # one girl, one boy: counted, or begun
    NAME = auto()
    SIDE = auto()
    LABEL = auto()  # `character 1:`
    OWN = auto()  # what one has
    SHARED = auto()  # what all have, as the text says
    MUTUAL = auto()  # what is done together
    GENERAL = auto()
    UNKNOWN = auto()
    CAPTION = auto()


@dataclass(frozen=True, slots=True)
class Mention:
    """A piece as it is to be written, what it is about, and where it stands: the `place`-th.

    `kind`: girl, boy or other, of a person or a name. `people`: what a count comes to, each
    with whether that many is the least. `guessed`: by its look alone. `definite`: one who may
    have been spoken of before. `prose`: of a sentence.
    """

    text: str
    key: str
    span: Span
    role: Role
    field: str = "other"
    slot: str = ""
    kind: str = ""
    people: tuple[tuple[str, int, bool], ...] = ()
    region: int = 0
    line: int = 0
    place: int = 0
    guessed: bool = False
    definite: bool = False
    prose: bool = False


PEOPLE: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("girl", "woman", "lady", "female", "1girl"), "girl"),
        **dict.fromkeys(("女の子", "少女", "女孩", "女孩子", "女生", "女性", "女人"), "girl"),
        **dict.fromkeys(("boy", "man", "guy", "male", "1boy"), "boy"),
        **dict.fromkeys(("男の子", "少年", "男孩", "男孩子", "男生", "男性", "男人"), "boy"),
        "1other": "other",
    }
)
PLURALS: Mapping[str, str] = MappingProxyType(
    {"girls": "girl", "women": "woman", "ladies": "lady", "boys": "boy", "men": "man",
     "guys": "guy"}
)  # fmt: skip
NUMBERS: Mapping[str, int] = MappingProxyType(
    {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6,
     "一": 1, "两": 2, "兩": 2, "二": 2, "三": 3, "四": 4, "五": 5, "六": 6}
)  # fmt: skip

_WIDE_PERSON = "|".join(sorted((word for word in PEOPLE if not word.isascii()), key=len)[::-1])
_WIDE_COUNT = re.compile(rf"([1-6一两兩二三四五六])?(?:人|个|個|名|位)?の?({_WIDE_PERSON})")
_WIDE_JOINT = re.compile("[と和与與]")
_PERSON_WORD = "|".join(word for word in (*PEOPLE, *PLURALS) if word.isascii() and word.isalpha())
_PLAIN_COUNT = re.compile(rf"(?:({'|'.join(w for w in NUMBERS if w.isascii())}|[1-6])_)?"
                          rf"({_PERSON_WORD})")  # fmt: skip
_PLACE = r"(?:far_)?(?:left|right|middle|center|centre|foreground)"
SIDE = re.compile(
    rf"(?:(?:on|to|at|in)_)?(?:the_|his_|her_)?({_PLACE}|(?:back|front|top|bottom)_(?:left|right))"
    r"(?:_side|_hand_side)?"
)
_SIDED = re.compile(
    rf"(?:the_|a_)?(?:({_PLACE})_({_PERSON_WORD})|({_PERSON_WORD})_(?:on|to|at|in)_(?:the_)?({_PLACE})"
    r"(?:_side)?)"
)
_ALL = re.compile(r"(?:both|each|all)(?: of them| girls| boys)?(?: are| have| wear)? ", re.I)
_WORN = re.compile(r"(?:(?:wearing|with|has|having|dressed in) )?(?:(?:an?|the) )?", re.I)
_ARTIST = re.compile(r"(?:artist:|drawn_by_|art_by_|by_|@|in_the_style_of_)(?=.)|.*_\(artist\)\Z")
_RATING = re.compile(
    r"(?:rating[:_])?(?:safe|sfw|general|sensitive|questionable|nsfw|explicit|suggestive)"
    r"|source_\w+"
)
_QUALITY = re.compile(r"score_\d\w*|year[_ ]?\d{4}")
_AND = re.compile(r"[ _](?:and|&)[ _](?=.)")
_NAMED = re.compile(r"[A-Z][\w'.-]+(?: [A-Z][\w'.-]+){0,2}")
_FEW = 3  # words
_THINGS = {"background", "objects", "lighting"}
_OWN_FIELDS = {"appearance", "clothing", "body_type", "expression", "action"}


def mention(text: str, field: Field, start: int) -> list[Mention]:
    """What a piece says; a person's with a side is two. Nothing known is UNKNOWN, in <other>."""
    for prefix, role in (_ALL, Role.SHARED), (_WORN, None):
        match = prefix.match(text)
        if match and match.end() and not known_tag(normal(text)):
            inner = mention(text[match.end() :], field, start + match.end())[0]
            if inner.role in {Role.OWN, Role.MUTUAL, Role.SHARED}:
                return [replace(inner, role=role or inner.role)]
    found = _read(text, field, start)
    if found[0].role is Role.UNKNOWN and (joint := _AND.search(text)):
        ends = ((0, joint.start()), (joint.end(), len(text)))
        both = [_read(text[first:last], field, start + first)[0] for first, last in ends]
        if all(one.role is Role.NAME for one in both):
            return both
    return found


def _read(text: str, field: Field, start: int) -> list[Mention]:
    key = normal(text)
    base = Mention(_bare(text), key, field.locate(start, start + len(text)), Role.UNKNOWN)
    if found := _people(base, Tag(text, key, field, start)):
        return found
    if SIDE.fullmatch(key):
        return [replace(base, role=Role.SIDE, field="position")]
    if field_name := _named_by_form(key):
        return [replace(base, role=Role.GENERAL, field=field_name)]
    if slot := slot_of(key):
        return [_of_slot(base, slot)]
    named = _named(base)
    if named.role is Role.UNKNOWN and (slot := _head_of(key)):
        return [_of_slot(base, slot)]
    return [named]


def _head_of(key: str) -> str | None:
    """The slot of the thing that a few words end in, where that is no part of anybody."""
    words = key.split("_")
    slot = slot_of(words[-1]) if 1 < len(words) <= _FEW else None
    return slot if slot in _THINGS else None


def _named_by_form(key: str) -> str | None:
    """The field of what is told by how it is written: artists, ratings, scores and years."""
    if _ARTIST.match(key) and not known_tag(key):
        return "artists"
    return "other" if _RATING.fullmatch(key) else "quality" if _QUALITY.fullmatch(key) else None


def _named(base: Mention) -> Mention:
    """A name of a character or of a work; what is neither, as it is."""
    name = known_name(base.key)
    if name and name.kind == "character":
        return replace(base, role=Role.NAME, field="n", kind="boy" if name.boy else "")
    if name or base.key == "original":
        return replace(base, role=Role.GENERAL)
    if _NAMED.fullmatch(base.text):
        return replace(base, role=Role.NAME, field="n", guessed=True)
    return base


def _of_slot(base: Mention, slot: str) -> Mention:
    field = FIELDS[slot]
    if slot == "interaction":
        return replace(base, role=Role.MUTUAL, field=field, slot=slot)
    if field == "position":
        return replace(base, role=Role.SIDE, field=field)
    role = Role.OWN if field in _OWN_FIELDS else Role.GENERAL
    return replace(base, role=role, field=field, slot=slot)


def _people(base: Mention, tag: Tag) -> list[Mention]:
    """A count, or one person, with a side or without."""
    key = base.key
    if sided := _SIDED.fullmatch(key):
        place, word = (sided[1], sided[2]) if sided[1] else (sided[4], sided[3])
        if word in PEOPLE:
            return [
                replace(base, role=Role.SIDE, field="position", text=place.replace("_", " ")),
                person(base, word),
            ]
    if wide := _wide_people(key):
        return [_counted(base, wide)]
    if (plain := _plain_people(key)) is not None:
        return [_counted(base, plain)]
    counts = counts_of([tag])
    if not counts:
        return []
    known = [(count.kind, count.number, count.more) for count in counts]
    if len(known) == 1 and known[0][1:] == (1, False) and known[0][0] in {"girl", "boy", "other"}:
        return [person(base, f"1{known[0][0]}")]
    return [replace(base, role=Role.COUNT, field="count", people=tuple(known))]


def person(base: Mention, word: str) -> Mention:
    """One person, by the word that the text has."""
    return replace(base, role=Role.PERSON, field="count", kind=PEOPLE[word])


def _counted(base: Mention, people: list[tuple[str, int]]) -> Mention:
    """People by words: one alone is a person."""
    if len(people) == 1 and people[0][1] == 1:
        return person(base, people[0][0])
    each: dict[str, int] = {}
    for word, number in people:
        each[PEOPLE[word]] = each.get(PEOPLE[word], 0) + number
    known = tuple((kind, number, False) for kind, number in each.items())
    return replace(base, role=Role.COUNT, field="count", people=known)


def _wide_people(key: str) -> list[tuple[str, int]]:
    if key.isascii():
        return []
    found: list[tuple[str, int]] = []
    for part in _WIDE_JOINT.split(key):
        match = _WIDE_COUNT.fullmatch(part.strip("_"))
        if match is None:
            return []
        number = match[1] or "1"
        found.append((match[2], int(number) if number.isdecimal() else NUMBERS[number]))
    return found


def _plain_people(key: str) -> list[tuple[str, int]] | None:
    """`a girl and a boy`, `two girls`, `girl`: words and numbers, None for anything else."""
    matches = [_PLAIN_COUNT.fullmatch(part) for part in re.split(r"_(?:and|&)_", key)]
    found: list[tuple[str, int]] = []
    for match in matches:
        if match is None or (match[1] is None and match[2] in PLURALS):
            return None
        number = match[1] or "1"
        found.append(
            (
                PLURALS.get(match[2], match[2]),
                int(number) if number.isdecimal() else NUMBERS[number],
            )
        )
    return found


def _bare(text: str) -> str:
    """A piece without brackets that another piece closes, nor their weight."""
    unclosed = any(text.count(a) != text.count(b) for a, b in ("()", "[]", "{}"))
    if not unclosed or len(text) < 4:  # >:( and its like
        return text
    return re.sub(r":\s*[0-9.]+$", "", text.strip("()[]{}"))
