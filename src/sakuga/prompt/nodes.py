"""What a prompt is made of: blocks, their fields, and where each stands in the text."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Literal

Kind = Literal["xml", "text", "json"]
Runs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of character offsets in the text as the user gave it."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Field:
    """One `<name>text</name>`, or the text that stands in a block without a tag.

    `text` is trimmed and its references are resolved, unless `nested`: then it holds tags
    of its own, exactly as written. `weight`: how much it is meant, by its attribute or its
    block's. `names` are the spans of the name in both tags, `deep` is the first tag past the
    two levels, `runs` maps offsets of `text` to the source.
    """

    name: str
    text: str
    nested: bool = False
    weight: float = 1.0
    span: Span = field(default=Span(0, 0), compare=False)
    names: tuple[Span, ...] = field(default=(), compare=False)
    deep: Span | None = field(default=None, compare=False)
    runs: Runs = field(default=((0, 0),), compare=False, repr=False)

    def locate(self, start: int, end: int) -> Span:
        """Where `text[start:end]` stands in the source."""
        left = self._source(start)
        right = self._source(end - 1) + 1 if end > start else left
        after = bisect_right(self.runs, end, key=itemgetter(0)) - 1
        if after > 0 and self.runs[after][0] == end > start:
            right = self.runs[after][1]  # the last character was written as a reference
        return Span(left, max(left, right))

    def _source(self, index: int) -> int:
        run = max(bisect_right(self.runs, index, key=itemgetter(0)) - 1, 0)
        return self.runs[run][1] + index - self.runs[run][0]


@dataclass(frozen=True, slots=True)
class Block:
    """One top-level element, or (nameless) the text that stands outside all of them."""

    name: str
    fields: tuple[Field, ...]
    span: Span = field(default=Span(0, 0), compare=False)
    names: tuple[Span, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a text that has tags was read as plain text."""

    rule: Literal["not-well-formed", "too-deep"]
    span: Span
    reason: str
    fix: str


@dataclass(frozen=True, slots=True)
class Remark:
    """What was read otherwise than it was written, before there were blocks: a linter's finding."""

    rule: str
    span: Span
    reason: str
    fix: str


@dataclass(frozen=True, slots=True)
class Document:
    """A whole prompt. Two documents are equal when they say the same; spans do not count.

    `system` is a system prompt the user put in front ("You are ... <Prompt Start>").
    `strays` are the bare `&`, `<` and `]]>` read as text, `attributes` the tags that have
    attributes, `around` tells of what stood around the prompt and is no part of it.
    """

    kind: Kind
    blocks: tuple[Block, ...]
    system: str = ""
    source: str = field(default="", compare=False, repr=False)
    system_span: Span = field(default=Span(0, 0), compare=False)
    fault: Fault | None = field(default=None, compare=False)
    strays: tuple[Span, ...] = field(default=(), compare=False, repr=False)
    attributes: tuple[Span, ...] = field(default=(), compare=False, repr=False)
    around: tuple[Remark, ...] = field(default=(), compare=False, repr=False)

    @property
    def structured(self) -> bool:
        """Whether there is any tag, so that the model's XML prompt applies."""
        return any(block.name for block in self.blocks)


class Offsets:
    """A piecewise linear map from one text's character offsets to another's."""

    __slots__ = ("keys", "values")

    def __init__(self, start: int, value: int) -> None:
        self.keys, self.values = [start], [value]

    def add(self, key: int, value: int) -> None:
        """From `key` on, offsets count up from `value`."""
        self.keys.append(key)
        self.values.append(value)

    def at(self, index: int) -> int:
        """The other text's offset."""
        run = max(bisect_right(self.keys, index) - 1, 0)
        return self.values[run] + index - self.keys[run]

    def span(self, start: int, end: int) -> Span:
        """The other text's range for [start, end)."""
        return Span(self.at(start), self.at(end))

    def runs(self, start: int, end: int) -> Sequence[tuple[int, int]]:
        """The linear pieces of [start, end): where each begins, here and there."""
        first = bisect_right(self.keys, start)
        last = bisect_right(self.keys, end - 1)
        begin = start, self.at(start)
        if last <= first:
            return (begin,)
        return (begin, *zip(self.keys[first:last], self.values[first:last], strict=True))
