"""Keeps Python from looking for garbage where much is built and nothing of it is garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def nothing_collected() -> Iterator[None]:
    """While it lasts, nothing is looked for that only refers to itself.

    Every few thousand values that are built, Python would look through all that the program
    holds, torch too: for headers and pickles that takes longer than to read them.
    """
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()
