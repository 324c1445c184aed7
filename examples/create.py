"""Draws prompt after prompt as they are typed, by one open model: python examples/create.py."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import sakuga


def prompts() -> Iterator[str]:
    """Lines until an empty one; the next begins at once."""
    while True:
        try:
            line = input("prompt> ").strip()
        except EOFError:
            return
        if not line:
            return
        yield line


if __name__ == "__main__":
    engine = sakuga.open(sys.argv[1] if len(sys.argv) > 1 else "chibi")
    for number, prompt in enumerate(prompts(), 1):
        try:
            path = engine.draw(prompt).save(Path(f"create-{number}.png"), overwrite=True)
            print(path)  # noqa: T201  # a script talks to whoever runs it
        except sakuga.SakugaError as error:
            print(error)  # noqa: T201
