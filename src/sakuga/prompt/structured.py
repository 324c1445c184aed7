"""A flat prompt as XML: a block for each character, one for the picture, sentences as a caption."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from sakuga.prompt.assign import Cast, assign
from sakuga.prompt.document import read, write
from sakuga.prompt.flat_parts import FlatParts, take_apart
from sakuga.prompt.mention import Mention, Role
from sakuga.prompt.names import CAPTION, CHARACTER_FIELDS, GENERAL, GENERAL_FIELDS
from sakuga.prompt.nodes import Block, Document, Field
from sakuga.prompt.rules import Found

# More is no prompt of a person's making, and stays a text.
_MOST_PIECES = 512
_LONGEST = 16_384  # characters


class Structured(NamedTuple):
    """A document with blocks, and what was not sure on the way to it."""

    document: Document
    found: tuple[Found, ...]


def as_xml(text: str) -> str:
    """A prompt as XML; as it is where it has blocks already. Raises PromptRefused."""
    document = read(text)
    made = structured(document).document
    return text if made is document else write(made)


@lru_cache(maxsize=16)
def structured(document: Document) -> Structured:
    """A document with blocks; itself where it has some, or says nothing that is a tag."""
    if document.structured or not document.blocks:
        return Structured(document, ())
    captions: list[Block] = []
    casts: list[Cast] = []
    for block in document.blocks:
        part = block.fields[0]
        parts = take_apart(part) if len(part.text) <= _LONGEST else None
        if parts is None or len(parts.mentions) > _MOST_PIECES or _says_sentences(parts):
            captions.append(Block(CAPTION, (Field("", part.text),)))
        else:
            casts.append(assign(parts))
    blocks: list[Block] = []
    for cast in casts:
        blocks += _blocks(cast, len(blocks))
    if all(block.name == CAPTION for block in blocks):  # sentences alone stay a text
        return Structured(document, ())
    found = tuple(one for cast in casts for one in cast.found)
    made = Document(
        "xml", (*blocks, *captions), document.system, document.source,
        system_span=document.system_span, around=document.around,
    )  # fmt: skip
    return Structured(made, found)


def _says_sentences(parts: FlatParts) -> bool:
    """Whether a text has sentences, and nothing that is known as a tag."""
    roles = {one.role for one in parts.mentions}
    return Role.CAPTION in roles and roles <= {Role.CAPTION, Role.UNKNOWN}


def _blocks(cast: Cast, before: int) -> Iterator[Block]:
    for number, person in enumerate(cast.people, before + 1):
        fields = {"gender": [f"1{person.kind}"] if person.kind else []}
        for one in [*person.anchors, *person.own]:
            if one.role not in {Role.PERSON, Role.LABEL}:
                fields.setdefault(one.field, []).append(one.text)
        yield _block(f"character_{number}", CHARACTER_FIELDS, fields)
    general: dict[str, list[str]] = {}
    for one in cast.general:
        field = one.field if one.field in GENERAL_FIELDS else "other"
        general.setdefault(field, []).append(one.text)
    if general:
        yield _block(GENERAL, GENERAL_FIELDS, general)
    if cast.captions:
        yield Block(CAPTION, (Field("", _joined(cast.captions)),))


def _block(name: str, order: Iterable[str], fields: dict[str, list[str]]) -> Block:
    known = (each for each in order if fields.get(each))
    return Block(name, tuple(Field(each, ", ".join(dict.fromkeys(fields[each]))) for each in known))


def _joined(captions: Iterable[Mention]) -> str:
    """Sentences one after the other, phrases with commas between."""
    text = ""
    for one in captions:
        joint = "" if not text else " " if text[-1] in ".!?。！？" else ", "
        text = f"{text}{joint}{one.text}"
    return text
