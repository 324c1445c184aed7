"""Tags as people write them: split, and spelled as tables spell them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from sakuga.prompt.nodes import Field, Span
from sakuga.prompt.regex import Regex

SEPARATORS = ",，、､،﹐;；。｡｜\n\r\x85\u2028\u2029"
_BLANK = r"[^\S\n\r\x85\u2028\u2029]"
_MARK = rf"(?:[•・▪◦‣①-⑳]{_BLANK}*+|(?:[-*–—·]|\(?\d{{1,2}}[.)]){_BLANK}++)"
_LIST_MARKS = re.compile(rf"{_BLANK}*+{_MARK}++")
_LINE = r"[\n\r\x85\u2028\u2029]"
_PLAIN = "，、､،﹐。｡｜"  # which part tags wherever they stand
_MORE = rf"{_BLANK}|[{_PLAIN}]|,(?!\d{{3}}(?!\d))"
# One match for all that stands between two tags, of which a text may have very much. It begins
# with a set of signs, so that letters are passed over at once.
_SEPARATOR = re.compile(
    rf"[&,;；{_PLAIN}\n\r\x85\u2028\u2029](?:"
    r"(?<=&)(?P<reference>(?:#\w{1,8}|\w{1,31});)"
    rf"|(?<={_LINE})(?P<line>(?:{_MORE}|{_LINE}|{_MARK})*+)"
    r"|(?:(?<=,)(?!(?<=\d,)\d{3}(?!\d))"  # not of 1,000
    r"|(?<=[^\W_][;；])|(?<=[)\]}][;；])"  # not of the faces ;) and ;_;
    rf"|(?<=[{_PLAIN}]))(?:{_MORE})*+)"
)
_WEIGHT = re.compile(r"^[0-9.]+::|(?<=[^\s:]):\s*[0-9.]+$|::$")
_BRACKETS = {")": "(", "]": "[", "}": "{"}
_LONGEST_TAG = 120  # characters; what is longer is prose
_MOST_WORDS = 5  # of a tag that stands in a list
_SENTENCE_END = re.compile(r"[.!?！？](?:(?<=[！？])|(?<=[^\W\d_]{2}.)\s*$)")
_STOP = Regex(r"[。｡](?<=[\u3040-\uffee].)\s*$", re.M | re.S)
_FULL_WIDTH = Regex("[，、､﹐；。｡｜]")
_SPACING = re.compile(r"[\s_\-]+")

Spelling = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag of a field: as written, as tables spell it, and where it begins in the field."""

    text: str
    key: str
    field: Field
    start: int

    @property
    def span(self) -> Span:
        """Where it stands in the source."""
        return self.field.locate(self.start, self.start + len(self.text))


@lru_cache(64)  # rule after rule asks for the tags of one field
def pieces(text: str) -> tuple[tuple[int, int], ...]:
    """Where the tags of a text stand, without what separates and lists them."""
    found: list[tuple[int, int]] = []
    start, begins_line = 0, True
    for match in (*_SEPARATOR.finditer(text), None):
        if match and match["reference"]:
            continue
        end = match.start() if match else len(text)
        marks = _LIST_MARKS.match(text, start, end) if begins_line else None
        raw = text[marks.end() if marks else start : end]
        tag = raw.lstrip()
        if tag:
            found.append((end - len(tag), end - len(tag) + len(tag.rstrip())))
        if match:
            begins_line = match["line"] is not None or (begins_line and not tag)
            start = match.end()
    return tuple(found)


def tags(part: Field) -> Iterator[Tag]:
    """The tags of a field in reading order, whatever separates and weights them."""
    for start, end in pieces(part.text):
        if end - start <= _LONGEST_TAG:
            text = part.text[start:end]
            yield Tag(text, normal(text), part, start)


@lru_cache(16)
def is_list(text: str) -> bool:
    """Whether a text without structure is tags alone, told by what parts them, and no sentences.

    They stand on several lines, or a sign of full width is among tags in Latin letters.
    """
    parted = "\n" in text.strip() or (
        _FULL_WIDTH.compiled.search(text)
        and any(text[start:end].isascii() for start, end in pieces(text))
    )
    if not parted or _STOP.compiled.search(text):
        return False
    return all(
        end - start <= _LONGEST_TAG and text.count(" ", start, end) < _MOST_WORDS
        and not _SENTENCE_END.search(text, start, end)
        for start, end in pieces(text)
    )  # fmt: skip


def tidied(text: str, spelling: Spelling | None = None) -> str:
    """The tags of a text as training has them: a comma and a space between, one space within."""
    found = (" ".join(text[start:end].split()) for start, end in pieces(text))
    return ", ".join(spelled(tag, spelling) if spelling else tag for tag in found)


def respelled(text: str, spelling: Spelling) -> str:
    """A text whose tags are in another spelling, and which is else as it was."""
    parts: list[str] = []
    done = 0
    for start, end in pieces(text):
        parts += text[done:start], spelled(text[start:end], spelling)
        done = end
    return "".join([*parts, text[done:]])


def spelling_of(words: Iterable[str]) -> Spelling:
    """How a model that knows these words spells tags."""
    known = sorted(words)
    return {normal(word): word for word in reversed(known)} | {word: word for word in known}


def spelled(tag: str, spelling: Spelling) -> str:
    """A tag as a model spells it, brackets and weights around it kept; as it is, when unknown."""
    bare = _bare(tag)
    key = "_".join(bare.lower().split())
    other = _SPACING.sub("_", key)
    found = spelling.get(key) or (spelling.get(other) if other == normal(tag) else None)
    return tag.replace(bare, found, 1) if found else tag


@lru_cache(4096)
def normal(text: str) -> str:
    """A tag as tables spell it: `(Red Eyes:1.2)` is `red_eyes`."""
    return _SPACING.sub("_", _bare(text).replace("\\", "").lower()).strip("_")


def _bare(text: str) -> str:
    """A tag without the brackets and the weight around it."""
    bare = text.strip().lstrip("([{")
    while bare and bare.count(bare[-1]) > bare.count(_BRACKETS.get(bare[-1], bare[-1])):
        bare = bare[:-1]
    return _WEIGHT.sub("", bare)
