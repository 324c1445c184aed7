"""Rules on how a prompt is put together: its markup, blocks and fields, and their names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from sakuga.prompt.canonical import Section, is_inner_caption
from sakuga.prompt.escapes import begins_block
from sakuga.prompt.names import (
    ALIASES,
    CAPTION,
    CHARACTER_FIELDS,
    GENERAL,
    GENERAL_FIELDS,
    UNNUMBERED,
    character_number,
    standard_name,
)
from sakuga.prompt.nodes import Block, Document, Field, Span
from sakuga.prompt.reader import ESCAPES
from sakuga.prompt.rules import Edit, Found
from sakuga.prompt.speech import is_prose

_EMPTY = re.compile(r"<[^<>]*/>|<[^<>]*>\s*</[^<>]*>")
_COMMAS = re.compile(r"[,，、][\s,，、]*+")


def unread(document: Document) -> Iterator[Found]:
    """How the text was read at all."""
    for one in document.around:
        yield Found(one.rule, one.span, one.reason, one.fix)
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
    if document.attributes:
        reason = "the attributes of a block are read as fields, those of a field are not read"
        reason += _more(document.attributes)
        fix = "Write a field for each: <name>text</name>."
        yield Found("attribute", document.attributes[0], reason, fix)
    if document.system:
        reason = "this system prompt takes the place of the model's own"
        fix = "Remove it, unless it is meant to differ from the model's."
        yield Found("own-system-prompt", document.system_span, reason, fix)


def _more(found: Sequence[object]) -> str:
    return f" (and {len(found) - 1} more)" if len(found) > 1 else ""


def _has_fields(block: Block) -> bool:
    """Whether text of its own is unexpected in a block (or outside of all of them)."""
    known = block.name.lower() == GENERAL or character_number(block.name) is not None
    return known or block.name == ""


def _loose(block: Block, part: Field) -> Found:
    span = part.locate(0, len(part.text))
    if block.name:
        reason = f"text in <{block.name}> but in none of its fields"
        return Found("loose-text", span, reason, "Put it into a field, such as <appearance>.")
    if is_prose(part.text):
        reason = f"a sentence outside of any block is drawn, too: {_shortened(part.text)!r}"
        fix = f"Put it into <{CAPTION}>, or remove it if it only speaks about the prompt."
        return Found("outside-text", span, reason, fix)
    reason = f"text outside of any block is read after <{GENERAL}>"
    return Found("loose-text", span, reason, f"Put it into <{CAPTION}>, or a field of <{GENERAL}>.")


def strays(document: Document) -> Iterator[Found]:
    """Bare markup is one finding: whoever writes one `&` writes many."""
    if not document.strays:
        return
    first = document.strays[0]
    bare = document.source[first.start : first.end]
    edits = tuple(
        Edit(stray.start, stray.end, ESCAPES[document.source[stray.start : stray.end]])
        for stray in document.strays
        if document.source[stray.start : stray.end] in ESCAPES
    )
    if any(begins_block(document.source, stray.start) for stray in document.strays):
        edits = ()  # escaped, it would be taken for a tag that somebody had escaped
    reason = f"a bare {bare} is text here, but other XML tools stop at it{_more(document.strays)}"
    yield Found("bare-markup", first, reason, "Write &amp; for & and &lt; for <.", edits)


def character_names(sections: list[Section]) -> Iterator[Found]:
    """Each character has a number of its own, written at its block."""
    for section in sections:
        if section.number is None:
            continue
        block = section.blocks[0]
        given = character_number(block.name)
        if given == UNNUMBERED:
            edits = tuple(Edit(name.start, name.end, section.name) for name in block.names)
            reason = f"<{block.name}> has no number and is read as <{section.name}>"
            fix = f"Write <{section.name}>."
            yield Found("unnumbered-character", block.names[0], reason, fix, edits)
        elif given != section.number:
            reason = f"<character_{given}> is there already; this one is read as <{section.name}>"
            fix = f"Write <{section.name}>, or join the two if they are one."
            yield Found("duplicate-number", block.names[0], reason, fix)


def names(sections: list[Section]) -> Iterator[Found]:
    """Names of blocks and fields: known, in their place, given once."""
    for section in sections:
        if section.number is not None:
            yield from _field_names(section, CHARACTER_FIELDS, GENERAL_FIELDS, GENERAL)
        elif section.name == GENERAL:
            yield from _field_names(section, GENERAL_FIELDS, CHARACTER_FIELDS, "character_1")
        elif section.name not in {"", CAPTION}:
            yield from (_unknown_block(block) for block in section.blocks)


def inner_captions(document: Document) -> Iterator[Found]:
    """A caption is a block of its own."""
    for block in document.blocks:
        for part in block.fields:
            if not is_inner_caption(block, part):
                continue
            source = document.source
            text = source[part.span.start : part.span.end]
            edits = (
                Edit(part.span.start, part.span.end, "\n"),
                Edit(block.span.end, block.span.end, f"\n{text}"),
            )
            reason = f"<{part.name}> is a block of its own, here it is inside <{block.name}>"
            fix = f"Close <{block.name}> first."
            yield Found("inner-caption", part.names[0], reason, fix, edits)


def _unknown_block(block: Block) -> Found:
    span, name = block.names[0], standard_name(block.name)
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
            if field.name.lower() in ALIASES:
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


def spare_commas(document: Document) -> Iterator[Found]:
    """`a,, b,` has tags that are nothing."""
    for block in document.blocks if document.structured else ():
        for field in block.fields:
            if not field.name or field.nested or is_inner_caption(block, field):
                continue
            edits = list(_comma_edits(document.source, field))
            if edits:
                span = Span(edits[0].start, edits[0].end)
                reason = "a comma with no tag beside it"
                yield Found("empty-tag", span, reason, "Remove it.", tuple(edits))


def _comma_edits(source: str, field: Field) -> Iterator[Edit]:
    for match in _COMMAS.finditer(field.text):
        inner = match.start() > 0 and match.end() < len(field.text)
        if inner and len(match[0].rstrip()) == 1:
            continue
        span = field.locate(*match.span())
        if source[span.start : span.end] == match[0]:  # no markup in between
            separator = ",\n" if "\n" in match[0] else ", "  # a list mark begins a line
            yield Edit(span.start, span.end, separator if inner else "")


def empty_elements(document: Document, sections: list[Section]) -> Iterator[Found]:
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
