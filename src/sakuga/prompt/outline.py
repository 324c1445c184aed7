"""A text's tags before they are well-formed: what holds what, and what stands beside them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from sakuga.prompt.names import NEGATIVES, PLAIN_WRAPPERS, WRAPPERS, is_block, is_field, lowered
from sakuga.prompt.nodes import Span
from sakuga.prompt.reader import MAX_ELEMENTS, TAGS


@dataclass(slots=True)
class Element:
    """A tag and what it opens. `close` is its end tag, None where there is none."""

    name: str
    open: Span
    top: bool
    close: Span | None = None
    wraps: bool = False

    @property
    def tags(self) -> tuple[Span, ...]:
        """Its tags in the text."""
        return (self.open, self.close) if self.close else (self.open,)

    @property
    def end(self) -> int:
        """The end of its last tag."""
        return self.tags[-1].end


@dataclass(frozen=True, slots=True)
class Outline:
    """What a text's tags make of it.

    `tagged`: whether it has any tag; `blocks`: whether there is a block that is closed;
    `structured`: or at least a field.
    `frames` are known wrappers, closed, that hold blocks. `spare` are the tags of other
    wrappers, `negatives` the elements of what shall not be drawn, `gaps` the stretches of text
    outside of every block.
    """

    tagged: bool = False
    blocks: bool = False
    structured: bool = False
    frames: tuple[Element, ...] = ()
    spare: tuple[Span, ...] = ()
    negatives: tuple[Span, ...] = ()
    gaps: tuple[Span, ...] = ()


@dataclass(slots=True)
class _Tags:
    """Elements as their tags are met; `lone` are ends of wrappers that nothing opened."""

    stack: list[Element] = field(default_factory=list)
    opened: Counter[str] = field(default_factory=Counter)
    found: list[Element] = field(default_factory=list)
    lone: list[Span] = field(default_factory=list)
    blocks: int = 0

    def open(self, name: str, span: Span, *, empty: bool) -> None:
        element = Element(name, span, not self.stack)
        self.found.append(element)
        if is_block(name) and not self.blocks:
            for outer in reversed(self.stack):
                if outer.wraps:
                    break
                outer.wraps = True
        if not empty:
            self.stack.append(element)
            self.opened[name] += 1
            self.blocks += is_block(name)

    def close(self, name: str, span: Span) -> None:
        if not self.opened[name] and lowered(name) in WRAPPERS | PLAIN_WRAPPERS:
            self.lone.append(span)
        while self.opened[name]:
            closed = self.stack.pop()
            self.opened[closed.name] -= 1
            self.blocks -= is_block(closed.name)
            if closed.name == name:
                closed.close = span
                return


@lru_cache(maxsize=8)  # every step that looks for what stands around a prompt asks again
def outline(text: str) -> Outline:
    """The outline of a text; that of a text without tags, or with too many, is empty."""
    if "<" not in text or text.count("</") > MAX_ELEMENTS:
        return Outline()
    tags = _Tags()
    for match in TAGS.finditer(text):
        name = match["name"]
        if name is None:
            continue
        start, end = match.span()
        if match["end"]:
            tags.close(name, Span(start, end))
        else:
            tags.open(name, Span(start, end), empty=text[end - 2] == "/")
        if len(tags.found) > MAX_ELEMENTS:
            return Outline()
    closed = [one.name for one in tags.found if one.close]
    blocks = any(map(is_block, closed))
    spare = {span for one in tags.found if _is_spare(one) for span in one.tags}
    return Outline(
        bool(tags.found),
        blocks,
        blocks or any(map(is_field, closed)),
        tuple(one for one in tags.found if _is_frame(one)),
        tuple(sorted((*spare, *tags.lone), key=lambda span: span.start)),
        tuple(_outermost(one for one in tags.found if lowered(one.name) in NEGATIVES)),
        tuple(_gaps(text, tags.found)),
    )


def _is_frame(element: Element) -> bool:
    return element.wraps and lowered(element.name) in WRAPPERS and element.close is not None


def _is_spare(element: Element) -> bool:
    """Whether an element's tags say nothing: it only stands around blocks, or around the text."""
    if element.wraps:
        return not _is_frame(element)
    return element.top and element.close is not None and lowered(element.name) in PLAIN_WRAPPERS


def _outermost(elements: Iterator[Element]) -> Iterator[Span]:
    done = 0
    for element in elements:
        if element.close and element.open.start >= done:
            done = element.end
            yield Span(element.open.start, done)


def _lets_through(element: Element) -> bool:
    """Whether what it holds is read as if its tags were not there."""
    return element.wraps or lowered(element.name) in WRAPPERS


def _gaps(text: str, elements: list[Element]) -> Iterator[Span]:
    done = 0
    ends = {one.close.start: one.close.end for one in elements if _lets_through(one) and one.close}
    bounds = [(one.open.start, one.open.end if _lets_through(one) else one.end) for one in elements]
    for start, end in sorted([*bounds, *ends.items()]):
        if start >= done:
            yield Span(done, start)
            done = end
    yield Span(done, len(text))
