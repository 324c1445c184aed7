"""The rules of the linter: each a function from what was read to what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Literal

from sakuga.prompt import canonical as forms
from sakuga.prompt import markup
from sakuga.prompt.canonical import (
    CHARACTER_FIELDS,
    GENERAL,
    GENERAL_FIELDS,
    CanonicalField,
    Section,
)
from sakuga.prompt.nodes import CAPTION, Block, Document, Field, Span
from sakuga.prompt.tags import Tag, allows_two, decides, home_of, normal, tags

Severity = Literal["error", "warning", "info"]

RULES: Mapping[str, Severity] = MappingProxyType(
    {
        "declaration": "error",
        "too-large": "error",
        "too-deep": "error",
        "slot-contradicted": "error",
        "not-well-formed": "warning",
        "too-many-characters": "warning",
        "duplicate-number": "warning",
        "count-mismatch": "warning",
        "too-long": "warning",
        "length-estimated": "info",
        "unnumbered-character": "info",
        "empty-element": "info",
        "empty-tag": "info",
        "repeated-field": "info",
        "renamed-field": "info",
        "unknown-field": "info",
        "unknown-block": "info",
        "misplaced-field": "info",
        "misplaced-tag": "info",
        "attribute": "info",
        "loose-text": "info",
        "bare-markup": "info",
        "weighted-tag": "info",
        "own-system-prompt": "info",
        "unknown-word": "info",
    }
)
"""Every rule and how much it matters."""

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
_WEIGHTED = re.compile(r"[^\s:]:\s*[0-9]*\.?[0-9]+[)\]}]*$|::")
_EMPTY = re.compile(r"<[^<>]*/>|<[^<>]*>\s*</[^<>]*>")
_COMMAS = re.compile(r",[\s,]*+")


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace the characters [start, end) of the source."""

    start: int
    end: int
    replacement: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule found. `edits` make the fix where it cannot change the meaning."""

    rule: str
    span: Span
    reason: str
    fix: str
    edits: tuple[Edit, ...] = ()


def check(document: Document) -> list[Found]:
    """Everything that can be said without knowing the model."""
    sections = forms.sections(document) if document.structured else []
    drawn = [section for section in sections if section.number is not None and section.parts]
    return [
        *_reading(document),
        *_strays(document),
        *_character_names(sections),
        *_crowd(drawn),
        *_count(sections, drawn),
        *_slots(document, drawn),
        *_names(sections),
        *_tag_homes(sections, bool(drawn)),
        *_weights(document),
        *_spare_commas(document),
        *_empty_elements(document, sections),
    ]


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
            named = part.name and forms.standard_name(part.name) != "n"
            if not part.nested and (named if document.structured else _reads_as_tags(part.text)):
                yield from tags(part)


def _reads_as_tags(text: str) -> bool:
    """Whether flat text is a list of tags, not sentences: at most three words to a comma."""
    words = len(text.split()) + len(_WIDE.findall(text)) // _WIDE_WORD
    return "。" not in text and words <= 3 * (len(_SEPARATOR.findall(text)) + 1)


def _reading(document: Document) -> Iterator[Found]:
    """How the text was read at all."""
    if document.fault:
        fault = document.fault
        reason = f"{fault.reason}, so all of it is read as plain text"
        yield Found(fault.rule, fault.span, reason, fault.fix)
    for block in document.blocks:
        for part in block.fields:
            if part.deep:
                reason = f"a tag inside <{part.name}>: a prompt has two levels, block and field"
                fix = f"Write its text straight into <{part.name}>, as tags with commas."
                yield Found("too-deep", part.deep, reason, fix)
            elif part.name == "" and document.structured and _has_fields(block):
                yield _loose(block, part)
    for span in document.attributes:
        reason = "the attributes of a block are read as fields, those of a field are not read"
        yield Found("attribute", span, reason, "Write a field for each: <name>text</name>.")
    if document.system:
        reason = "this system prompt takes the place of the model's own"
        fix = "Remove it, unless it is meant to differ from the model's."
        yield Found("own-system-prompt", document.system_span, reason, fix)


def _has_fields(block: Block) -> bool:
    """Whether text of its own is unexpected in a block (or outside of all of them)."""
    known = block.name.lower() == GENERAL or forms.character_number(block.name) is not None
    return known or block.name == ""


def _loose(block: Block, part: Field) -> Found:
    span = part.locate(0, len(part.text))
    if block.name:
        reason = f"text in <{block.name}> but in none of its fields"
        return Found("loose-text", span, reason, "Put it into a field, such as <appearance>.")
    reason = f"text outside of any block is read after <{GENERAL}>"
    return Found("loose-text", span, reason, f"Put it into <caption>, or a field of <{GENERAL}>.")


def _strays(document: Document) -> Iterator[Found]:
    """Bare markup is one finding: whoever writes one `&` writes many."""
    if not document.strays:
        return
    first = document.strays[0]
    bare = document.source[first.start : first.end]
    edits = tuple(
        Edit(stray.start, stray.end, markup.ESCAPES[document.source[stray.start : stray.end]])
        for stray in document.strays
        if document.source[stray.start : stray.end] in markup.ESCAPES
    )
    more = f" (and {len(document.strays) - 1} more)" if len(document.strays) > 1 else ""
    reason = f"a bare {bare} is text here, but other XML tools stop at it{more}"
    yield Found("bare-markup", first, reason, "Write &amp; for & and &lt; for <.", edits)


def _character_names(sections: list[Section]) -> Iterator[Found]:
    for section in sections:
        if section.number is None:
            continue
        block = section.blocks[0]
        given = forms.character_number(block.name)
        if given == forms.UNNUMBERED:
            edits = tuple(Edit(name.start, name.end, section.name) for name in block.names)
            reason = f"<{block.name}> has no number and is read as <{section.name}>"
            fix = f"Write <{section.name}>."
            yield Found("unnumbered-character", block.names[0], reason, fix, edits)
        elif given != section.number:
            reason = f"<character_{given}> is there already; this one is read as <{section.name}>"
            fix = f"Write <{section.name}>, or join the two if they are one."
            yield Found("duplicate-number", block.names[0], reason, fix)


def _crowd(drawn: list[Section]) -> Iterator[Found]:
    if len(drawn) > MAX_CHARACTERS:
        span = drawn[MAX_CHARACTERS].blocks[0].names[0]
        reason = f"{len(drawn)} characters; with more than {MAX_CHARACTERS} they blend"
        fix = "Leave some to <background>, or draw several pictures."
        yield Found("too-many-characters", span, reason, fix)


def _count(sections: list[Section], drawn: list[Section]) -> Iterator[Found]:
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


def _slots(document: Document, drawn: list[Section]) -> Iterator[Found]:
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


def _tags_of(part: CanonicalField) -> Iterator[Tag]:
    for field in part.fields:
        if not field.nested:
            yield from tags(field)


def _names(sections: list[Section]) -> Iterator[Found]:
    """Names of blocks and fields: known, in their place, given once."""
    for section in sections:
        if section.number is not None:
            yield from _field_names(section, CHARACTER_FIELDS, GENERAL_FIELDS, GENERAL)
        elif section.name == GENERAL:
            yield from _field_names(section, GENERAL_FIELDS, CHARACTER_FIELDS, "character_1")
        elif section.name not in {"", CAPTION}:
            yield from (_unknown_block(block) for block in section.blocks)


def _unknown_block(block: Block) -> Found:
    span, name = block.names[0], forms.standard_name(block.name)
    for fields, home in ((CHARACTER_FIELDS, "character_1"), (GENERAL_FIELDS, GENERAL)):
        if name in fields:
            reason = f"<{block.name}> stands outside of any block"
            return Found("misplaced-field", span, reason, f"Put it into <{home}>.")
    reason = f"<{block.name}> is no block the model was trained on"
    near = _nearest(name, ("character_1", GENERAL, CAPTION))
    return Found(
        "unknown-block", span, reason, near or f"Use <character_1>, <{GENERAL}>, <caption>."
    )


def _field_names(
    section: Section, own: tuple[str, ...], foreign: tuple[str, ...], home: str
) -> Iterator[Found]:
    for part in section.parts:
        for field in part.fields:
            if not field.names:
                continue
            span = field.names[0]
            if part.name in foreign:
                reason = f"<{field.name}> does not belong into <{section.name}>"
                yield Found("misplaced-field", span, reason, f"Move it to <{home}>.")
            elif part.name not in own:
                reason = f"<{field.name}> is no field of <{section.name}> in training"
                fix = _nearest(part.name, own) or f"Use one of {', '.join(own)}."
                yield Found("unknown-field", span, reason, fix)
            if field.name.lower() in forms.ALIASES:
                alone = len(part.fields) == 1
                edits = tuple(Edit(name.start, name.end, part.name) for name in field.names)
                reason = f"<{field.name}> is read as <{part.name}>"
                fix = f"Write <{part.name}>."
                yield Found("renamed-field", span, reason, fix, edits if alone else ())
        if part.name and len(part.fields) > 1:
            extra = part.fields[1].names or (part.fields[1].span,)
            reason = f"<{part.name}> is given {len(part.fields)} times and read as one"
            yield Found("repeated-field", extra[0], reason, f"Join them: {_shortened(part.text)}.")


def _nearest(name: str, known: tuple[str, ...]) -> str | None:
    near = get_close_matches(name, known, 1, 0.7)
    return f"Did you mean <{near[0]}>?" if near else None


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _tag_homes(sections: list[Section], peopled: bool) -> Iterator[Found]:
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


def _weights(document: Document) -> Iterator[Found]:
    """`(red_eyes:1.2)` is syntax of other programs."""
    weighted = [tag for tag in _described(document) if _WEIGHTED.search(tag.text)]
    if weighted:
        more = f" (and {len(weighted) - 1} more)" if len(weighted) > 1 else ""
        reason = f"the encoders read {weighted[0].text} as text, not as a weight{more}"
        yield Found("weighted-tag", weighted[0].span, reason, "Write the tag alone.")


def _spare_commas(document: Document) -> Iterator[Found]:
    """`a,, b,` has tags that are nothing."""
    for block in document.blocks if document.structured else ():
        for field in block.fields:
            if not field.name or field.nested:
                continue
            edits = list(_comma_edits(document.source, field))
            if edits:
                span = Span(edits[0].start, edits[0].end)
                reason = "a comma with no tag beside it"
                yield Found("empty-tag", span, reason, "Remove it.", tuple(edits))


def _comma_edits(source: str, field: Field) -> Iterator[Edit]:
    for match in _COMMAS.finditer(field.text):
        inner = match.start() > 0 and match.end() < len(field.text)
        span = field.locate(*match.span())
        as_written = source[span.start : span.end] == match[0]  # no markup in between
        if as_written and not (inner and match[0].count(",") == 1):
            yield Edit(span.start, span.end, ", " if inner else "")


def _empty_elements(document: Document, sections: list[Section]) -> Iterator[Found]:
    """Fields and blocks without content; the encoders do not see them."""
    # An edit must leave some tag with text, or the rest would be read as plain text.
    removable = any(section.name and section.parts for section in sections)
    loose = any(not block.name for block in document.blocks)
    for section in sections:
        for block in section.blocks:
            if not block.fields:
                # A character's number may decide another one's, so it is not removed.
                yield _empty(document, block, removable and section.number is None, loose)
            beside = any(not field.name for field in block.fields)
            for field in block.fields:
                if not field.text and field.names:
                    yield _empty(document, field, removable, beside)


def _empty(document: Document, element: Block | Field, removable: bool, loose: bool) -> Found:
    """`loose`: text stands beside it, which must not grow together."""
    span = element.span
    bare = _EMPTY.fullmatch(document.source[span.start : span.end])  # not even a comment
    edits = (_removal(document.source, span, " " * loose),) if removable and bare else ()
    reason = f"<{element.name}> is empty and is left out"
    return Found("empty-element", span, reason, "Remove it, or fill it in.", edits)


def _removal(source: str, span: Span, otherwise: str) -> Edit:
    """Take the whole line away if there is nothing else on it."""
    start = source.rfind("\n", 0, span.start) + 1
    end = source.find("\n", span.end) + 1
    alone = start and end and not (source[start : span.start] + source[span.end : end]).strip()
    return Edit(start, end, "") if alone else Edit(span.start, span.end, otherwise)
