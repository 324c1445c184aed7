"""How the tokens of a text are read: as one or in parts, and what they are held against.

With f for the features of a text, those that are drawn with are

    f + sum over the contrasts of share · (f - features of the contrast)

token by token for Gemma, and for Jina's one vector. Without contrasts they are f itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sakuga.api.marks import Mark
from sakuga.errors import RequestError
from sakuga.tokenizer.tokens import Tokens

MOST_WEIGHTS = 16  # different ones in a text: the encoders read it once more for each

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Parts:
    """What an encoder reads one by one of a text.

    `before`, `behind`: how many tokens every part begins and ends with; where parts are joined,
    those of the first and of the last count.
    """

    texts: tuple[Ids, ...]
    before: int = 0
    behind: int = 0

    @property
    def length(self) -> int:
        """How many tokens they are when joined."""
        return sum(map(len, self.texts)) - (self.before + self.behind) * (len(self.texts) - 1)


@dataclass(frozen=True, slots=True)
class Contrast:
    """Another text that one is held against.

    `places`: for each token of the one, that of the other it is compared with. `shares`: how
    much, by token; `share`: of a pooled vector.
    """

    parts: Parts
    places: tuple[int, ...]
    shares: tuple[float, ...]
    share: float


@dataclass(frozen=True, slots=True)
class Reading:
    """One text as an encoder reads it."""

    parts: Parts
    contrasts: tuple[Contrast, ...] = ()

    @property
    def texts(self) -> tuple[Ids, ...]:
        """Every text that is read for it."""
        others = (text for one in self.contrasts for text in one.parts.texts)
        return (*self.parts.texts, *others)


@dataclass(frozen=True, slots=True)
class Weighing:
    """How weights are meant: as `Request.weighting` says. `filler`: the token of an empty text."""

    kind: str
    filler: int


def read_tokens(tokens: Tokens, marks: Sequence[Mark], how: Weighing) -> Reading:
    """The reading of a text with these marks, whose ranges count in it. Raises RequestError."""
    groups = _groups(tokens, [one for one in marks if one.weight is None])
    weights = _weights(tokens, [one for one in marks if one.weight is not None])
    everything = range(len(tokens.ids))
    parts = _parts(tokens, groups, everything)
    different = sorted({weight for weight in weights if weight != 1})
    if how.kind == "off" or not different:
        return Reading(parts)
    if len(different) > MOST_WEIGHTS:
        raise RequestError(
            f"a text has at most {MOST_WEIGHTS} different weights", f"{len(different)}",
            "Give several tags one weight, as in (a, b:1.2).",
        )  # fmt: skip
    if how.kind == "empty":
        return Reading(parts, (_empty(tokens, weights, how.filler),))
    without = (_without(tokens, groups, weights, weight) for weight in different)
    return Reading(parts, tuple(without))


def _without(
    tokens: Tokens, groups: Sequence[range], weights: Sequence[float], weight: float
) -> Contrast:
    """The text without what has a weight; its own tokens are held against the one before them."""
    kept = [at for at, each in enumerate(weights) if each != weight or at == 0]
    places, last = [], -1
    for at in range(len(weights)):
        last += last + 1 < len(kept) and kept[last + 1] == at
        places.append(last)
    share = weight - 1
    parts = _parts(tokens, groups, kept)
    return Contrast(parts, tuple(places), (share,) * len(weights), share)


def _empty(tokens: Tokens, weights: Sequence[float], filler: int) -> Contrast:
    """A text of as many tokens that say nothing; only what has a weight is held against it."""
    ids = (*tokens.ids[:1], *(filler,) * (len(weights) - 1))
    shares = tuple(weight - 1 for weight in weights)
    return Contrast(Parts((ids,)), tuple(range(len(ids))), shares, 0.0)


def _groups(tokens: Tokens, marks: Sequence[Mark]) -> list[range]:
    """The tokens of each part: those that begin in it."""
    if len(marks) < 2:
        return []
    groups = [
        [at for at, (start, end) in enumerate(tokens.offsets)
         if start < end and one.start <= start < one.end]
        for one in marks
    ]  # fmt: skip
    found = [range(each[0], each[-1] + 1) for each in groups if each]
    return found if len(found) > 1 else []


def _weights(tokens: Tokens, marks: Sequence[Mark]) -> list[float]:
    """The weight of each token: that of the first mark with a letter of it."""
    weights = [1.0] * len(tokens.ids)
    for mark in reversed(marks):
        assert mark.weight is not None
        for at, (start, end) in enumerate(tokens.offsets):
            if start < end and start < mark.end and end > mark.start:
                weights[at] = mark.weight
    return weights


def _parts(tokens: Tokens, groups: Sequence[range], kept: Sequence[int]) -> Parts:
    """The tokens that are kept, as one text or group by group.

    What is before the first group, and behind the last, is read with each.
    """
    ids = tokens.ids
    if not groups:
        return Parts((tuple(ids[at] for at in kept),))

    def of(place: range) -> Iterator[int]:
        return (ids[at] for at in kept if at in place)

    before = tuple(of(range(groups[0].start)))
    behind = tuple(of(range(groups[-1].stop, len(ids))))
    texts = tuple((*before, *of(one), *behind) for one in groups)
    return Parts(texts, len(before), len(behind))
