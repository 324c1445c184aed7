"""vocabulary.json: the words that a model says it can draw."""

from __future__ import annotations

from pathlib import Path

from sakuga.errors import CorruptFile
from sakuga.weights.untrusted import read_json

VOCABULARY = "vocabulary.json"


def vocabulary(folder: Path) -> frozenset[str] | None:
    """The words that a model says it can draw; None where it does not. Raises CorruptFile."""
    file = folder / VOCABULARY
    if not file.is_file():
        return None
    words = read_json(file, folder).get("words")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise CorruptFile(
            f"{VOCABULARY} holds a list of words", f"another thing in {file}", "Remove it"
        )
    return frozenset(words)
