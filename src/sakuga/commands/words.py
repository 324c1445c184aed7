"""The `words` command: what a model was taught, slot by slot."""

from __future__ import annotations

import json
from collections import Counter
from textwrap import fill
from typing import Annotated

import typer

from sakuga.api.engine_spec import EMBEDDED
from sakuga.checkpoint.catalog import lint_profile
from sakuga.commands.flags import AsJson
from sakuga.errors import RequestError
from sakuga.prompt.nearest import Vocabulary
from sakuga.prompt.slots import FIELDS

_WIDTH = 100
_MANY = 5


def words(
    model: Annotated[
        str, typer.Argument(help="chibi, newbie-3.5b, or the folder of a model.")
    ] = EMBEDDED,
    as_json: AsJson = False,
) -> None:
    """Print the words a model was taught, by what they describe."""
    known = lint_profile(model).vocabulary
    if known is None:
        raise RequestError(
            "a model must list its words to print them",
            f"{model}, which lists none",
            "Give it the tags of Danbooru; `sakuga lint` says where each belongs.",
        )
    vocabulary = Vocabulary(known)
    found = {
        slot: sorted(vocabulary.spelled[key] for key in vocabulary.by_slot[slot])
        for slot in (*FIELDS, "")
        if slot in vocabulary.by_slot
    }
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for slot, listed in found.items():
        text = f"{slot or 'names and more'}: {', '.join(_folded(listed))}"
        print(fill(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False))


def _folded(listed: list[str]) -> list[str]:
    """The words with those of many pairs told once: `red_` of dress, hoodie, kimono ..."""
    pairs = {word: tuple(word.split("_", 1)) for word in listed if "_" in word}
    pairs = {word: pair for word, pair in pairs.items() if pair[1] in listed}
    often = {
        first for first, n in Counter(first for first, _ in pairs.values()).items() if n >= _MANY
    }
    alone = [word for word in listed if word not in pairs or pairs[word][0] not in often]
    return alone + [f"{first}_..." for first in sorted(often)]
