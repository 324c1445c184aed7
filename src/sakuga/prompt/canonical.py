"""A document -> the exact text each encoder reads.

The order is the one of the training captions, so that the same prompt is the same text
however its author arranged it: characters by number, then <general_tags>, then blocks
nobody knows by name, then loose text, then <caption>; fields in a fixed order, unknown
ones after them by name. One element per line, no indentation, runs of space collapsed,
tags separated by ", " and kept in the author's order, a caption inside a block moved out of it.
Wrappers, comments and empty fields are dropped. Plain text is only trimmed. For a model that
lists the words it knows, tags are spelled as it spells them; else as their author did.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, groupby, pairwise
from typing import Literal

from sakuga.prompt import document as documents
from sakuga.prompt.emphasis import Emphasis, emphasised, weight_attribute
from sakuga.prompt.names import (
    BOXES,
    CAPTION,
    CHARACTER_FIELDS,
    GENERAL,
    GENERAL_FIELDS,
    character_number,
    lowered,
    standard_name,
)
from sakuga.prompt.nodes import Block, Document, Field
from sakuga.prompt.reader import escape
from sakuga.prompt.settings import unlabelled
from sakuga.prompt.tags import Spelling, is_list, respelled, tidied

# What most community workflows put in front; no training code has it.
COMMUNITY_SYSTEM = (
    "You are an assistant designed to generate high-quality anime images with the highest "
    "degree of image-text alignment based on xml format textual prompts. <Prompt Start>\n"
)

_MOST_ROUNDS = 8
_ORDER = {name: rank for rank, name in enumerate(CHARACTER_FIELDS + GENERAL_FIELDS)}


@dataclass(frozen=True, slots=True)
class CanonicalField:
    """A canonical field: its standard name, its text, and the fields it was joined from.

    `weight`: that of all of them; where they differ, brackets in the text tell.
    """

    name: str
    text: str
    fields: tuple[Field, ...]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Section:
    """A canonical block: its standard name, its parts, and the blocks it was joined from.

    `number` is a character's, given or taken; None for every other block.
    """

    name: str
    parts: tuple[CanonicalField, ...]
    blocks: tuple[Block, ...]
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the canonical text; from `begin` on, it holds the text of `fields`.

    `name`, `weight`: of the element that it is. `section`: where it stands among all. `prose`: it
    is a sentence or a name. `emphases`: what of it weighs other than 1, once its syntax is gone.
    """

    text: str
    fields: tuple[Field, ...] = ()
    begin: int = 0
    name: str = ""
    weight: float = 1.0
    section: int = 0
    prose: bool = False
    emphases: tuple[Emphasis, ...] = ()


@dataclass(frozen=True, slots=True)
class EncoderText:
    """What Gemma and Jina read, each text ending in the user's.

    Ranges count in Gemma's: `emphases`, and `parts`, the blocks of a prompt with characters.
    """

    gemma: str
    jina: str
    emphases: tuple[Emphasis, ...] = ()
    parts: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Texts:
    """Both sides of the guidance."""

    positive: EncoderText
    negative: EncoderText


@dataclass(frozen=True, slots=True)
class Systems:
    """What a model's Gemma reads before a prompt of XML, and before one of text.

    `negative`: before a negative; None for the same as before a prompt of its kind.
    """

    xml: str = ""
    text: str = ""
    negative: str | None = None


def canonical(document: Document, spelling: Spelling | None = None) -> str:
    """The prompt in canonical form, without a system prompt. Applied twice, it changes nothing.

    References are resolved, for encoders read text: `cats &amp; dogs` is `cats & dogs`. Only
    text that would be read back as markup keeps its reference (see `reader.escape`).
    """
    text = _once(document, spelling)
    if any(block.name and any(part.text for part in block.fields) for block in document.blocks):
        return text
    # Plain text may read as something else once it is joined to one line, or stands alone.
    for _ in range(_MOST_ROUNDS):
        before, text = text, _once(documents.read(text), spelling)
        if text == before:
            break
    return text


def _once(document: Document, spelling: Spelling | None) -> str:
    return "\n".join(line.text for line in lines(document, spelling))


def lines(document: Document, spelling: Spelling | None = None) -> Iterator[Line]:
    """The canonical text line by line, each with where it came from."""
    if not document.structured:
        for block in document.blocks:
            text = block.fields[0].text
            if is_list(text):
                yield Line(tidied(text, spelling), block.fields)
            else:
                yield Line(respelled(text, spelling) if spelling else text, block.fields)
        return
    for place, section in enumerate(sections(document, spelling)):
        yield from (replace(line, section=place) for line in _section_lines(section))


