"""XML as people write it -> blocks, by one feed of pyexpat and without recursion.

expat wants strict XML with one root; prompts are neither. So the markup is first made
well-formed where its meaning is plain (a root is put around it, and every `&` and `<` that
opens nothing becomes a reference), and every offset expat reports is mapped back.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal
from xml.parsers import expat

from sakuga.prompt.markup import (
    ESCAPES,
    NO_STRAY,
    SCAN,
    TAG,
    Markup,
    refuse,
    refuse_declarations,
    text_field,
)
from sakuga.prompt.nodes import CAPTION, Block, Document, Fault, Field, Offsets, Span

MAX_ELEMENTS = 2_000
MAX_ATTRIBUTES = 64
MAX_DEPTH = 32
WRAPPERS = frozenset({"image", "img"})

_ROOT = "prompt"
_WRAPPER_TAG = re.compile(r"<(?P<closing>/?)im(?:age|g)\s*+>", re.I | re.A)


def parse(markup: str, origin: Offsets) -> Document:
    """The markup as a document, plain text when it has no tags or is not well-formed.

    `origin` maps its offsets to those of the text the user gave.
    Raises PromptRefused when it declares a document type or an entity.
    """
    refuse_declarations(markup)
    fault: Fault | None = None
    if TAG.search(markup):
        try:
            document = _Reader(markup, origin).read()
            if document.structured:
                return document
        except _FaultFound as found:
            fault = found.fault
    start, end = (0, len(markup)) if fault else _unwrapped(markup)
    part = text_field("", markup[start:end], start, origin)
    return Document("text", (Block("", (part,), part.span),) if part.text else (), fault=fault)


def _unwrapped(markup: str) -> tuple[int, int]:
    """The range of plain text inside its wrappers, or all of it."""
    tags = list(_WRAPPER_TAG.finditer(markup))
    half = len(tags) // 2
    start, end = (tags[half - 1].end(), tags[half].start()) if half else (0, len(markup))
    around = _WRAPPER_TAG.sub("", markup[:start] + markup[end:])
    nested = all(bool(tag["closing"]) == (index >= half) for index, tag in enumerate(tags))
    return (start, end) if nested and not around.strip() else (0, len(markup))


def _well_formed(markup: str) -> tuple[bytes, Offsets, list[tuple[int, int]]]:
    """The markup under one root with its strays escaped; the way back; the strays."""
    pieces, strays, done = [f"<{_ROOT}>"], [], 0
    if NO_STRAY.match(markup):
        return f"<{_ROOT}>{markup}</{_ROOT}>".encode(), Offsets(len(pieces[0]), 0), []
    length = len(pieces[0])
    back = Offsets(length, 0)
    for match in SCAN.finditer(markup):
        if match.lastgroup != "stray":
            continue
        at, end = match.span()
        pieces += markup[done:at], ESCAPES[match[0]]
        length += at - done + len(pieces[-1])
        back.add(length, end)
        strays.append((at, end))
        done = end
    pieces += markup[done:], f"</{_ROOT}>"
    return "".join(pieces).encode(), back, strays


class _FaultFound(Exception):
    """Carries a Fault out of the parser's handlers."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.reason)
        self.fault = fault


@dataclass(slots=True)
class _Open:
    """An element whose end has not been seen. Offsets are the markup's."""

    name: str
    level: Literal["wrapper", "block", "leaf", "nested"]
    start: int
    content: int
    fields: list[Field] = field(default_factory=list)
    deep: Span | None = None
    nested: bool = False

    @property
    def caption(self) -> bool:
        """A caption is a block and a leaf at once: it holds nothing but its own text."""
        return self.name.lower() == CAPTION


