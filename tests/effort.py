"""How much is tried: by default what a submission waits for, all of it with SAKUGA_TESTS=long."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

LONG = os.environ.get("SAKUGA_TESTS") == "long"
T = TypeVar("T")
_SHARE = 5  # one of so many, by default


def examples(number: int) -> int:
    """How many of Hypothesis' examples are tried, of `number`."""
    return number if LONG else max(number // _SHARE, 10)


def some(those: Sequence[T]) -> Sequence[T]:
    """All of those, or some from the first to the last."""
    if LONG or len(those) < 3:
        return those
    return [*those[:-1:_SHARE], those[-1]]