def plain_lines(
    document: Document, spelling: Spelling | None = None, *, weighted: bool = False
) -> Iterator[Line]:
    """The lines as encoders read them: no element has a weight.

    weighted: brackets are weights as well, and go; each line tells of what it lost.
    """
    if weighted:
        yield from map(_plain, lines(document, spelling))
    else:
        yield from lines(unweighted(document), spelling)


def blocks_apart(document: Document, spelling: Spelling | None = None) -> tuple[str, ...]:
    """The text that encoders read, block by block as `--encoding per-character` has it.

    Put together they are the text. One alone, if no block is a character.
    """
    found = _apart(plain_lines(document, spelling))
    return tuple(found) if _peopled(document) else ("".join(found),)


def unweighted(document: Document) -> Document:
    """The same with every element as much meant as the others."""
    if all(part.weight == 1 for block in document.blocks for part in block.fields):
        return document
    blocks = (
        replace(block, fields=tuple(replace(part, weight=1.0) for part in block.fields))
        for block in document.blocks
    )
    return replace(document, blocks=tuple(blocks))


def sections(document: Document, spelling: Spelling | None = None) -> list[Section]:
    """Blocks in canonical order, those of one name joined, empty ones included."""
    characters: list[Section] = []
    shared: dict[str, list[Block]] = {}
    for block, number in zip(document.blocks, _numbers(document.blocks), strict=True):
        if number is None:
            shared.setdefault(lowered(block.name), []).append(block)
        else:
            characters.append(_section(f"character_{number}", [block], number, spelling))
        captions = (part for part in block.fields if is_inner_caption(block, part))
        if inside := tuple(part for part in captions if part.text):
            shared.setdefault(CAPTION, []).append(replace(block, fields=inside))
    others = [
        _section(name, shared[name], None, spelling) for name in sorted(shared, key=_block_rank)
    ]
    return sorted(characters, key=lambda section: section.number or 0) + others


def is_inner_caption(block: Block, part: Field) -> bool:
    """Whether a field is a caption inside another block: it is read as a block of its own."""
    return lowered(part.name) == CAPTION and lowered(block.name) != CAPTION


def system_prompt(document: Document, system: str | None, system_xml: str, system_text: str) -> str:
    """What Gemma reads in front of the user's text, the space between them included.

    The asked-for `system`, else the one the user put in front, else the model's own for XML
    or for text.
    """
    if system == "community":
        return COMMUNITY_SYSTEM
    if system is None:
        system = document.system or (system_xml if document.structured else system_text)
    return f"{system} " if system and not system[-1].isspace() else system


def encoder_texts(
    prompt: str,
    negative: str = "",
    *,
    systems: Systems,
    system: str | None = None,
    verbatim: bool = False,
    spelling: Spelling | None = None,
    mode: Literal["training", "comfy"] = "training",
    weighted: bool = False,
) -> Texts:
    """What each encoder reads for a prompt and its negative.

    As in training, Gemma reads a system prompt and the user's text, Jina the user's text
    alone; `comfy` gives Jina what Gemma reads. An empty text stays empty for both. The
    system prompt is `system` if given ("community" names the usual one of workflows), else
    the one the user put in front of the text, else the model's own, of `systems`. A negative
    with one of its own has that, whatever `system` is.
    `verbatim` sends the user's text untouched; else its tags are in `spelling`, and, if
    `weighted`, without the syntax of weights. Raises PromptRefused as `read` does.
    """
    read = partial(_encoder_text, verbatim=verbatim, spelling=spelling, weighted=weighted)
    positive = read(prompt, systems, system)
    if systems.negative is not None:
        systems, system = Systems(systems.negative, systems.negative), None
    other = read(unlabelled(negative), systems, system)
    if mode == "comfy":
        positive, other = (replace(each, jina=each.gemma) for each in (positive, other))
    return Texts(positive, other)


def _encoder_text(
    text: str,
    systems: Systems,
    system: str | None,
    *,
    verbatim: bool,
    spelling: Spelling | None,
    weighted: bool,
) -> EncoderText:
    document = documents.read(text)
    if not text.strip():
        return EncoderText("", "")
    if verbatim and system is None and document.system:
        return EncoderText(text, text)
    before = system_prompt(document, system, systems.xml, systems.text)
    if verbatim:
        return EncoderText(before + text, text)
    written = list(plain_lines(document, spelling, weighted=weighted))
    apart = _apart(written)
    emphases, at = list[Emphasis](), len(before)
    for line in written:
        emphases += (replace(one, start=one.start + at, end=one.end + at) for one in line.emphases)
        at += len(line.text) + 1
    ends = list(accumulate(map(len, apart), initial=len(before)))
    parts = tuple(pairwise(ends)) if _peopled(document) else ()
    user = "".join(apart)
    return EncoderText(before + user, user, tuple(emphases), parts)


