"""tokenizer.json -> ids, offsets and counts, by the tokenizers library alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sakuga.errors import CorruptFile, ModelNotFound

if TYPE_CHECKING:
    import tokenizers


@dataclass(frozen=True, slots=True)
class Tokens:
    """Ids with the special tokens of the file, and each one's range in the text.

    A special token has the empty range (0, 0).
    """

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.ids)


class Tokenizer:
    """A tokenizer of the Hugging Face format, neither padding nor truncating."""

    __slots__ = ("_inner",)

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        inner.no_padding()
        inner.no_truncation()
        self._inner = inner

    @classmethod
    def open(cls, path: str | Path) -> Tokenizer:
        """The tokenizer in a `tokenizer.json`. Raises ModelNotFound or CorruptFile."""
        if not Path(path).is_file():
            raise ModelNotFound(
                "a text encoder comes with its tokenizer.json",
                f"no file {path}",
                "Copy it from the model's repository into that folder.",
            )
        from tokenizers import Tokenizer as Inner

        try:
            inner = Inner.from_file(str(path))
        except Exception as error:  # the library raises nothing more precise
            raise CorruptFile(
                "tokenizer.json is of the Hugging Face tokenizers format",
                f"{path}: {error}",
                "Fetch the file again.",
            ) from error
        return cls(inner)

    def encode(self, text: str) -> Tokens:
        """The tokens of a text, special ones as the file's post-processor adds them."""
        encoding = self._inner.encode(text)
        return Tokens(tuple(encoding.ids), tuple(encoding.offsets))

    def count(self, text: str) -> int:
        """How many tokens `encode` gives."""
        return len(self._inner.encode(text).ids)
