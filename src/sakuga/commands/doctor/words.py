"""Whether each encoder has the tokenizer it was trained with."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

from sakuga.checkpoint.folder import ENCODERS, TOKENIZERS
from sakuga.checkpoint.parts import SECOND
from sakuga.checkpoint.tokenizer import carried
from sakuga.checkpoint.tokenizer_file import FILES, own_file
from sakuga.commands.doctor.files import Components, reads_second
from sakuga.commands.doctor.finding import Diagnoses, Diagnosis, green, red, trouble, yellow
from sakuga.engine.texts import BELONGS, check_tokenizer
from sakuga.errors import ModelNotFound
from sakuga.tokenizer.sentencepiece import SentencePieceModel
from sakuga.tokenizer.tokens import Tokenizer

SAMPLE = "<character_1><n>miku</n><appearance>blue_hair, 1girl</appearance></character_1> smile."


def tokenizers(folder: Path, components: Components) -> Diagnoses:
    """A finding for the tokenizer of each encoder that could be opened."""
    for name, encoder in ENCODERS.items():
        if encoder == SECOND and not reads_second(components):
            continue
        try:
            tokenizer = Tokenizer.open(_source(folder, name, components))
            spec = components[encoder].spec if encoder in components else None
            yield _matched(name, tokenizer, spec)
        except Exception as error:  # the other one is looked at all the same
            yield trouble(name, error)


def _matched(name: str, tokenizer: Tokenizer, spec: Any) -> Diagnosis:
    """Compare a tokenizer with the encoder's spec; None where that is not known."""
    if spec is None:
        return yellow(name, f"{tokenizer.size:,} tokens; no encoder to compare them with")
    wrong = check_tokenizer(tokenizer, spec)
    back = tokenizer.decode(tokenizer.encode(SAMPLE).text_ids)
    if _plain(back) != _plain(SAMPLE):
        wrong = wrong or f"{SAMPLE!r} comes back as {back!r}"
    if wrong:
        return red(name, wrong, BELONGS)
    size = tokenizer.size
    text = f"{size:,} tokens for {spec.vocab_size:,} rows, special ones as the encoder's"
    if size < spec.vocab_size * 0.9:
        return yellow(name, f"{text}, but many rows have no token", BELONGS)
    return green(name, f"{text}, a sample comes back as it was")


def _source(folder: Path, name: str, components: Components) -> Path | SentencePieceModel:
    """What tokenizes for an encoder: a file of its own, or the vocabulary within its weights."""
    file = own_file((folder, one) for one in TOKENIZERS[name])
    encoder = components.get(ENCODERS[name])
    found: Path | SentencePieceModel | None = file
    if file is None and encoder is not None:
        found = carried(encoder.store, encoder.match.prefix)
    if found is None:
        places = ", ".join(TOKENIZERS[name])
        rule = f"an encoder has one of {', '.join(FILES)}, or a vocabulary in its weights"
        raise ModelNotFound(rule, f"none in {places}", BELONGS)
    return found


def _plain(text: str) -> str:
    """A text as a tokenizer may give it back: some make all white space one."""
    return " ".join(unicodedata.normalize("NFKC", text).split())
