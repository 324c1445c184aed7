"""Markdown fences: which of them holds the prompt, and what then stands outside of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sakuga.prompt.names import is_block, lowered
from sakuga.prompt.nodes import Span
from sakuga.prompt.reader import TAG
from sakuga.prompt.regex import Regex

_FENCE = Regex(r"(?P<mark>`{3,}+|^[ \t]*+~{3,}+)(?P<info>[\w+.\-]*+(?=\s|[<{\[]|\Z))?", re.M)
_MOST_MARKS = 400
_IN_FIELD = re.compile(r"<\w[^<>]*>[ \t]*\Z")  # behind an opening tag, marks are what is said there
_ANNOTATION = Regex(r'"(?:image|tags|caption)"\s*:')
_NEGATIVE = Regex(r"negative|负面|負面|反向|ネガティブ|부정", re.I)


@dataclass(frozen=True, slots=True)
class Fence:
    """A fence from its first mark to its last, and what is inside."""

    outer: Span
    inner: Span


def fences(text: str) -> list[Fence]:
    """The fences of a text in reading order; one that is never closed ends with the text."""
    if not 0 < text.count("```") + text.count("~~~") <= _MOST_MARKS:  # no answer has more
        return []
    found: list[Fence] = []
    opened: re.Match[str] | None = None
    for match in _FENCE.compiled.finditer(text):
        if opened is None:
            inside = _IN_FIELD.search(text, max(0, match.start() - 80), match.start())
            opened = None if inside else match
        elif match["mark"].strip()[0] == opened["mark"].strip()[0]:
            inner = Span(opened.end(), match.start())
            found.append(Fence(Span(opened.start(), match.end("mark")), inner))
            opened = None
    if opened is not None:
        found.append(Fence(Span(opened.start(), len(text)), Span(opened.end(), len(text))))
    return found


def chosen(text: str, found: list[Fence]) -> list[Fence]:
    """The fences whose content is the prompt; none if what is outside of them is one, too.

    Of fences that give the same blocks, as answers with variants do, the first counts.
    """
    if not found:
        return []
    filled = [one for one in found if text[one.inner.start : one.inner.end].strip()]
    blocks = [(one, set(_blocks(text[one.inner.start : one.inner.end]))) for one in filled]
    if any(_blocks(text[gap.start : gap.end]) for gap in outside(text, found)):
        return []
    seen: set[str] = set()
    structured = []
    for one, names in blocks:
        if names and seen.isdisjoint(names):
            structured.append(one)
            seen |= names
    if structured:
        return structured
    before = [0, *(one.outer.end for one in filled)]
    plain = (
        one
        for one, start in zip(filled, before, strict=False)
        if not _NEGATIVE.compiled.search(text, max(start, one.outer.start - 80), one.outer.start)
    )
    return [one for _, one in zip(range(1), plain, strict=False)]


def outside(text: str, inside: list[Fence]) -> Iterator[Span]:
    """The stretches of a text around fences."""
    done = 0
    for one in inside:
        yield Span(done, one.outer.start)
        done = one.outer.end
    yield Span(done, len(text))


def _blocks(text: str) -> list[str]:
    names = dict.fromkeys(TAG.findall(text))
    annotated = ["annotation"] if _ANNOTATION.compiled.search(text) else []
    return [lowered(name) for name in names if is_block(name)] or annotated
