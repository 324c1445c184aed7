"""A prompt, read from what people write and written back.

    prompt := block*            several roots, inside <image> or <img> or nothing
    block  := field*            <character_1>, <general_tags>, <caption>, ...
    field  := text              <appearance>blue_hair, teal_eyes</appearance>

Prompts are written by hand, so reading forgives: a bare `&`, an undefined `&name;` and a
`<` that opens no tag (`>_<`, `<3`, `:<`) are text; text outside any tag becomes a nameless
block or field; tags deeper than a field stay in its text as they were written; attributes
of a block are fields; the dataset's annotation JSON gives the prompt inside it. What is
still not well-formed, and what has no tags at all, is one nameless block: plain text. What
stands around a prompt (`around`) and what says what not to draw (`settings`) is left out.

Only two things are refused, because no prompt needs them and attacks on XML do: a document
type or entity declaration, and more than 64 KiB of UTF-8.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from sakuga.errors import PromptRefused
from sakuga.prompt import annotation
from sakuga.prompt.around import OF_CAPTIONS, beside_caption, peel
from sakuga.prompt.emphasis import weight_attribute
from sakuga.prompt.names import CAPTION
from sakuga.prompt.nodes import Block, Document, Fault, Field, Kind, Offsets, Remark, Span
from sakuga.prompt.passage import Passage
from sakuga.prompt.reader import escape, parse, refuse_declarations, text_field
from sakuga.prompt.settings import without_settings

__all__ = [
    "MAX_BYTES",
    "Block",
    "Document",
    "Fault",
    "Field",
    "Kind",
    "Span",
    "clean",
    "read",
    "write",
]

MAX_BYTES = 64 * 1024

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_SPACES_TO_PYTHON = "\x0b\x0c\x1c\x1d\x1e\x1f"  # which XML has no place for
_SPACE = re.compile(r"[\s\ufeff]*")
_XML_DECLARATION = re.compile(r"(?:<\?xml\s[^<>]*\?>[\s\ufeff]*)*")
_PROMPT_START = "<Prompt Start>"


@lru_cache(maxsize=16)  # a linter and both encoders read one text, once
def read(text: str) -> Document:
    """Read any text as a prompt. Raises PromptRefused on a DTD, an entity, or > 64 KiB."""
    text, passage, system, around = _peeled(text)
    passage, unwanted = _wanted(passage)
    found = _annotated(passage) or _parsed(passage)
    return replace(
        found,
        source=text,
        system=text[system.start : system.end],
        system_span=system,
        around=(*around, *unwanted, *found.around),
    )


def clean(text: str) -> str:
    """The text without what stands around its prompt; itself where nothing does."""
    normal, passage, system, around = _peeled(text)
    if not around:
        return text
    before = f"{normal[system.start : system.end]}\n" if system.end > system.start else ""
    return f"{before}{passage.text.strip()}\n"


def write(document: Document) -> str:
    """The document as text, such that `read(write(document)) == document`."""
    blocks = list(document.blocks)
    if document.kind == "json":
        body = _annotation(blocks)
    elif document.kind == "text":
        body = "".join(block.fields[0].text for block in blocks)
    else:
        body = "\n".join(map(_written, blocks))
    return f"{document.system}\n{body}" if document.system else body


def bytes_of(text: str) -> int:
    """Bytes of UTF-8; for a text that is too large anyway, at least so many."""
    if len(text) > MAX_BYTES:  # a character is at least a byte: a huge text is never encoded
        return len(text)
    return len(text.encode("utf-8", "surrogatepass"))


def _refuse_size(text: str) -> None:
    if bytes_of(text) > MAX_BYTES:
        raise PromptRefused(
            "a prompt is at most 64 KiB of UTF-8",
            f"{bytes_of(text):,} bytes or more",
            "Shorten it: models read about 512 tokens, 2 KiB of English.",
        )


def _after_space(text: str, start: int) -> int:
    space = _SPACE.match(text, start)
    return space.end() if space else start


def _end_of_system(text: str) -> int:
    """Offset where the prompt itself begins, past a system prompt the user put in front."""
    if not text.startswith("You are "):
        return 0
    marker = text.rfind(_PROMPT_START)
    return 0 if marker < 0 else _after_space(text, marker + len(_PROMPT_START))


def _in_xml(text: str) -> str:
    """The text in characters that XML has; one for one, so that offsets stay true."""
    try:
        text.encode()
    except UnicodeEncodeError:
        text = _LONE_SURROGATE.sub("\ufffd", text)
    for space in _SPACES_TO_PYTHON:
        text = text.replace(space, " ")
    return text


def _peeled(text: str) -> tuple[str, Passage, Span, tuple[Remark, ...]]:
    """The text in characters that XML allows, the prompt in it, its system prompt, the rest."""
    _refuse_size(text)
    text = _in_xml(text)
    refuse_declarations(text)
    passage = Passage(text, Offsets(0, 0)).after(_after_space(text, 0))
    around: tuple[Remark, ...] = ()
    start = _end_of_system(passage.text)
    if not start:
        passage, around = peel(passage)
        passage = passage.after(_after_space(passage.text, 0))
        start = _end_of_system(passage.text)
    system = passage.origin.span(0, len(passage.text[:start].rstrip()))
    if start:
        passage, more = peel(passage.after(start))
        around = (*around, *more)
    refuse_declarations(passage.text)
    return text, passage, system, around


def _wanted(passage: Passage) -> tuple[Passage, tuple[Remark, ...]]:
    """The prompt without what shall not be drawn, nor what then stands around it."""
    passage, unwanted = without_settings(passage)
    if not unwanted:
        return passage, ()
    passage, around = peel(passage)
    passage, more = _wanted(passage)
    return passage, (*unwanted, *around, *more)


def _parsed(passage: Passage) -> Document:
    declaration = _XML_DECLARATION.match(passage.text)
    passage = passage.after(declaration.end() if declaration else 0)
    return parse(passage.text, passage.origin)


def _annotated(passage: Passage) -> Document | None:
    """The prompt inside an annotation JSON, if the text is one."""
    values = annotation.find_annotation(passage)
    if values is None:
        return None
    found = Document("json", ())
    if "tags" in values:
        refuse_declarations(values["tags"].text)
        tags, around = peel(values["tags"])
        tags, unwanted = _wanted(tags)
        found = replace(_parsed(tags), kind="json", around=(*around, *unwanted))
        if "caption" in values and not found.structured and values["caption"].text.strip():
            tags, more = peel(tags, (beside_caption,))
            found = replace(_parsed(tags), kind="json", around=(*found.around, *more))
    if "caption" in values:
        caption, around = peel(values["caption"], OF_CAPTIONS)
        found = replace(found, around=(*found.around, *around))
        part = text_field("", caption.text, 0, caption.origin)
        if part.text:
            block = Block(CAPTION, (part,), part.span)
            found = replace(found, blocks=(*found.blocks, block))
    return found


def _annotation(blocks: list[Block]) -> str:
    caption = blocks.pop() if _ends_in_caption(blocks) else None
    tags = "\n".join(map(_written, blocks))
    if blocks and not any(block.name for block in blocks):
        plain = blocks[0].fields[0].text
        if parse(plain, Offsets(0, 0)).structured:  # it spells tags out, and says none
            return annotation.write_annotation(
                "\n".join([tags, *([_written(caption)] if caption else [])]), ""
            )
        tags = plain
    return annotation.write_annotation(tags, caption.fields[0].text if caption else "")


def _ends_in_caption(blocks: list[Block]) -> bool:
    if not blocks or blocks[-1].name != CAPTION or len(blocks[-1].fields) != 1:
        return False
    return not blocks[-1].fields[0].nested


def _written(block: Block) -> str:
    if block.name == "":
        return escape(block.fields[0].text)
    if len(block.fields) <= 1 and all(part.name == "" for part in block.fields):
        weight = block.fields[0].weight if block.fields else 1.0
        return _element(block.name, "".join(map(_text, block.fields)), weight)
    lines = [
        _element(part.name, _text(part), part.weight) if part.name else _text(part)
        for part in block.fields
    ]
    return _element(block.name, "\n".join(["", *lines, ""]))


def _text(part: Field) -> str:
    return part.text if part.nested else escape(part.text)


def _element(name: str, content: str, weight: float = 1.0) -> str:
    return f"<{name}{weight_attribute(weight)}>{content}</{name}>"
