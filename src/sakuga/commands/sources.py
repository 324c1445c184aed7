"""Where a drawing comes from besides a prompt: a picture, or the settings text of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sakuga.api.infotext import Infotext, read_infotext
from sakuga.api.receipt import Receipt
from sakuga.api.request import RECIPES
from sakuga.api.said import RECEIPT_KEY, receipt_from, said_by
from sakuga.api.taken import taken_from
from sakuga.checkpoint.catalog import drawing_defaults
from sakuga.commands.prompts import read_prompt
from sakuga.errors import RequestError
from sakuga.files.texts import read_texts
from sakuga.printable import LISTED, cut

WORDS = {"width": "size", "solver": "sampler"}  # for what others tell and we ask in other words


@dataclass(frozen=True, slots=True)
class Source:
    """What a picture or a text gives: our receipt, or fields of a request, and what to say."""

    receipt: Receipt | None = None
    fields: Mapping[str, Any] | None = None


def open_source(
    picture: Path | None,
    text: str | None,
    asked: Mapping[str, Any],
    model: str | None,
    say: Callable[[str], None],
) -> Source:
    """What --from or --from-text names and `model` can draw; what was asked besides wins over it.

    Raises RequestError where there is nothing to take.
    """
    if picture is not None and text is not None:
        raise RequestError(
            "a drawing is taken from one place", "--from and --from-text", "Choose one."
        )
    if picture is not None:
        texts = read_texts(picture)
        if RECEIPT_KEY in texts:
            return Source(receipt=receipt_from(texts, picture.name))
        said = said_by(texts)
        if said is None:
            raise RequestError(
                "the picture must carry a receipt, or another program's settings",
                f"{picture.name} with neither",
                "See what it says with `sakuga show`.",
            )
        name = f"{picture.name} ({said.program})"
        return Source(fields=_fields(said.text, name, asked, model, say))
    if text is not None:
        found = read_infotext(read_prompt(text).text)
        if not found.settings:
            raise RequestError(
                "--from-text takes a settings text, with a line that begins `Steps: `",
                f"{cut(found.prompt, 60)!r} without one",
                "Give a prompt as it is, without the flag.",
            )
        return Source(fields=_fields(found, "the text", asked, model, say))
    return Source()


def _fields(
    found: Infotext,
    name: str,
    asked: Mapping[str, Any],
    model: str | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """What of it can be asked, with a word on what is taken, left and missing."""
    taken = taken_from(found, drawing_defaults(model))
    recipe = RECIPES.get(asked.get("recipe", ""))
    over = {*asked, *(recipe.values if recipe else ())}
    fields = {key: value for key, value in taken.values.items() if key not in over}
    say(f"Taken from {name}: {', '.join(_words(fields)) or 'nothing'}.")
    if taken.left:
        more = len(taken.left) - LISTED
        say(f"Not taken: {', '.join(taken.left[:LISTED])}{f' and {more} more' * (more > 0)}.")
    if missing := [WORDS.get(key, key) for key in taken.open if key not in over]:
        say(f"Not told there: {', '.join(missing)}.")
    return fields


def _words(fields: Mapping[str, Any]) -> Iterator[str]:
    """Texts by their names alone, the rest with its value."""
    for key, value in fields.items():
        if key in ("prompt", "negative", "system"):
            yield key
        else:
            yield f"{key} {value}"
