"""Words that the small model does not know, as people write them beside those that it does."""

from __future__ import annotations

from functools import cache
from random import Random

from sakuga.chibi.vocabulary import WORDS
from sakuga.prompt.slots import slot_of
from sakuga.prompt.tag_table import all_keys, implied_by, known_tag

# What tags of these slots say, would contradict what is drawn, or say it in other words.
_DRAWN = frozenset(("hair colour", "hair length", "hair style", "eye colour", "eyes", "count"))
_LEAST_USES = 500  # of a tag that people know
_SYLLABLES = (
    "ka", "ri", "to", "mi", "no", "shi", "ra", "el", "dor", "van", "qu", "zi", "pha", "lo", "wen",
    "tra", "bri", "sto", "mer", "ny", "ox",
)  # fmt: skip


@cache
def unknown_tags() -> tuple[str, ...]:
    """Tags of the public lists that the model was not taught, and that it draws nothing for."""
    return tuple(
        key for key in all_keys()
        if key not in WORDS and key.isascii() and slot_of(key) not in _DRAWN
        and (tag := known_tag(key)) and tag.uses >= _LEAST_USES
        and not any(part in WORDS for part in key.split("_"))
        and not any(implied.key in WORDS for implied in implied_by(key))
    )  # fmt: skip


def stranger(rng: Random) -> str:
    """A word that says nothing to the model: a tag of the lists, or one that nobody knows."""
    if rng.random() < 0.7:
        return rng.choice(unknown_tags())
    word = "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 4)))
    return word if rng.random() < 0.7 else f"{word}_{rng.choice(_SYLLABLES)}"