def _apart(written: Iterable[Line]) -> list[str]:
    """The text of each section; all but the last end in a line break."""
    groups = groupby(written, key=lambda line: line.section)
    found = ["".join(f"{line.text}\n" for line in each) for _, each in groups]
    found[-1:] = [last.removesuffix("\n") for last in found[-1:]]
    return found


def _peopled(document: Document) -> bool:
    return any(character_number(block.name) is not None for block in document.blocks)


def _section_lines(section: Section) -> Iterator[Line]:
    if not section.parts:
        return
    if section.name == "":
        yield from (Line(part.text, part.fields, prose=True) for part in section.parts)
    elif len(section.parts) == 1 and section.parts[0].name == "":
        part = section.parts[0]
        yield _element_line(section.name, part)
    else:
        yield Line(f"<{section.name}>")
        for part in section.parts:
            if part.name:
                yield _element_line(part.name, part)
            else:
                yield Line(part.text, part.fields, prose=True)
        yield Line(f"</{section.name}>")


def _element_line(name: str, part: CanonicalField) -> Line:
    head = f"<{name}{weight_attribute(part.weight)}>"
    text, prose = f"{head}{part.text}</{name}>", name in (CAPTION, "n")
    return Line(text, part.fields, len(head), name, part.weight, prose=prose)


def _plain(line: Line) -> Line:
    """A line without the syntax of weights, with what they were of."""
    if not line.fields:
        return line
    head, tail = (f"<{line.name}>", f"</{line.name}>") if line.name else ("", "")
    body = line.text[line.begin : len(line.text) - len(tail)]
    text, found = emphasised(body, prose=line.prose, factor=line.weight)
    moved = (replace(one, start=one.start + len(head), end=one.end + len(head)) for one in found)
    return replace(line, text=f"{head}{text}{tail}", begin=len(head), emphases=tuple(moved))


def _section(
    name: str, blocks: list[Block], number: int | None, spelling: Spelling | None
) -> Section:
    known = number is not None or name == GENERAL
    groups: dict[str, list[Field]] = {}
    for block in blocks:
        for part in block.fields:
            if name == CAPTION:
                groups.setdefault("", []).append(part)
            elif not is_inner_caption(block, part) and not (number and lowered(part.name) in BOXES):
                group = standard_name(part.name) if known else part.name
                groups.setdefault(group, []).append(part)
    parts = [_part(group, groups[group], spelling) for group in sorted(groups, key=_field_rank)]
    return Section(name, tuple(part for part in parts if part.text), tuple(blocks), number)


def _part(name: str, fields: list[Field], spelling: Spelling | None) -> CanonicalField:
    """Fields of one meaning joined: those under its standard name first."""
    fields = sorted(fields, key=lambda part: name != "" and lowered(part.name) != name)
    weights = {part.weight for part in fields if part.text}
    weight = weights.pop() if len(weights) == 1 else 1.0
    if weights:
        fields = [_bracketed(part) for part in fields]
    if any(part.nested for part in fields):
        texts = (part.text if part.nested else escape(part.text) for part in fields)
        text = (", " if name else " ").join(filter(None, map(_collapsed, texts)))
    else:
        # Each field begins a line, so that its list mark is seen to be one.
        text = "\n".join(part.text for part in fields if part.text)
        text = escape(tidied(text, spelling if name != "n" else None) if name else _collapsed(text))
    return CanonicalField(name, text, tuple(part for part in fields if part.text), weight)


def _bracketed(part: Field) -> Field:
    """A field whose weight is told in its text, so that it can stand beside one of another."""
    if part.weight == 1 or not part.text:
        return part
    return replace(part, text=f"({part.text}:{part.weight:g})", weight=1.0)


def _numbers(blocks: Iterable[Block]) -> list[int | None]:
    """Each block's character number; a missing or repeated one becomes the next free."""
    given = [character_number(block.name) for block in blocks]
    taken = {number for number in given if number is not None}
    seen: set[int] = set()
    numbers: list[int | None] = []
    free = 1
    for number in given:
        if number is None or (number >= 0 and number not in seen):
            numbers.append(number)
        else:
            while free in taken:
                free += 1
            taken.add(free)
            numbers.append(free)
        if number is not None:
            seen.add(number)
    return numbers


def _block_rank(name: str) -> tuple[int, str]:
    return (0 if name == GENERAL else 3 if name == CAPTION else 1 if name else 2), name


def _field_rank(name: str) -> tuple[int, str]:
    """Known fields, then unknown ones by name, then text that has no tag."""
    return (_ORDER.get(name, len(_ORDER)) if name else len(_ORDER) + 1), name


def _collapsed(text: str) -> str:
    return " ".join(text.split())
