"""XML as people write it -> blocks: what of a text is markup, then one feed of pyexpat.

expat wants strict XML with one root; prompts are neither. So the markup is first made
well-formed where its meaning is plain (a root is put around it, and every `&` and `<` that
opens nothing becomes a reference), and every offset expat reports is mapped back.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NoReturn
from xml.parsers import expat

from sakuga.errors import PromptRefused
from sakuga.prompt.emphasis import WEIGHT, capped, weight_of
from sakuga.prompt.names import BOXES, CAPTION, UNNUMBERED, WRAPPERS, character_number
from sakuga.prompt.nodes import Block, Document, Fault, Field, Offsets, Span
from sakuga.prompt.regex import Regex

_NAME = r"[^\W\d][\w.\-]*+"
# The face <o>_<o> is a tag of pictures, none of XML.
_NO_FACE = r"(?<!<\w>_<)(?!\w>_<\w>)"
_ATTRIBUTES = rf"(?:\s++{_NAME}\s*+=\s*+(?:\"[^\"<]*+\"|'[^'<]*+'))*+\s*+/?>"
_TAG_TAIL = rf"{_NO_FACE}/?{_NAME}{_ATTRIBUTES}"
_REFERENCE = r"&(?:amp|lt|gt|quot|apos|#[0-9]{1,7}|#x[0-9a-fA-F]{1,6});"
_COMMENT = r"<!--.*?(?:-->|\Z)"
_CDATA = r"<!\[CDATA\[.*?(?:\]\]>|\Z)"
_INSTRUCTION = r"<\?[A-Za-z_].*?(?:\?>|\Z)"
_DECLARATION = r"!(?:DOCTYPE|ENTITY|ELEMENT|ATTLIST|NOTATION)"
TAG = re.compile(f"<{_NO_FACE}/?(?P<name>{_NAME}){_ATTRIBUTES}")
_ATTRIBUTE = Regex(rf"\s({_NAME})\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)')")
_DECLARATIONS = re.compile(f"<{_DECLARATION}", re.I | re.A)
# A stray and all that stands before it; told without a match for every tag. A tag is only looked
# at, so that a bare & among its attributes is still found.
_STRAY = re.compile(
    rf"(?:[^<&\]]++|<{_NO_FACE}/?{_NAME}\s*+/?>|{_COMMENT}|{_CDATA}|{_INSTRUCTION}"
    rf"|<(?={_TAG_TAIL})|{_REFERENCE}|\](?!\]>))*+(?P<stray>[<&]|\]\]>|\Z)",
    re.S,
)
MARKUP = re.compile(
    rf"{_COMMENT}|(?P<cdata>{_CDATA})|{_INSTRUCTION}|(?P<tag><{_TAG_TAIL})|(?P<reference>{_REFERENCE})",
    re.S,
)
# The tags that are no part of something else.
TAGS = re.compile(
    rf"<(?=[!?/\w])(?:{_COMMENT[1:]}|{_CDATA[1:]}|{_INSTRUCTION[1:]}"
    rf"|{_NO_FACE}(?P<end>/?)(?P<name>{_NAME}){_ATTRIBUTES})",
    re.S,
)
_READS_AS_TAG = Regex(rf"<(?=!--|!\[CDATA\[|(?i:{_DECLARATION})|\?[A-Za-z_]|{_TAG_TAIL})")
_READS_AS_REFERENCE = Regex(rf"&(?={_REFERENCE[1:]})")
ESCAPES = {"<": "&lt;", "&": "&amp;", "]]>": "]]&gt;"}
_NUMBERS = frozenset({"id", "number", "num", "no", "index"})
_NUMBER = Regex(r"(?:char(?:acter)?[_\- ]?)?([0-9]{1,3})", re.I | re.A)

MAX_ELEMENTS = 2_000
MAX_ATTRIBUTES = 64
MAX_DEPTH = 32
_ROOT = "prompt"
_WRAPPER_TAG = Regex(r"<(?P<closing>/?)im(?:age|g)\s*+>", re.I | re.A)


def escape(text: str) -> str:
    """Text with references only where it would otherwise be read as markup.

    The encoders read text, not XML: `cats & dogs >_<` stays itself, while the rare text
    that spells out a tag or a reference keeps `&lt;` or `&amp;`, so that reading the result
    again gives the same text.
    """
    if "<" not in text and "&" not in text:
        return text
    text = _READS_AS_REFERENCE.compiled.sub("&amp;", text)
    return _READS_AS_TAG.compiled.sub("&lt;", text)


def find_declaration(text: str) -> Span | None:
    """Where a text declares a document type or an entity, if it does."""
    match = _DECLARATIONS.search(text) if "<!" in text else None
    return Span(match.start(), match.end()) if match else None


def refuse_declarations(text: str) -> None:
    """Raise PromptRefused when a text declares a document type or an entity."""
    span = find_declaration(text)
    if span:
        refuse_prompt(text[span.start : span.end])


def refuse_prompt(declaration: str, *_: object) -> NoReturn:
    """Raise PromptRefused for one declaration; what else expat tells of it is of no use."""
    raise PromptRefused(
        "a prompt declares no document type and no entity",
        declaration,
        "Remove the declaration; write &lt; for < and &amp; for &.",
    )


def text_field(name: str, raw: str, start: int, origin: Offsets) -> Field:
    """A field whose text is `raw`, trimmed; `raw` begins at `start` of `origin`'s text."""
    text = raw.strip()
    begin = start + len(raw) - len(raw.lstrip())
    if not text:
        at = origin.at(start)
        return Field(name, "", span=Span(at, at), runs=((0, at),))
    runs = [(key - begin, value) for key, value in origin.runs(begin, begin + len(text))]
    span = origin.span(begin, begin + len(text))
    return Field(name, text, span=span, runs=(*runs, (len(text), span.end)))


