"""What of a text is markup, and what is text: tags, references, comments, declarations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NoReturn

from sakuga.errors import PromptRefused
from sakuga.prompt.nodes import Field, Offsets, Span

_NAME = r"[^\W\d][\w.\-]*+"
_TAG_TAIL = (
    rf"/?{_NAME}"
    rf"(?:\s++{_NAME}\s*+=\s*+(?:\"[^\"<]*+\"|'[^'<]*+'))*+"
    r"\s*+/?>"
)
_REFERENCE = r"&(?:amp|lt|gt|quot|apos|#[0-9]{1,7}|#x[0-9a-fA-F]{1,6});"
_COMMENT = r"<!--.*?(?:-->|\Z)"
_CDATA = r"<!\[CDATA\[.*?(?:\]\]>|\Z)"
_INSTRUCTION = r"<\?[A-Za-z_].*?(?:\?>|\Z)"
_DECLARATION = r"!(?:DOCTYPE|ENTITY|ELEMENT|ATTLIST|NOTATION)"
TAG = re.compile(f"<{_TAG_TAIL}")
_ATTRIBUTE = re.compile(rf"\s({_NAME})\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)')")
_DECLARATIONS = re.compile(f"<{_DECLARATION}", re.I | re.A)
# A tag is only looked at, so that a bare & among its attributes is still found.
SCAN = re.compile(
    rf"{_COMMENT}|{_CDATA}|{_INSTRUCTION}|<(?={_TAG_TAIL})|{_REFERENCE}|(?P<stray>[<&]|\]\]>)", re.S
)
# All of a text in which `SCAN` finds no stray, told without a match for every tag.
NO_STRAY = re.compile(
    rf"(?:[^<&\]]++|{_COMMENT}|{_CDATA}|{_INSTRUCTION}|<(?={_TAG_TAIL})|{_REFERENCE}|\](?!\]>))*+\Z",
    re.S,
)
_NOT_TEXT = re.compile(
    rf"{_COMMENT}|(?P<cdata>{_CDATA})|{_INSTRUCTION}|(?P<tag><{_TAG_TAIL})|(?P<reference>{_REFERENCE})",
    re.S,
)
_READS_AS_MARKUP = re.compile(
    rf"<(?=!--|!\[CDATA\[|(?i:{_DECLARATION})|\?[A-Za-z_]|{_TAG_TAIL})|&(?={_REFERENCE[1:]})"
)
ESCAPES = {"<": "&lt;", "&": "&amp;", "]]>": "]]&gt;"}


def escape(text: str) -> str:
    """Text with references only where it would otherwise be read as markup.

    The encoders read text, not XML: `cats & dogs >_<` stays itself, while the rare text
    that spells out a tag or a reference keeps `&lt;` or `&amp;`, so that reading the result
    again gives the same text.
    """
    return _READS_AS_MARKUP.sub(lambda match: ESCAPES[match[0]], text)


def find_declaration(text: str) -> Span | None:
    """Where a text declares a document type or an entity, if it does."""
    match = _DECLARATIONS.search(text)
    return Span(match.start(), match.end()) if match else None


def refuse_declarations(text: str) -> None:
    """Raise PromptRefused when a text declares a document type or an entity."""
    span = find_declaration(text)
    if span:
        refuse(text[span.start : span.end])


def refuse(declaration: str, *_: object) -> NoReturn:
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
        for match in _ATTRIBUTE.finditer(self.text, start, end):
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
        for match in _NOT_TEXT.finditer(self.text, start, end):
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
