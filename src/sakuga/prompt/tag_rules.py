"""Rules on what the tags of a prompt say: how many characters, what they look like, and where."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from sakuga.prompt.canonical import CanonicalField, Section
from sakuga.prompt.names import CAPTION, CHARACTER_FIELDS, GENERAL, standard_name
from sakuga.prompt.nodes import Document, Span
from sakuga.prompt.rules import Found
from sakuga.prompt.tags import Tag, allows_two, decides, home_of, normal, tags

MAX_CHARACTERS = 4

_COUNTED = re.compile(r"([0-9]{1,3})(\+?)_?(girl|boy|other|character|person|people)s?", re.A)
_NUMBER = re.compile(r"[0-9]{1,3}", re.A)
_BETWEEN = re.compile(r"_(?:and_|&_|\+_)?(?=[0-9])")  # 1girl_1boy
_MANY = {"multiple_girls": "girl", "multiple_boys": "boy", "multiple_others": "other"}
_ALTOGETHER = {"no_humans": 0, "solo": 1, "duo": 2, "couple": 2, "trio": 3}
_WORDS = {
    word: str(n) for n, word in enumerate(("zero", "one", "two", "three", "four", "five", "six"))
}
_GENDERS = {
    **dict.fromkeys(("1girl", "girl", "female", "woman"), "girl"),
    **dict.fromkeys(("1boy", "boy", "male", "man"), "boy"),
}
_TWO_ON_PURPOSE = {
    "hair colour": "multicolored_hair",
    "eye colour": "heterochromia",
    "skin": "two-tone_skin",
}
# Where a tag that has another home is remarked on, and which homes are meant: an action may
# well name the garment it is done to.
_STRICT = {
    "appearance": {"clothing", "expression", "action"},
    "clothing": {"appearance", "expression", "action"},
    "expression": {"appearance", "clothing"},
    "action": {"appearance"},
}
_WIDE = re.compile(r"[^\x00-\x7f]")
_WIDE_WORD = 3  # letters to a word in scripts that put no space between words
_SEPARATOR = re.compile(r"[,，、]")


def crowd(drawn: list[Section]) -> Iterator[Found]:
    """No more characters than the model keeps apart."""
    if len(drawn) > MAX_CHARACTERS:
        span = drawn[MAX_CHARACTERS].blocks[0].names[0]
        reason = f"{len(drawn)} characters; with more than {MAX_CHARACTERS} they blend"
        fix = "Leave some to <background>, or draw several pictures."
        yield Found("too-many-characters", span, reason, fix)


def count(sections: list[Section], drawn: list[Section]) -> Iterator[Found]:
    """<count> against the characters there are, and their genders where all are known."""
    parts = [part for section in sections if section.name == GENERAL for part in section.parts]
    counted = next((part for part in parts if part.name == "count"), None)
    found = list(_tags_of(counted)) if counted else []
    people, more = _people(tag.key for tag in found)
    if counted is None or not people or not drawn:
        return
    span = Span(found[0].span.start, found[-1].span.end)
    total = sum(people.values())
    if total > len(drawn) or (total < len(drawn) and not more):
        blocks = f"{len(drawn)} character block" + "s" * (len(drawn) != 1)
        reason = (
            f"<count> says {counted.text}, but there "
            + f"{'is' if len(drawn) == 1 else 'are'} {blocks}"
        )
        yield Found("count-mismatch", span, reason, "Correct <count>, or the characters.")
        return
    genders = _genders(drawn)
    comparable = genders and not more and people.keys() <= {"girl", "boy"}
    if comparable and genders != {gender: n for gender, n in people.items() if n}:
        has = ", ".join(f"{n} {gender}{'s' * (n > 1)}" for gender, n in genders.items())
        reason = f"<count> says {counted.text}, but <gender> makes it {has}"
        yield Found("count-mismatch", span, reason, "Correct <count>, or <gender>.")


def _people(keys: Iterable[str]) -> tuple[dict[str, int], bool]:
    """How many of each kind some tags count, and whether there may be more."""
    people: dict[str, int] = {}
    more = False
    altogether: int | None = None
    for key in (piece for tag in keys for piece in _BETWEEN.split(tag)):
        first, _, rest = key.partition("_")
        match = _COUNTED.fullmatch(_WORDS.get(first, first) + rest)
        if match:
            people[match[3]] = int(match[1])
            more |= bool(match[2])
        elif key in _MANY:
            people.setdefault(_MANY[key], 2)
            more = True
        else:
            number = _WORDS.get(key, key)
            counted = int(number) if _NUMBER.fullmatch(number) else altogether
            altogether = _ALTOGETHER.get(key, counted)
    if not people and altogether is not None:
        people["person"] = altogether
    return people, more


def _genders(drawn: list[Section]) -> dict[str, int]:
    """How many girls and boys the blocks hold; empty when one does not say."""
    counted: dict[str, int] = {}
    for section in drawn:
        keys = [
            tag.key for part in section.parts if part.name == "gender" for tag in _tags_of(part)
        ]
        known = {_GENDERS[key] for key in keys if key in _GENDERS}
        if len(known) != 1:
            return {}
        gender = known.pop()
        counted[gender] = counted.get(gender, 0) + 1
    return counted


def slots(document: Document, drawn: list[Section]) -> Iterator[Found]:
    """One hair colour, hair length, eye colour and skin for each character."""
    if not document.structured:
        flat = [tag for block in document.blocks for tag in tags(block.fields[0])]
        people, more = _people(tag.key for tag in flat)
        if sum(people.values()) == 1 and not more and _reads_as_tags(document.source):
            yield from _contradictions("the character", flat)
    for section in drawn:
        name = next((part.text for part in section.parts if part.name == "n"), "")
        owner = f"{section.name} ({name})" if name else section.name
        parts = [part for part in section.parts if part.name not in {"n", "interaction"}]
        yield from _contradictions(owner, [tag for part in parts for tag in _tags_of(part)])


def _contradictions(owner: str, owned: list[Tag]) -> Iterator[Found]:
    given: dict[str, list[tuple[Tag, frozenset[str]]]] = {}
    for tag in owned:
        for slot, kinds in decides(tag.key).items():
            given.setdefault(slot, []).append((tag, kinds))
    for slot, claims in given.items():
        pair = _disjoint(claims)
        if pair and not any(allows_two(slot, tag.key) for tag in owned):
            reason = f"{pair[0].text} and {pair[1].text} both give the {slot} of {owner}"
            meant = _TWO_ON_PURPOSE.get(slot)
            fix = f"Keep one; if both are meant, add {meant}." if meant else "Keep one."
            yield Found("slot-contradicted", pair[1].span, reason, fix)


def _disjoint(claims: list[tuple[Tag, frozenset[str]]]) -> tuple[Tag, Tag] | None:
    """The first two tags that share no kind; one of each kind stands for the rest."""
    first: dict[frozenset[str], Tag] = {}
    for tag, kinds in claims:
        for other, earlier in first.items():
            if kinds.isdisjoint(other):
                return earlier, tag
        first.setdefault(kinds, tag)
    return None


def tag_homes(sections: list[Section], peopled: bool) -> Iterator[Found]:
    """Tags that belong into another field than the one they are in."""
    for section in sections:
        for part in section.parts:
            homes = _STRICT.get(part.name, set()) if section.number is not None else set()
            if section.name == GENERAL and peopled and part.name not in CHARACTER_FIELDS:
                homes = {"appearance"}
            for tag in _tags_of(part) if homes else ():
                home = home_of(tag.key)
                if home not in homes:
                    continue
                if section.number is None:
                    reason = (
                        f"{tag.text} describes a character, but <{section.name}> belongs to all"
                    )
                    fix = "Move it into the character's <appearance>."
                else:
                    reason = f"training had tags like {tag.text} in <{home}>, not in <{part.name}>"
                    fix = f"Move it to <{home}>."
                yield Found("misplaced-tag", tag.span, reason, fix)


def unknown_words(document: Document, vocabulary: frozenset[str]) -> list[Found]:
    """Tags the model was not taught, each once. Names and prose are not looked at."""
    known = {normal(word) for word in vocabulary}
    found: dict[str, Found] = {}
    for tag in _described(document):
        words = tag.key.split("_")
        if tag.key in known or tag.key in found or known.issuperset(words):
            continue
        if _COUNTED.fullmatch(tag.key) is None and any(map(str.isalnum, tag.key)):
            reason = f"the model was not taught {tag.text!r}"
            found[tag.key] = Found("unknown-word", tag.span, reason, "Use a word it knows.")
    return list(found.values())


def _described(document: Document) -> Iterator[Tag]:
    """The tags of a prompt without names, captions and prose."""
    for block in document.blocks:
        for part in block.fields:
            named = part.name and standard_name(part.name) not in {"n", CAPTION}
            if not part.nested and (named if document.structured else _reads_as_tags(part.text)):
                yield from tags(part)


def _reads_as_tags(text: str) -> bool:
    """Whether flat text is a list of tags, not sentences: at most three words to a comma."""
    words = len(text.split()) + len(_WIDE.findall(text)) // _WIDE_WORD
    return "。" not in text and words <= 3 * (len(_SEPARATOR.findall(text)) + 1)


def _tags_of(part: CanonicalField) -> Iterator[Tag]:
    for field in part.fields:
        if not field.nested:
            yield from tags(field)
