"""The `show` command: how a picture was made, by the receipt inside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sakuga.api.infotext import RECEIPT_KEY, describe_picture, receipt_from
from sakuga.commands.flags import AsJson
from sakuga.files.png import read_texts
from sakuga.printable import shown


def show(
    picture: Annotated[Path, typer.Argument(help="A PNG that sakuga has written.")],
    as_json: AsJson = False,
) -> None:
    """Print the receipt of a picture: how it was made."""
    texts = read_texts(picture)
    receipt = receipt_from(texts, picture.name)
    if as_json:
        print(texts[RECEIPT_KEY])
        return
    rows = list(describe_picture(receipt))
    width = max(len(label) for label, _ in rows)
    for label, text in rows:
        # Only the first line of a text has the label; the others stand below it.
        lines = map(shown, text.rstrip().split("\n"))
        print(f"{label:>{width}}  " + f"\n{'':{width}}  ".join(lines))
