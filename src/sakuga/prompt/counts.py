"""Rules on how many there are: what counts say of each other, and of the characters there are.

`2girls` counts the girls, `multiple_girls` gives them a least number, `solo` counts everybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import NamedTuple

from sakuga.prompt.canonical import Section
from sakuga.prompt.names import GENERAL, standard_name
from sakuga.prompt.nodes import Span
from sakuga.prompt.rules import Found
from sakuga.prompt.tag_table import known_tag
from sakuga.prompt.tags import Tag, tags

MAX_CHARACTERS = 4
MOST_TAGS = 512  # of a field; a model reads about as many tokens, and `too-long` tells of the rest

_COUNTED = re.compile(r"([0-9]{1,3})(\+?)_?(girl|boy|other|character|person|people)s?", re.A)
_NUMBER = re.compile(r"[0-9]{1,3}", re.A)
_BETWEEN = re.compile(r"_(?:and_|&_|\+_)?(?=[0-9])")  # 1girl_1boy
_MANY = {"multiple_girls": "girl", "multiple_boys": "boy", "multiple_others": "other"}
_ALTOGETHER = {"solo": 1, "duo": 2, "couple": 2, "trio": 3}
_WORDS = {
    word: str(n) for n, word in enumerate(("zero", "one", "two", "three", "four", "five", "six"))
}
_GENDERS = {
    **dict.fromkeys(("1girl", "girl", "female", "woman"), "girl"),
    **dict.fromkeys(("1boy", "boy", "male", "man"), "boy"),
}
_EVERYBODY = "people"  # whom `solo`, `3` and `2people` count
_NOBODY = "no_humans"


class Count(NamedTuple):
    """What one tag counts: girls, boys, others or people; `more` when that many is the least.

    `no_humans` counts humans, of which there are none; an animal may be there, and be `solo`.
    """

    tag: Tag
    kind: str
    number: int
    more: bool = False

    def denies(self, other: Count) -> bool:
        """Whether both cannot be true."""
        less, greater = sorted((self, other), key=lambda count: count.number)
        return self.kind == other.kind and less.number < greater.number and not less.more


class People(NamedTuple):
    """What counts that agree come to: how many of each kind, how many at least, or just as many."""

    each: Mapping[str, int]
    number: int
    more: bool


def counts_of(found: Iterable[Tag]) -> list[Count]:
    """What some tags count."""
    pieces = ((tag, piece) for tag in islice(found, MOST_TAGS) for piece in _BETWEEN.split(tag.key))
    return [count for tag, piece in pieces if (count := _count(tag, piece))]


def is_count(key: str) -> bool:
    """Whether a tag counts girls, boys, others or people by a number."""
    return _COUNTED.fullmatch(key) is not None


def is_gender(tag: Tag) -> bool:
    """Whether a tag counts one girl or one boy, and so says what one character is."""
    return tag.key in _GENDERS


def is_one(counts: Iterable[Count]) -> bool:
    """Whether they count one person and nobody else."""
    people = _people(counts)
    return people.number == 1 and not people.more


def numbers(flat: list[Tag], sections: list[Section], drawn: list[Section]) -> Iterator[Found]:
    """Counts against each other, against the characters there are, and against the model.

    flat: the tags of a prompt that has no sections.
    """
    counts = _stated(flat, sections)
    wrong = _denied(counts)
    if wrong is None and counts and drawn:
        wrong = _undrawn(counts, drawn)
    crowded = _crowd(counts, drawn)
    yield from (found for found in (crowded, wrong) if found is not None)


def _crowd(counts: list[Count], drawn: list[Section]) -> Found | None:
    """More characters than the model keeps apart."""
    number = len(drawn) or _people(counts).number
    if number <= MAX_CHARACTERS:
        return None
    span = drawn[MAX_CHARACTERS].blocks[0].names[0] if drawn else _over(counts)
    reason = f"{number} characters; with more than {MAX_CHARACTERS} they blend"
    fix = "Leave some to <background>, or draw several pictures."
    return Found("too-many-characters", span, reason, fix)


def _count(tag: Tag, key: str) -> Count | None:
    first, _, rest = key.partition("_")
    match = _COUNTED.fullmatch(_WORDS.get(first, first) + rest)
    if match:
        kind = match[3] if match[3] in {"girl", "boy", "other"} else _EVERYBODY
        return Count(tag, kind, int(match[1]), bool(match[2]))
    if key in _MANY:
        return Count(tag, _MANY[key], 2, more=True)
    if key == _NOBODY:
        return Count(tag, _NOBODY, 0)
    number = _WORDS.get(key, key)
    # A number within a tag, as in `iso_100`, counts nobody.
    if key in _ALTOGETHER or (key == tag.key and _NUMBER.fullmatch(number)):
        return Count(tag, _EVERYBODY, _ALTOGETHER[key] if key in _ALTOGETHER else int(number))
    known = known_tag(key)
    another = known is not None and known.slot == "count" and known.key != key  # sole_female
    return _count(tag, known.key) if known and another else None


def _people(counts: Iterable[Count]) -> People:
    each: dict[str, int] = {}
    exact: set[str] = set()
    for count in counts:
        each[count.kind] = max(each.get(count.kind, 0), count.number)
        if not count.more:
            exact.add(count.kind)
    everybody = each.pop(_EVERYBODY, None)
    each.pop(_NOBODY, None)
    number = max(sum(each.values()), everybody or 0)
    more = bool(each.keys() - exact) if everybody is None else _EVERYBODY not in exact
    return People(each, number, more)


def _stated(flat: list[Tag], sections: list[Section]) -> list[Count]:
    """The counts of the whole picture: flat, in <count>, then in other general fields."""
    general = (section for section in sections if section.name == GENERAL)
    parts = [part for section in general for part in section.parts if part.name]
    own = [field for part in parts if part.name == "count" for field in part.fields]
    others = [field for part in parts if part.name != "count" for field in part.fields]
    found = counts_of(tag for field in own if not field.nested for tag in tags(field))
    elsewhere = (tag for field in others if not field.nested for tag in tags(field))
    return found + [
        count
        for count in counts_of(chain(flat, elsewhere))
        if not _NUMBER.fullmatch(count.tag.key)  # counts nothing among other tags
    ]


def _denied(counts: list[Count]) -> Found | None:
    """Two counts that cannot both be true: `1girl, 2girls`, `2girls, solo`, `no_humans, 1boy`."""
    exact: dict[str, Count] = {}
    greatest: dict[str, Count] = {}
    for count in counts:
        for other in filter(None, (exact.get(count.kind), greatest.get(count.kind))):
            if count.denies(other):
                reason = f"{other.tag.text} and {count.tag.text} deny each other"
                return Found("count-mismatch", count.tag.span, reason, "Keep one.")
        if not count.more:
            exact.setdefault(count.kind, count)
        if count.number > greatest.setdefault(count.kind, count).number:
            greatest[count.kind] = count
    each = _people(counts).each
    humans = each.get("girl", 0) + each.get("boy", 0)
    if (nobody := exact.get(_NOBODY)) and humans:
        reason = f"{nobody.tag.text} denies the {humans} that other tags count"
        return Found("count-mismatch", nobody.tag.span, reason, "Keep one of them.")
    everybody, least = exact.get(_EVERYBODY), sum(each.values())
    if everybody and least > everybody.number:
        reason = f"{everybody.tag.text} counts {everybody.number}, but other tags count {least}"
        fix = "Write solo_focus, if one of them is meant." if everybody.number == 1 else "Keep one."
        return Found("count-mismatch", everybody.tag.span, reason, fix)
    return None


def _undrawn(counts: list[Count], drawn: list[Section]) -> Found | None:
    """Counts that the character blocks do not come to, by number or by gender."""
    people = _people(counts)
    name = standard_name(counts[0].tag.field.name)
    said = f"<{name}> says {', '.join(dict.fromkeys(count.tag.text for count in counts))}"
    if people.number > len(drawn) or (people.number < len(drawn) and not people.more):
        are = "there is 1 character block"
        if len(drawn) > 1:
            are = f"there are {len(drawn)} character blocks"
        fix = f"Correct <{name}>, or the characters."
        return Found("count-mismatch", _over(counts), f"{said}, but {are}", fix)
    genders = _genders(drawn)
    comparable = genders and not people.more and people.each.keys() <= {"girl", "boy"}
    if comparable and any(genders.get(kind, 0) != n for kind, n in people.each.items()):
        has = ", ".join(f"{n} {gender}{'s' * (n > 1)}" for gender, n in genders.items())
        reason = f"{said}, but <gender> makes it {has}"
        return Found("count-mismatch", _over(counts), reason, f"Correct <{name}>, or <gender>.")
    return None


def _genders(drawn: list[Section]) -> dict[str, int]:
    """How many girls and boys the blocks hold; empty when one does not say."""
    counted: dict[str, int] = {}
    for section in drawn:
        fields = [field for part in section.parts if part.name == "gender" for field in part.fields]
        keys = [tag.key for field in fields if not field.nested for tag in tags(field)]
        known = {_GENDERS[key] for key in keys if key in _GENDERS}
        if len(known) != 1:
            return {}
        gender = known.pop()
        counted[gender] = counted.get(gender, 0) + 1
    return counted


def _over(counts: list[Count]) -> Span:
    return Span(counts[0].tag.span.start, counts[-1].tag.span.end)
