"""Text to token ids, offsets and counts, by the tokenizers library, from any tokenizer file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from sakuga.errors import CorruptFile, ModelNotFound

if TYPE_CHECKING:
    import tokenizers

    from sakuga.tokenizer.sentencepiece import SentencePieceModel


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a text: ids, special ones among them, and the range of each in the text.

    offsets: (first character, the one past the last); of a special token (0, 0).
    """

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, some: slice) -> Tokens:
        return Tokens(self.ids[some], self.offsets[some])

    @property
    def text_ids(self) -> tuple[int, ...]:
        """The ids without those of special tokens."""
        pairs = zip(self.ids, self.offsets, strict=True)
        return tuple(one for one, (start, end) in pairs if start < end)


class Tokenizer:
    """A tokenizer of the Hugging Face format, neither padding nor truncating."""

    __slots__ = ("_inner",)

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        inner.no_padding()
        inner.no_truncation()
        self._inner = inner

    @classmethod
    def open(cls, source: str | Path | SentencePieceModel) -> Tokenizer:
        """The tokenizer in a `tokenizer.json`, in a SentencePiece `.model`, or of such a model.

        A file is read once per process, for as long as it stays the same. Raises ModelNotFound
        or CorruptFile.
        """
        if not isinstance(source, str | Path):
            from sakuga.tokenizer.assemble import assemble

            with _refusing("a vocabulary makes a tokenizer", "SentencePiece vocabulary"):
                return cls(assemble(source))
        if not Path(source).is_file():
            raise ModelNotFound(
                "a text encoder comes with its tokenizer.json or tokenizer.model",
                f"no file {source}",
                "Copy it from the model's repository into that folder.",
            )
        stat = Path(source).stat()
        return _read(Path(source).resolve(), (stat.st_size, stat.st_mtime_ns, stat.st_ino))

    def encode(self, text: str) -> Tokens:
        """The tokens of a text, special ones as the file's post-processor adds them.

        Raises CorruptFile where the tokenizer's own tables contradict themselves.
        """
        with _refusing("a tokenizer cuts any text", "a tokenizer that cannot"):
            encoding = self._inner.encode(text)
        return Tokens(tuple(encoding.ids), tuple(encoding.offsets))

    def count(self, text: str) -> int:
        """How many tokens `encode` gives."""
        return len(self.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """The text that ids stand for, special ones spelled out. Raises CorruptFile."""
        with _refusing("a tokenizer spells its tokens", "a tokenizer that cannot"):
            return str(self._inner.decode(list(ids), skip_special_tokens=False))

    def id_of(self, token: str) -> int | None:
        """The id of a token by its spelling; None where there is none."""
        return self._inner.token_to_id(token)

    @property
    def size(self) -> int:
        """One more than the largest id, so that a table of as many rows holds them all."""
        return max(self._inner.get_vocab().values(), default=-1) + 1


@lru_cache(maxsize=4)
def _read(file: Path, state: tuple[int, ...]) -> Tokenizer:
    """The tokenizer in a file; `state` is there to notice one that changed."""
    del state
    if file.suffix == ".model":
        from sakuga.tokenizer.sentencepiece import open_sentencepiece

        return Tokenizer.open(open_sentencepiece(file))
    from tokenizers import Tokenizer as Inner

    with _refusing("tokenizer.json is of the Hugging Face tokenizers format", str(file)):
        return Tokenizer(Inner.from_file(str(file)))


@contextmanager
def _refusing(rule: str, source: str) -> Iterator[None]:
    """Turn what the library raises on a broken file into a CorruptFile."""
    try:
        yield
    except BaseException as error:
        # The library raises plain exceptions, and panics over tables that lead out of themselves.
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise CorruptFile(rule, f"{source}: {error}", "Fetch the file again.") from error
        raise
