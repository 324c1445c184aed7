"""What is special about ranges of a text that was sent: how much they weigh, what is read apart."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sakuga.errors import RequestError
from sakuga.printable import cut

SIDES = ("prompt", "negative")

_WRITTEN = re.compile(rf"({'|'.join(SIDES)}) (\d{{1,7}})-(\d{{1,7}})(?: x(\d(?:\.\d{{1,4}})?))?")


@dataclass(frozen=True, slots=True)
class Mark:
    """A range of what Gemma reads of the prompt or of the negative.

    `weight`: how much it is meant; None says that it is a part, encoded apart from the others.
    As text: `prompt 12-20 x1.2`, or `negative 0-98`.
    """

    side: str
    start: int
    end: int
    weight: float | None = None

    def __str__(self) -> str:
        weight = "" if self.weight is None else f" x{self.weight:g}"
        return f"{self.side} {self.start}-{self.end}{weight}"

    @classmethod
    def parse(cls, text: str) -> Mark:
        """A mark as a receipt has it. Raises RequestError."""
        match = _WRITTEN.fullmatch(text)
        if match is None or int(match[2]) >= int(match[3]):
            raise RequestError(
                "a mark is a side, a range and a weight, such as `prompt 12-20 x1.2`",
                cut(repr(text)),
                "Give those of one receipt.",
            )
        weight = None if match[4] is None else float(match[4])
        return cls(match[1], int(match[2]), int(match[3]), weight)


def marks_of(texts: Iterable[str], side: str) -> tuple[Mark, ...]:
    """The marks of one side, in reading order. Raises RequestError."""
    found = (Mark.parse(text) for text in texts)
    return tuple(sorted((one for one in found if one.side == side), key=lambda one: one.start))