@dataclass(frozen=True, slots=True)
class Markup:
    """A prompt's markup, and the text from its tags to its tags.

    `origin` maps its offsets to those of the text the user gave.
    """

    text: str
    origin: Offsets

    def tag_end(self, at: int) -> int:
        """The end of the tag at `at`, or of that one character where there is none."""
        tag = TAG.match(self.text, at)
        return tag.end() if tag else at + 1

    def attribute_fields(self, start: int, end: int) -> Iterator[Field]:
        """`<character_1 gender="1girl">` says what a field would say."""
        for match in _ATTRIBUTE.compiled.finditer(self.text, start, end):
            value = 3 if match[2] is None else 2
            part = self.text_field(*match.span(value))
            yield replace(part, name=match[1], span=self.origin.span(*match.span()))

    def text_field(self, start: int, end: int) -> Field:
        """The text between two tags, trimmed; tags inside it can only be wrappers'."""
        pieces: list[str] = []
        runs: list[tuple[int, int]] = []
        length = 0
        for text, at in self._pieces(start, end):
            origins = self.origin.runs(at, at + len(text))
            runs += [(length + key - at, value) for key, value in origins]
            pieces.append(text)
            length += len(text)
        whole = "".join(pieces)
        lead = len(whole) - len(whole.lstrip())
        shifted = [(index - lead, value) for index, value in runs]
        part = Field("", whole.strip(), runs=(*shifted, (length - lead, self.origin.at(end))))
        return replace(part, span=part.locate(0, len(part.text)))

    def _pieces(self, start: int, end: int) -> Iterator[tuple[str, int]]:
        """Stretches of text with their offset in the markup, references resolved."""
        done = start
        for match in MARKUP.finditer(self.text, start, end):
            if match.start() > done:
                yield self.text[done : match.start()], done
            if match["reference"]:
                yield _resolved(match[0]), match.start()
            elif match["cdata"]:
                yield match[0][len("<![CDATA[") : -len("]]>")], match.start() + len("<![CDATA[")
            elif match["tag"]:
                yield "\n", match.start()
            done = match.end()
        if end > done or done == start:
            yield self.text[done:end], done


