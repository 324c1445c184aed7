"""A prompt, read from what people write and written back.

    prompt := block*            several roots, inside <image> or <img> or nothing
    block  := field*            <character_1>, <general_tags>, <caption>, ...
    field  := text              <appearance>blue_hair, teal_eyes</appearance>

Prompts are written by hand, so reading forgives: a bare `&`, an undefined `&name;` and a
`<` that opens no tag (`>_<`, `<3`, `:<`) are text; text outside any tag becomes a nameless
block or field; tags deeper than a field stay in its text as they were written; attributes
of a block are fields; the dataset's annotation JSON gives the prompt inside it. What is
still not well-formed, and what has no tags at all, is one nameless block: plain text.

Only two things are refused, because no prompt needs them and attacks on XML do: a document
type or entity declaration, and more than 64 KiB of UTF-8.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from sakuga.errors import PromptRefused
from sakuga.prompt import annotation
from sakuga.prompt.nodes import CAPTION, Block, Document, Fault, Field, Kind, Offsets, Span
from sakuga.prompt.reader import escape, parse, refuse_declarations, text_field

__all__ = ["MAX_BYTES", "Block", "Document", "Fault", "Field", "Kind", "Span", "read", "write"]

MAX_BYTES = 64 * 1024

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_SPACE_TO_PYTHON = re.compile("[\x0b\x0c\x1c-\x1f]")  # which XML has no place for
_SPACE = re.compile(r"[\s\ufeff]*")
_XML_DECLARATION = re.compile(r"(?:<\?xml\s[^<>]*\?>[\s\ufeff]*)*")
_PROMPT_START = "<Prompt Start>"


@lru_cache(maxsize=16)  # a linter and both encoders read one text, once
def read(text: str) -> Document:
    """Read any text as a prompt. Raises PromptRefused on a DTD, an entity, or > 64 KiB."""
    _refuse_size(text)
    # One for one, so offsets stay true.
    text = _SPACE_TO_PYTHON.sub(" ", _LONE_SURROGATE.sub("\ufffd", text))
    refuse_declarations(text)
    begin = _after_space(text, 0)
    start = _end_of_system(text, begin)
    found = _annotated(text, start) or _parsed(text, start)
    end = begin + len(text[begin:start].rstrip())
    return replace(found, source=text, system=text[begin:end], system_span=Span(begin, end))


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


def _end_of_system(text: str, begin: int) -> int:
    """Offset where the prompt itself begins, past a system prompt the user put in front."""
    if not text.startswith("You are ", begin):
        return begin
    marker = text.rfind(_PROMPT_START)
    return begin if marker < 0 else _after_space(text, marker + len(_PROMPT_START))


def _parsed(text: str, start: int) -> Document:
    declaration = _XML_DECLARATION.match(text, start)
    begin = declaration.end() if declaration else start
    return parse(text[begin:], Offsets(0, begin))


def _annotated(text: str, start: int) -> Document | None:
    """The prompt inside an annotation JSON, if the text is one."""
    values = annotation.find_annotation(text, start)
    if values is None:
        return None
    found = Document("json", ())
    if "tags" in values:
        tags, origin = values["tags"]
        found = replace(parse(_LONE_SURROGATE.sub("\ufffd", tags), origin), kind="json")
    if "caption" in values:
        caption, origin = values["caption"]
        part = text_field("", _LONE_SURROGATE.sub("\ufffd", caption), 0, origin)
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
        return _element(block.name, "".join(map(_text, block.fields)))
    lines = [
        _element(part.name, _text(part)) if part.name else _text(part) for part in block.fields
    ]
    return _element(block.name, "\n".join(["", *lines, ""]))


def _text(part: Field) -> str:
    return part.text if part.nested else escape(part.text)


def _element(name: str, content: str) -> str:
    return f"<{name}>{content}</{name}>"
