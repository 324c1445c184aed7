"""The nearest word that a model knows to one that it does not."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cached_property

from sakuga.prompt.slots import slot_of
from sakuga.prompt.tag_table import implied_by, known_tag
from sakuga.prompt.tags import normal

UNADVISED = "Use a word it knows; `sakuga words` lists them."

_OFFERED = 3
_ALIKE = 0.8  # of difflib's ratio: a slip of the pen, not another word
_LETTERS = 3  # by which it makes a word longer or shorter, at most; the first letter it spares


class Vocabulary:
    """The words of a model, by what a tag may have in common with them."""

    def __init__(self, words: frozenset[str]) -> None:
        self.words = words

    @cached_property
    def spelled(self) -> Mapping[str, str]:
        """key -> the word as the model has it."""
        return {normal(word): word for word in sorted(self.words, reverse=True)}

    @cached_property
    def by_tag(self) -> Mapping[str, str]:
        """The key of a tag -> a word that names it, itself or by another of its names."""
        known = ((known_tag(key), key) for key in self.spelled)
        return {tag.key: key for tag, key in known if tag}

    @cached_property
    def by_slot(self) -> Mapping[str, tuple[str, ...]]:
        """slot -> the keys in it."""
        found: dict[str, list[str]] = {}
        for key in self.spelled:
            found.setdefault(slot_of(key) or "", []).append(key)
        return {slot: tuple(keys) for slot, keys in found.items()}

    def advice(self, key: str) -> str:
        """What to write for a key that is not in it: the word that is nearest, and how near."""
        if word := self._same(key) or self._alike(key):
            return f"Write {self.spelled[word]}, which it knows."
        words = self.by_slot.get(slot_of(key) or "-", ())
        if words:
            best = sorted(words, key=lambda word: _nearness(key, word), reverse=True)[:_OFFERED]
            offered = ", ".join(self.spelled[word] for word in best)
            return f"Use what it knows of {slot_of(key)}, such as {offered}."
        return UNADVISED

    def _same(self, key: str) -> str | None:
        """A word for the same tag, or for one that it implies."""
        for tag in implied_by(key):
            if tag.key in self.spelled:
                return tag.key
            if tag.key in self.by_tag:
                return self.by_tag[tag.key]
        return None

    def _alike(self, key: str) -> str | None:
        if known_tag(key):  # spelled as it should be
            return None
        near = [
            word
            for word in self.spelled
            if word[:1] == key[:1] and abs(len(word) - len(key)) <= _LETTERS
        ]
        return next(iter(get_close_matches(key, near, 1, _ALIKE)), None)


def _nearness(key: str, word: str) -> tuple[int, int, int]:
    """Parts in common, implied tags in common, uses."""
    parts = set(key.split("_")).intersection(word.split("_"))
    implied = set(implied_by(key)).intersection(implied_by(word))
    tag = known_tag(word)
    return len(parts), len(implied), tag.uses if tag else 0
