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
from sakuga.commands.streams import say
from sakuga.errors import RequestError
from sakuga.prompt.completion import by_slot
from sakuga.prompt.nearest import UNADVISED, Vocabulary
from sakuga.prompt.slots import FIELDS, slot_of
from sakuga.prompt.tags import normal

_WIDTH = 100
_MANY = 5


def words(
    about: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WORD]...", help="Words to look up, or what they describe."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="chibi, newbie-3.5b, or the folder of a model.")
    ] = EMBEDDED,
    as_json: AsJson = False,
) -> None:
    """Print the words a model was taught, by what they describe, or what it knows of some."""
    known = lint_profile(model).vocabulary
    if known is None:
        raise RequestError(
            "a model must list its words to print them",
            f"{model}, which lists none",
            "Give it the tags of Danbooru; `sakuga lint` says where each belongs.",
        )
    vocabulary = Vocabulary(known)
    found = by_slot(vocabulary, FIELDS)
    told = {word: _told(word, vocabulary) for word in about or () if word not in found}
    if about:
        found = {slot: found[slot] for slot in about if slot in found}
    if as_json:
        print(json.dumps({**found, **told}, indent=2, ensure_ascii=False))
        return
    for word, said in told.items():
        say(f"{word}: {said}")
    for slot, listed in found.items():
        text = f"{slot or 'names and more'}: {', '.join(_folded(listed))}"
        print(fill(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False))


def _told(word: str, vocabulary: Vocabulary) -> str:
    """What a model makes of one word."""
    key = normal(word)
    if key in vocabulary.spelled:
        slot = slot_of(key)
        return f"known{f', of {slot}' if slot else ''}."
    near = vocabulary.advice(key)
    return f"not taught. {near if near != UNADVISED else 'No word that it knows is near.'}"


def _folded(listed: list[str]) -> list[str]:
    """The words with those of many pairs told once: `red_` of dress, hoodie, kimono ..."""
    pairs = {word: tuple(word.split("_", 1)) for word in listed if "_" in word}
    pairs = {word: pair for word, pair in pairs.items() if pair[1] in listed}
    often = {
        first for first, n in Counter(first for first, _ in pairs.values()).items() if n >= _MANY
    }
    alone = [word for word in listed if word not in pairs or pairs[word][0] not in often]
    return alone + [f"{first}_..." for first in sorted(often)]
