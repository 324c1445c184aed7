"""Tags as people write them: split, and spelled as tables spell them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from sakuga.prompt.nodes import Field, Span

_PIECE = re.compile(r"[^,，、;；\n]+")
_WEIGHT = re.compile(r"^[0-9.]+::|(?<=[^\s:]):\s*[0-9.]+$|::$")
_BRACKETS = {")": "(", "]": "[", "}": "{"}
_LONGEST_TAG = 120  # characters; what is longer is prose
_SPACING = re.compile(r"[\s_\-]+")


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


def tags(part: Field) -> Iterator[Tag]:
    """The tags of a field in reading order, whatever separates and weights them."""
    for piece in _PIECE.finditer(part.text):
        text = piece[0].strip()
        if text and len(text) <= _LONGEST_TAG:
            start = piece.start() + piece[0].index(text)
            yield Tag(text, normal(text), part, start)


@lru_cache(4096)
def normal(text: str) -> str:
    """A tag as tables spell it: `(Red Eyes:1.2)` is `red_eyes`."""
    bare = text.strip().lstrip("([{")
    while bare and bare.count(bare[-1]) > bare.count(_BRACKETS.get(bare[-1], bare[-1])):
        bare = bare[:-1]
    bare = _WEIGHT.sub("", bare).replace("\\", "").lower()
    return _SPACING.sub("_", bare).strip("_")
