"""Where models are, and what a linter may know of one without opening its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from sakuga.errors import ModelNotFound
from sakuga.model.spec import CHIBI, NEWBIE_3_5B, PRESETS

INDEX = "model_index.json"
EMBEDDED = CHIBI.name
EMBEDDED_FOLDER = Path(__file__).parent / "chibi" / "model"
ELSEWHERE = {
    NEWBIE_3_5B.name: "Download NewBie-AI/NewBie-image-Exp0.1 from Hugging Face; pass its folder.",
}


@dataclass(frozen=True, slots=True)
class Lexicon:
    """The words of a model: its trained length in Gemma tokens, tokenizer and vocabulary.

    `tokenizer` is the path of a tokenizer.json, None without the model's files;
    `vocabulary` is None for a model that does not list what it can draw.
    """

    limit: int
    tokenizer: Path | None
    vocabulary: frozenset[str] | None


def locate(model: str) -> Path:
    """The folder of a model, given by name or path. Raises ModelNotFound."""
    folder = EMBEDDED_FOLDER if model == EMBEDDED else Path(model)
    if model in ELSEWHERE and not folder.exists():
        raise ModelNotFound("weights must be on this machine", repr(model), ELSEWHERE[model])
    if not (folder / INDEX).is_file():
        what = "a folder without one" if folder.is_dir() else "no such folder"
        raise ModelNotFound(
            f"a model must be a folder with {INDEX}",
            f"{model!r}, {what}",
            f"Known by name: {', '.join((EMBEDDED, *ELSEWHERE))}.",
        )
    return folder


def lexicon(model: str) -> Lexicon:
    """What a linter may know of a model; one that is elsewhere has no files to ask.

    Raises ModelNotFound for a name or folder that nobody knows.
    """
    limit = PRESETS.get(model, NEWBIE_3_5B).gemma.trained_tokens
    if model in ELSEWHERE and not Path(model).exists():
        return Lexicon(limit, None, None)
    folder = EMBEDDED_FOLDER if model == EMBEDDED else locate(model)
    tokenizer = folder / "tokenizer" / "tokenizer.json"
    words = folder / "vocabulary.json"
    vocabulary = None
    if words.is_file():
        vocabulary = frozenset(json.loads(words.read_text(encoding="utf-8"))["words"])
    return Lexicon(limit, tokenizer if tokenizer.is_file() else None, vocabulary)
