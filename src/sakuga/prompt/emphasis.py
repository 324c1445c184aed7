"""Weights as people type them: `(tag:1.2)`, `(tag)`, `[tag]`, and `\\(` for a plain bracket.

A weight with a number may stand anywhere, in sentences too. One without must enclose whole tags,
or `saber (fate)` would be a weight. A bracket right behind `_` belongs to a name: `saber_(fate)`.
Sources: A1111's web UI, which made this syntax (Features, "Attention/emphasis"), and ComfyUI.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import repeat

from sakuga.prompt.tags import SEPARATORS

STEP = 1.1  # what a pair of brackets without a number multiplies or divides by
MOST = 4.0  # what is said to weigh more counts as this
DIGITS = 4  # behind the point
WEIGHT = "weight"  # the attribute of an element

_NUMBER = re.compile(r"[0-9]{0,3}(?:\.[0-9]{0,4})?")
_TAIL = re.compile(r":\s{0,8}([0-9.]{1,8})\s{0,8}\Z")
_ODD = re.compile(r":\s{0,8}[-+.0-9]{1,8}\s{0,8}\Z")  # a number that is no weight
_LONGEST_TAIL = 25
_PAIRS = {")": "(", "]": "["}
# All that a scan stops at: escapes, brackets, words, and the marks `:` and `|`. Pairs that hold
# neither words nor marks are passed over, and what follows a word up to the next sign.
_LETTER = r"[^\W\d_\xb2\xb3\xb9\xbc-\xbe\u2070-\u218b]"
_STOP = re.compile(
    r"\\[()\[\]]|(?:\([^\w:|()\[\]\\]*+\)|\[[^\w:|()\[\]\\]*+\])++"
    rf"|(?P<open>\(++|\[++)|(?P<close>[)\]])|(?P<word>{_LETTER}{{2}}[^:|()\[\]\\]*+)|(?P<mark>[:|]++)"
)
_EDGES = f"{SEPARATORS}([)]"  # what a tag in brackets may have beside it


@dataclass(frozen=True, slots=True)
class Emphasis:
    """A range of a text that is meant more than the rest (above 1), or less."""

    start: int
    end: int
    weight: float


def capped(weight: float) -> float:
    """A product of weights as it counts."""
    return min(round(weight, DIGITS), MOST)


def weight_of(text: str) -> float | None:
    """A weight from 0 to `MOST` as people write it; None where it is none."""
    text = text.strip()
    if not _NUMBER.fullmatch(text) or not any(map(str.isdigit, text)):
        return None
    return min(float(text), MOST)


def weight_attribute(weight: float) -> str:
    """What an element says of its weight: nothing of 1."""
    return f' {WEIGHT}="{weight:g}"' if weight != 1 else ""


def emphasised(
    text: str, *, prose: bool = False, factor: float = 1.0
) -> tuple[str, tuple[Emphasis, ...]]:
    """A text without the syntax of weights, and which of it weighs other than 1.

    prose: brackets without a number are those of a sentence. factor: of all of it. What is nested
    is multiplied.
    """
    if not any(sign in text for sign in "([\\"):
        return text, tuple(_emphasis(text, 0, factor))
    scan = _Scan(text, prose)
    scan.run()
    return _without(text, scan, factor)


@dataclass(frozen=True, slots=True)
class Brackets:
    """Where brackets stand that are a weight, and whether a number says so."""

    start: int
    end: int
    numbered: bool


def brackets_of(text: str, *, prose: bool = False) -> tuple[Brackets, ...]:
    """The brackets of a text that `emphasised` takes for weights."""
    if not any(sign in text for sign in "(["):
        return ()
    scan = _Scan(text, prose)
    scan.run()
    return tuple(scan.found)


@dataclass(slots=True)
class _Scan:
    """One way through a text: which brackets are weights, and which backslashes escape one.

    `cuts`: ranges that are syntax, by where they begin. `factors`: what begins (above) or ends
    to weigh at a bracket.
    """

    text: str
    prose: bool
    cuts: dict[int, int] = field(default_factory=dict)
    factors: dict[int, tuple[float, bool]] = field(default_factory=dict)
    found: list[Brackets] = field(default_factory=list)

    def run(self) -> None:
        """Find everything, in one pass."""
        opened: list[tuple[int, int, int]] = []  # each with the words and marks before it
        words = marks = 0
        text = self.text
        last = max(text.rfind(")"), text.rfind("]"))
        end = 1 + max(last, text.rfind("("), text.rfind("["))
        for match in _STOP.finditer(text, 0, end):
            kind, at = match.lastgroup, match.start()
            if kind == "word":
                words += 1
            elif kind == "mark":
                marks += 1
            elif kind == "open" and at < last:
                opened.extend(zip(range(*match.span()), repeat(words), repeat(marks)))
            elif kind == "close" and opened and text[opened[-1][0]] == _PAIRS[text[at]]:
                begin, words_before, marks_before = opened.pop()
                worded, marked = words > words_before, marks > marks_before
                if worded or marked:
                    self._close(begin, at, worded, marked)
            elif kind is None and text[at] == "\\":
                self.cuts[at] = at + 1

    def _close(self, start: int, end: int, worded: bool, marked: bool) -> None:
        """Tell what a pair of brackets is."""
        round_ = self.text[start] == "("
        reach = max(start + 1, end - _LONGEST_TAIL), end
        tail = _TAIL.search(self.text, *reach)
        if self.text[start - 1 : start] == "_":
            return
        if round_ and tail:
            weight = weight_of(tail[1])
            said = self.text[start + 1 : tail.start()].strip() if weight is not None else ""
            if said and not said.isdigit() and (worded or "." in tail[1]):
                assert weight is not None
                self._mark(start, tail.start(), end, weight)
        elif self.prose or not worded or _ODD.search(self.text, *reach):
            return
        elif self._whole(start, end) and (round_ or not marked):
            self._mark(start, end, end, STEP if round_ else 1 / STEP)

    def _whole(self, start: int, end: int) -> bool:
        """Whether brackets enclose whole tags."""
        before = self.text[max(start - 40, 0) : start].rstrip(" ")
        after = self.text[end + 1 : end + 40].lstrip(" ")
        return (not before or before[-1] in _EDGES) and (
            not after or after[0] in _EDGES or bool(re.match(r":\s*[0-9.]+\s*\)", after))
        )

    def _mark(self, start: int, tail: int, end: int, factor: float) -> None:
        """A weight: its syntax goes, with the space within it."""
        self.found.append(Brackets(start, end + 1, tail < end))
        inner = start + 1
        while inner < tail and self.text[inner].isspace():
            inner += 1
        while tail > inner and self.text[tail - 1].isspace():
            tail -= 1
        self.cuts[start], self.cuts[tail] = inner, end + 1
        self.factors[start], self.factors[tail] = (factor, True), (factor, False)


def _without(text: str, scan: _Scan, factor: float) -> tuple[str, tuple[Emphasis, ...]]:
    """The text without what is syntax, and its weights where they then stand."""
    pieces: list[str] = []
    found: list[Emphasis] = []
    products = [factor]  # of the brackets that are open, which close in turn
    run: list[str] = []  # of one product
    length = at = 0
    for cut in [*sorted(scan.cuts), len(text)]:
        run.append(text[at:cut])
        at = max(at, scan.cuts.get(cut, cut))
        if cut in scan.factors or cut == len(text):
            piece, run = "".join(run), []
            found += _emphasis(piece, length, products[-1])
            pieces.append(piece)
            length += len(piece)
        if cut in scan.factors:
            times, begins = scan.factors[cut]
            products[len(products) - (not begins) :] = [products[-1] * times] * begins
    return "".join(pieces), tuple(found)


def _emphasis(piece: str, start: int, product: float) -> Iterator[Emphasis]:
    weight = capped(product)
    bare = piece.strip(f" {SEPARATORS}")
    if weight != 1 and bare:
        begin = start + piece.index(bare)
        yield Emphasis(begin, begin + len(bare), weight)
