"""A tokenizer in a file of its own: by which names, and where it is found.

Apart from what reads weights, which takes a tenth of a second to import: most prompts are
linted without.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sakuga.weights.untrusted import confine

FILES = ("tokenizer.json", "tokenizer.model", "sentencepiece.bpe.model", "spiece.model")
CONFIG = "tokenizer_config.json"  # which is read with the vocabulary of a SentencePiece model


def own_file(places: Iterable[tuple[Path, str]]) -> Path | None:
    """The first tokenizer in a file of its own.

    places: roots, out of which no link may lead, and folders within. Raises CorruptFile where
    one does.
    """
    for root, folder in places:
        for name in FILES:
            file = root / folder / name
            if file.is_file():
                for each in (file, file.with_name(CONFIG)):  # which is read with it
                    confine(each, root)
                return file
    return None
