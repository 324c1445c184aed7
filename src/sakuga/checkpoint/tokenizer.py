"""A model's tokenizer: read from a file of its own, or from the weights of its encoder.

Published models bring a tokenizer.json or a SentencePiece model; encoders in a single file
carry the latter as a tensor of bytes, GGUF files as lists of words.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from sakuga.checkpoint.parts import components_of
from sakuga.checkpoint.tokenizer_file import FILES
from sakuga.errors import CorruptFile, ModelNotFound, WeightsError
from sakuga.tokenizer.sentencepiece import (
    SentencePieceModel,
    read_sentencepiece,
    write_sentencepiece,
)
from sakuga.weights.formats import ITEMSIZE
from sakuga.weights.gguf import open_gguf
from sakuga.weights.llama_cpp import has_words, pieces_of
from sakuga.weights.store import Store
from sakuga.weights.untrusted import confine

WEIGHTS = ("*.safetensors", "*.gguf")
TENSOR = "spiece_model"


def carrier(places: Iterable[tuple[Path, str]], component: str) -> Path | None:
    """The first file of weights of a component that carries its tokenizer.

    places: as for `own_file`. component: text_encoder | text_encoder_2. Weights that make no
    sense carry none.
    """
    for root, folder in places:
        for file in sorted(each for kind in WEIGHTS for each in (root / folder).glob(kind)):
            with suppress(ModelNotFound, WeightsError, OSError):
                confine(file, root)
                store = Store.open(file)
                carries = _tensor(store) is not None or has_words(store.metadata)
                if carries and component in components_of(store):
                    return file
    return None


def carried(store: Store, prefix: str = "") -> SentencePieceModel | None:
    """The vocabulary within weights, None where there is none. Raises CorruptFile.

    prefix: how the names of its encoder begin, of whose there may be several.
    """
    key = _tensor(store, prefix)
    if key is not None:
        return read_sentencepiece(_bytes(store, key), f"{key} of {store.path}")
    if has_words(store.metadata):
        return pieces_of(open_gguf(store.files[0]))
    return None


def carried_model(store: Store, prefix: str = "") -> bytes | None:
    """The same as a SentencePiece model, as `tokenizer.model` holds it."""
    key = _tensor(store, prefix)
    if key is not None:
        return _bytes(store, key)
    pieces = carried(store)
    return write_sentencepiece(pieces) if pieces is not None else None


def _tensor(store: Store, prefix: str = "") -> str | None:
    """The name of the tensor that holds a SentencePiece model: nearest to where names begin so."""

    def near(key: str) -> int:
        home = key.removesuffix(TENSOR)
        return len(home) if prefix.startswith(home) else -1

    return max((key for key in store if key.endswith(TENSOR)), key=near, default=None)


def _bytes(store: Store, key: str) -> bytes:
    dtype = store.info(key).dtype
    if ITEMSIZE.get(dtype) != 1:
        rule = f"{TENSOR} holds the bytes of a SentencePiece model"
        raise CorruptFile(rule, f"{dtype} in {store.path}", "Convert the file again")
    return bytes(store.view(key))


def read_tokenizer(file: Path) -> Path | SentencePieceModel:
    """What `tokenizer.tokens.Tokenizer.open` takes, of a file that `own_file` or `carrier` found.

    Raises CorruptFile, and ModelNotFound where weights carry none.
    """
    if file.name in FILES:
        return file
    pieces = carried(Store.open(file))
    if pieces is None:
        rule = "a tokenizer is one of " + ", ".join(FILES) + ", or within weights"
        raise ModelNotFound(rule, f"weights without one in {file}", "Name the file that has it")
    return pieces