class _Reader:
    """Collects blocks from expat's events; their text is taken from the markup itself."""

    def __init__(self, markup: str, origin: Offsets) -> None:
        self._markup, self._origin = Markup(markup, origin), origin
        self._bytes, self._back, self._stray_ranges = _well_formed(markup)
        self._byte = self._char = self._elements = 0
        self._stack: list[_Open] = []
        self._blocks: list[Block] = []
        self._attributes: list[Span] = []
        self._done = 0  # end of the last tag that bounds text

    def read(self) -> Document:
        """The document; raises _FaultFound when the markup is not well-formed."""
        self._parser = parser = expat.ParserCreate("utf-8")
        parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        try:
            parser.Parse(self._bytes, True)
        except expat.ExpatError as error:
            before = self._bytes[: parser.ErrorByteIndex].decode(errors="ignore")
            at = self._back.at(len(before))
            raise _FaultFound(_explain(error, self._markup, at, self._stack)) from None
        strays = [self._origin.span(start, end) for start, end in self._stray_ranges]
        return Document(
            "xml",
            tuple(self._blocks),
            strays=_outside_nested(strays, self._blocks),
            attributes=tuple(self._attributes),
        )

    def _position(self) -> int:
        """Markup offset of the event at hand; events come in reading order."""
        byte = self._parser.CurrentByteIndex
        self._char += len(self._bytes[self._byte : byte].decode())
        self._byte = byte
        return self._back.at(self._char)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        at = self._position()
        if not self._stack:
            self._stack.append(_Open(_ROOT, "wrapper", 0, 0))
            return
        opened = self._opened(name, at)
        self._check_limits(opened, len(attributes))
        if opened.level == "nested":
            self._nest(opened)
        elif opened.level != "wrapper":
            self._flush(at)
            self._done = opened.content
            if attributes:
                self._attributes.append(self._origin.span(at, opened.content))
            if opened.level == "block":
                opened.fields += self._markup.attribute_fields(at, opened.content)
        self._stack.append(opened)

    def _opened(self, name: str, at: int) -> _Open:
        opened = _Open(name, "nested", at, self._markup.tag_end(at))
        parent = self._stack[-1].level
        if parent == "wrapper":
            opened.level = "leaf" if opened.caption else "block"
            if name.lower() in WRAPPERS:
                opened.level = "wrapper"
        elif parent == "block":
            opened.level = "leaf"
        return opened

    def _nest(self, opened: _Open) -> None:
        leaf = next(element for element in reversed(self._stack) if element.level == "leaf")
        leaf.nested = True
        if leaf.deep is None and not leaf.caption:
            leaf.deep = self._origin.span(opened.start, opened.content)

    def _check_limits(self, opened: _Open, attributes: int) -> None:
        self._elements += 1
        span = self._origin.span(opened.start, opened.content)
        if len(self._stack) > MAX_DEPTH:
            reason = f"<{opened.name}> is {len(self._stack)} levels deep; a prompt has two"
            fix = "Put the tags straight into the fields of a block."
            raise _FaultFound(Fault("too-deep", span, reason, fix))
        if self._elements > MAX_ELEMENTS:
            reason = f"this is tag number {self._elements:,}; a prompt has at most {MAX_ELEMENTS:,}"
            raise _FaultFound(Fault("not-well-formed", span, reason, "Use fewer tags."))
        if attributes > MAX_ATTRIBUTES:
            reason = f"<{opened.name}> has {attributes:,} attributes; {MAX_ATTRIBUTES} is the most"
            raise _FaultFound(Fault("not-well-formed", span, reason, "Write fields instead."))

    def _end(self, name: str) -> None:
        at = self._position()
        closed = self._stack[-1]
        if closed.level == "block" or len(self._stack) == 1:
            self._flush(at)
        self._stack.pop()
        if closed.level == "block":
            self._blocks.append(Block(name, tuple(closed.fields), *self._tags_of(closed, at)))
        elif closed.level == "leaf":
            self._close_leaf(closed, at)

    def _flush(self, end: int) -> None:
        """Text since the last tag belongs to the open block or, outside of all, is one."""
        part = self._markup.text_field(self._done, end)
        parent = self._stack[-1]
        if part.text and parent.level == "block":
            parent.fields.append(part)
        elif part.text:
            self._blocks.append(Block("", (part,), part.span))

    def _close_leaf(self, closed: _Open, at: int) -> None:
        if closed.nested:
            raw = self._markup.text[closed.content : at]
            text = text_field("", raw, closed.content, self._origin)
        else:
            text = self._markup.text_field(closed.content, at)
        span, names = self._tags_of(closed, at)
        parent = self._stack[-1]
        if parent.level == "block":
            part = replace(text, name=closed.name, span=span, names=names, deep=closed.deep)
            parent.fields.append(replace(part, nested=closed.nested))
        else:
            inside = (replace(text, nested=closed.nested),) if text.text else ()
            self._blocks.append(Block(closed.name, inside, span, names))

    def _tags_of(self, closed: _Open, at: int) -> tuple[Span, tuple[Span, ...]]:
        """The element's span and those of its name in its tags, when its end is at `at`."""
        size = len(closed.name)
        names = [self._origin.span(closed.start + 1, closed.start + 1 + size)]
        self._done = closed.content
        if self._markup.text[closed.content - 2] != "/":
            self._done = self._markup.tag_end(at)
            names.append(self._origin.span(at + 2, at + 2 + size))
        return self._origin.span(closed.start, self._done), tuple(names)


def _outside_nested(strays: Sequence[Span], blocks: Sequence[Block]) -> tuple[Span, ...]:
    """Bare markup read as text; inside a nested field it stays part of the raw text."""
    nested = [part.span for block in blocks for part in block.fields if part.nested]
    starts = [span.start for span in nested]
    inside = (bisect_right(starts, stray.start) - 1 for stray in strays)
    return tuple(
        stray
        for stray, index in zip(strays, inside, strict=True)
        if index < 0 or nested[index].end <= stray.start
    )


def _explain(error: expat.ExpatError, markup: Markup, at: int, stack: Sequence[_Open]) -> Fault:
    """What is wrong at an offset of the markup, where expat stopped, inside the open elements."""
    text, span_of = markup.text, markup.origin.span
    mismatch = error.code == expat.errors.codes[expat.errors.XML_ERROR_TAG_MISMATCH]
    at = min(max(at - 2 * mismatch, 0), len(text))  # expat points past the </ of a mismatch
    end = min(markup.tag_end(at), len(text))
    span = span_of(min(at, end - 1), end)
    inner = stack[-1]
    if not mismatch:
        reason = f"XML reading stops here: {expat.ErrorString(error.code)}"
        return Fault("not-well-formed", span, reason, "Correct or remove it.")
    if at == len(text):
        span = span_of(inner.start, inner.content)
        reason = f"<{inner.name}> is never closed"
        fix = f"Write </{inner.name}> after its text."
    elif len(stack) > 1:
        reason = f"{text[at:end]} comes before <{inner.name}> is closed"
        fix = f"Write </{inner.name}> before it."
    else:
        reason = f"{text[at:end]} closes a tag that was never opened"
        fix = "Remove it, or open the tag."
    return Fault("not-well-formed", span, reason, fix)