def _resolved(reference: str) -> str:
    names = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
    name = reference[1:-1]
    if name in names:
        return names[name]
    return chr(int(name[2:], 16) if name[1] == "x" else int(name[1:]))


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
    tags = list(_WRAPPER_TAG.compiled.finditer(markup))
    half = len(tags) // 2
    start, end = (tags[half - 1].end(), tags[half].start()) if half else (0, len(markup))
    around = _WRAPPER_TAG.compiled.sub("", markup[:start] + markup[end:])
    nested = all(bool(tag["closing"]) == (index >= half) for index, tag in enumerate(tags))
    return (start, end) if nested and not around.strip() else (0, len(markup))


def _too_many_strays(stray: str, span: Span) -> Fault:
    reason = f"this is bare {stray} number {MAX_ELEMENTS + 1:,}; {MAX_ELEMENTS:,} are the most"
    return Fault("not-well-formed", span, reason, "Use fewer.")


def _well_formed(markup: str, origin: Offsets) -> tuple[bytes, Offsets, list[tuple[int, int]]]:
    """The markup under one root with its strays escaped; the way back; the strays."""
    pieces, strays, done = [f"<{_ROOT}>"], [], 0
    length = len(pieces[0])
    back = Offsets(length, 0)
    for match in _STRAY.finditer(markup):
        at, end = match.span("stray")
        if at == end:
            break
        pieces += markup[done:at], ESCAPES[match["stray"]]
        length += at - done + len(pieces[-1])
        back.add(length, end)
        strays.append((at, end))
        if len(strays) > MAX_ELEMENTS:
            raise _FaultFound(_too_many_strays(match["stray"], origin.span(at, end)))
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
    weight: float = 1.0

    @property
    def caption(self) -> bool:
        """A caption is a block and a leaf at once: it holds nothing but its own text."""
        return self.name.lower() == CAPTION


class _Reader:
    """Collects blocks from expat's events; their text is taken from the markup itself."""

    def __init__(self, markup: str, origin: Offsets) -> None:
        self._markup, self._origin = Markup(markup, origin), origin
        self._bytes, self._back, self._stray_ranges = _well_formed(markup, origin)
        self._byte = self._char = self._elements = 0
        self._stack: list[_Open] = []
        self._blocks: list[Block] = []
        self._attributes: list[Span] = []
        self._done = 0  # end of the last tag that bounds text

    def read(self) -> Document:
        """The document; raises _FaultFound when the markup is not well-formed."""
        self._parser = parser = expat.ParserCreate("utf-8")
        parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse_prompt
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
            weight = weight_of(attributes.get(WEIGHT, ""))
            opened.weight = 1.0 if weight is None else weight
            if attributes.keys() - (set() if weight is None else {WEIGHT}) - BOXES:
                self._attributes.append(self._origin.span(at, opened.content))
            if opened.level == "block":
                told = self._markup.attribute_fields(at, opened.content)
                opened.fields += (one for one in told if weight is None or one.name != WEIGHT)
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
            name, fields = _numbered(name, _weighted(closed))
            self._blocks.append(Block(name, fields, *self._tags_of(closed, at)))
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
            parent.fields.append(replace(part, nested=closed.nested, weight=closed.weight))
        else:
            part = replace(text, nested=closed.nested, weight=closed.weight)
            inside = (part,) if text.text else ()
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


def _weighted(block: _Open) -> list[Field]:
    """The fields of a block, each with the weight of both; text beside others has no tag for it."""
    fields, alone = block.fields, len(block.fields) == 1
    if block.weight == 1:
        return fields
    weights = (capped(part.weight * block.weight) if part.name or alone else 1.0 for part in fields)
    return [replace(part, weight=one) for part, one in zip(fields, weights, strict=True)]


def _numbered(name: str, fields: list[Field]) -> tuple[str, tuple[Field, ...]]:
    """A block's name and fields; `<character id="2">` is character_2."""
    if character_number(name) == UNNUMBERED:
        for part in fields:
            named = part.name.lower() in _NUMBERS and part.names == ()
            if named and (number := _NUMBER.compiled.fullmatch(part.text)):
                rest = tuple(other for other in fields if other is not part)
                return f"character_{int(number[1])}", rest
    return name, tuple(fields)


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
