"""The `show` command: what a picture says of itself, by its receipt or another program's words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from sakuga.api.codec import plain
from sakuga.api.page import describe_picture
from sakuga.api.said import RECEIPT_KEY, Said, receipt_from, said_by
from sakuga.commands.flags import AsJson
from sakuga.errors import RequestError
from sakuga.files.texts import read_texts
from sakuga.printable import cut, shown

# A stranger's picture may say anything at any length, and prints no more than this.
MOST_ROWS, MOST_LINES, MOST_CHARACTERS, LEAST, LABEL = 60, 80, 8_000, 160, 40


def show(
    picture: Annotated[Path, typer.Argument(help="A PNG, JPEG, WebP or AVIF picture.")],
    as_json: AsJson = False,
) -> None:
    """Print what a picture says of how it was made."""
    texts = read_texts(picture)
    if RECEIPT_KEY in texts:
        receipt = receipt_from(texts, picture.name)
        print(json.dumps(plain(receipt))) if as_json else _print_rows(describe_picture(receipt))
        return
    said = said_by(texts)
    if said is None and not texts:
        raise RequestError(
            "the picture must carry a receipt, or another program's settings",
            f"{picture.name} without a text",
            "Use a picture that no other program has saved again.",
        )
    if as_json:
        print(json.dumps(texts if said is None else plain(said)))
        return
    _print_rows(texts.items() if said is None else _rows(said))
    told = "Nothing of it is known to us." if said is None else "`draw --from` takes part of it."
    print(f"\nThe picture has no receipt of sakuga. {told}")


def _rows(said: Said) -> Iterator[tuple[str, str]]:
    text = said.text
    yield "written by", said.program
    yield "prompt", text.prompt or "(none)"
    yield "negative", text.negative or "(none)"
    for lora in text.loras:
        yield "LoRA", lora
    yield from text.settings.items()


def _print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print labels and texts, a screen at most. Nothing that a terminal obeys leaves here."""
    kept = list(islice(rows, MOST_ROWS + 1))
    told = [(cut(shown(label), LABEL), text.rstrip()) for label, text in kept[:MOST_ROWS]]
    width = max((len(label) for label, _ in told), default=0)
    characters, lines = MOST_CHARACTERS, MOST_LINES
    for label, text in told:
        fitted = _fitted(text, max(characters, LEAST), max(lines, 1))
        characters -= len(fitted)
        lines -= fitted.count("\n") + 1
        # Only the first line of a text has the label; the others stand below it.
        print(f"{label:>{width}}  " + fitted.replace("\n", f"\n{'':{width}}  "))
    if kept[MOST_ROWS:]:
        print(f"{'':{width}}  ... and more; --json has all")


def _fitted(text: str, characters: int, lines: int) -> str:
    """A text as a terminal may show it, or its beginning and how much there is."""
    fitted = "\n".join(map(shown, text[:characters].split("\n")[:lines]))[:characters]
    if len(text) <= characters and text.count("\n") < lines and len(fitted) < characters:
        return fitted
    return f"{fitted}... ({len(text):,} characters; --json has all)"
