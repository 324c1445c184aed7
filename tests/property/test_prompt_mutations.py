"""Prompts broken at random are read, linted and mended."""

from __future__ import annotations

from mutations import failures


def test_no_broken_prompt_breaks_the_reader() -> None:
    found = list(failures(150, seed=11))
    assert len(found) == 1, found[0]
