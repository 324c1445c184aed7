"""The names of blocks and fields, their order in the training data, and their other spellings."""

from __future__ import annotations

import re
from functools import lru_cache

CAPTION = "caption"
GENERAL = "general_tags"
CHARACTER_FIELDS = (
    "n",
    "gender",
    "appearance",
    "clothing",
    "body_type",
    "expression",
    "action",
    "interaction",
    "position",
)
GENERAL_FIELDS = (
    "count",
    "artists",
    "style",
    "background",
    "environment",
    "perspective",
    "atmosphere",
    "lighting",
    "quality",
    "objects",
    "other",
)
ALIASES = {"pose": "action", "artist": "artists", "name": "n"}
WRAPPERS = frozenset({"image", "img"})
# A tag that says nothing of its content but that it is what was asked for.
PLAIN_WRAPPERS = frozenset(
    {"prompt", "positive", "positive_prompt", "answer", "output", "response", "result"}
)
NEGATIVES = frozenset({"negative", "negative_prompt", "negative_tags", "neg", "neg_prompt"})
BOXES = frozenset({"box", "bbox"})  # where a block stands: for the drawing, not for encoders
UNNUMBERED = -1

_CHARACTER = re.compile(r"char(?:acter)?[_\-]?([0-9]{0,3})", re.I | re.A)


def lowered(name: str) -> str:
    """A name in lower case, unless that could make it longer, as in some scripts."""
    return name.lower() if name.isascii() else name


def standard_name(name: str) -> str:
    """The name a field of a character or of general_tags is read under."""
    return ALIASES.get(lowered(name), lowered(name))


def character_number(name: str) -> int | None:
    """The number in a character block's name, UNNUMBERED, or None for other blocks."""
    match = _CHARACTER.fullmatch(name)
    if match is None:
        return None
    return int(match[1]) if match[1] else UNNUMBERED


@lru_cache(1024)
def is_block(name: str) -> bool:
    """Whether a tag of this name is one of the blocks of a prompt."""
    return lowered(name) in {GENERAL, CAPTION} or character_number(name) is not None


@lru_cache(1024)
def is_field(name: str) -> bool:
    """Whether a tag of this name is a field that the training data has."""
    return standard_name(name) in CHARACTER_FIELDS + GENERAL_FIELDS
