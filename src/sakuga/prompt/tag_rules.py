"""Rules on what the tags of a prompt say: what characters look like, and where it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

from sakuga.prompt.canonical import CanonicalField, Section
from sakuga.prompt.counts import MOST_TAGS, counts_of, is_count, is_gender, is_one
from sakuga.prompt.names import CAPTION, CHARACTER_FIELDS, GENERAL, standard_name
from sakuga.prompt.nearest import UNADVISED, Vocabulary
from sakuga.prompt.nodes import Document
from sakuga.prompt.rules import Found
from sakuga.prompt.settings import is_setting
from sakuga.prompt.slots import FIELDS, allows_two, decides, is_worn, neighbours, slot_of
from sakuga.prompt.tag_table import known_tag
from sakuga.prompt.tags import Tag, is_list, pieces, tags

_TWO_ON_PURPOSE = {
    "hair colour": "multicolored_hair",
    "eye colour": "heterochromia",
    "skin": "two-tone_skin",
}
# Which slots are remarked on where. What is worn on the head may be told with it; an action may
# name the garment it is done to, an outfit the calling it is worn for and what it bares.
_HAIR = {"hair colour", "hair length", "hair style"}
_LOOKS = _HAIR | {"eye colour", "skin"}
_DOING = {"gaze", "pose", "interaction"}
_STRAY = {
    "appearance": {"count", "clothing", "expression"} | _DOING,
    "clothing": {"count", "eyes", "face", "features", "expression"} | _LOOKS | _DOING,
    "body_type": {"count"},
    "expression": {"count", "clothing", "accessory"} | _LOOKS,
    "action": {"count"} | _LOOKS,
}
_UNNAMED = {"gender", "count", "position"}  # whose words mean there what they say
_ADVISED = 8  # unknown words that are told the nearest known one; more are another vocabulary
_WITHOUT = ("no_", "without_")  # what is not there may be said anywhere
_WIDE = re.compile(r"[^\x00-\x7f]")
_WIDE_WORD = 3  # letters to a word in scripts that put no space between words


def flat_tags(document: Document) -> list[Tag]:
    """The tags of a prompt without structure."""
    blocks = () if document.structured else document.blocks
    return list(islice((tag for block in blocks for tag in tags(block.fields[0])), MOST_TAGS))


def slots(document: Document, flat: list[Tag], drawn: list[Section]) -> Iterator[Found]:
    """One hair colour, hair length, eye colour and skin for each character."""
    if flat and is_one(counts_of(flat)) and _reads_as_tags(document.source):
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
        pair, near = _disjoint(slot, claims)
        if pair is None or any(allows_two(slot, tag.key) for tag in owned):
            continue
        meant = _TWO_ON_PURPOSE.get(slot)
        fix = f"Keep one; if both are meant, add {meant}." if meant else "Keep one."
        reason = f"{pair[0].text} and {pair[1].text} both give the {slot} of {owner}"
        if near:
            reason += "; the two are close, and either may be drawn"
            yield Found("slot-blurred", pair[1].span, reason, fix)
        else:
            yield Found("slot-contradicted", pair[1].span, reason, fix)


def _disjoint(
    slot: str, claims: list[tuple[Tag, frozenset[str]]]
) -> tuple[tuple[Tag, Tag] | None, bool]:
    """The first two tags that share no kind, best such as are no neighbours, and whether they are.

    One of each kind stands for the rest.
    """
    first: dict[frozenset[str], Tag] = {}
    near: tuple[Tag, Tag] | None = None
    for tag, kinds in claims:
        for other, earlier in first.items():
            if kinds.isdisjoint(other):
                if not neighbours(slot, kinds, other):
                    return (earlier, tag), False
                near = near or (earlier, tag)
        first.setdefault(kinds, tag)
    return near, True


def tag_homes(sections: list[Section], peopled: bool) -> Iterator[Found]:
    """Tags that belong into another field than the one they are in."""
    for section in sections:
        for part in section.parts:
            if section.number is not None:
                stray = _STRAY.get(part.name, set())
            else:
                own = section.name != GENERAL or not peopled or part.name in CHARACTER_FIELDS
                stray = set() if own else _LOOKS
            for tag in _tags_of(part) if stray else ():
                slot = slot_of(tag.key)
                worn = part.name == "action" and is_worn(tag.key)
                if not (slot in stray or worn) or tag.key.startswith(_WITHOUT):
                    continue
                if section.number is None:
                    reason = (
                        f"{tag.text} describes a character, but <{section.name}> belongs to all"
                    )
                    fix = "Move it into the character's <appearance>."
                elif slot:
                    home = "gender" if is_gender(tag) else FIELDS[slot]
                    reason = f"training had tags like {tag.text} in <{home}>, not in <{part.name}>"
                    fix = f"Move it to <{home}>."
                yield Found("misplaced-tag", tag.span, reason, fix)


def unknown_words(document: Document, vocabulary: frozenset[str]) -> list[Found]:
    """Tags the model was not taught, each once. Names and prose are not looked at."""
    words = Vocabulary(vocabulary)
    found: dict[str, Found] = {}
    for tag in islice(_described(document), 8 * MOST_TAGS):
        key = tag.key
        if key in words.spelled or key in found or words.spelled.keys() >= set(key.split("_")):
            continue
        if not is_count(key) and any(map(str.isalnum, key)):
            reason = f"the model was not taught {tag.text!r}"
            fix = words.advice(key) if len(found) < _ADVISED else UNADVISED
            found[key] = Found("unknown-word", tag.span, reason, fix)
    return list(found.values())


def other_names(document: Document) -> Iterator[Found]:
    """Tags by another name than the one that training knew them by, each once."""
    told: set[str] = set()
    for tag in islice(_described(document), MOST_TAGS):
        known = known_tag(tag.key)
        if known is None or known.key == tag.key or tag.key in told:
            continue
        unnamed = tag.field.name.lower() in _UNNAMED or slot_of(tag.key) != known.slot
        if not unnamed:
            told.add(tag.key)
            reason = f"{tag.text} is another name of {known.name}, the tag in use"
            yield Found("other-name", tag.span, reason, f"Write {known.name}.")


def _described(document: Document) -> Iterator[Tag]:
    """The tags of a prompt without names, captions and prose."""
    for block in document.blocks:
        for part in block.fields:
            named = part.name and standard_name(part.name) not in {"n", CAPTION}
            if not part.nested and (named if document.structured else _reads_as_tags(part.text)):
                yield from (tag for tag in tags(part) if not is_setting(tag.text))


@lru_cache(4)
def _reads_as_tags(text: str) -> bool:
    """Whether flat text is a list of tags, not sentences: at most three words to a comma."""
    if is_list(text):
        return True
    words = len(text.split()) + len(_WIDE.findall(text)) // _WIDE_WORD
    return "。" not in text and words <= 3 * (len(pieces(text)) or 1)


def _tags_of(part: CanonicalField) -> Iterator[Tag]:
    fields = (field for field in part.fields if not field.nested)
    return islice((tag for field in fields for tag in tags(field)), MOST_TAGS)
