"""The same ids from tokenizer.json, from the words of a GGUF file, and from SentencePiece."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import sentencepiece

from sakuga.tokenizer.sentencepiece import read_sentencepiece, write_sentencepiece
from sakuga.tokenizer.tokens import Tokenizer
from sakuga.weights.gguf import open_gguf
from sakuga.weights.llama_cpp import pieces_of
from wild.files import Row

EXAMPLES = Path(__file__).parents[2] / "examples"
ODD = [
    "", " ", "  ", "a  b   c", "    lead", "trail   ", "\t\tx\n\n\n\ny ", "A\r\nB", "\x00\x07",
    "日本語の髪 😀🏳️\u200d🌈 ﷽", "é e\u0301 ﬁ ﾊﾝｶｸ\u3000ｶﾅ",
    "<bos><unused5><mask>x<start_of_turn>user", "<table><b>", " " * 70 + "a",
    "1girl, solo_focus, 123456", ">_< <3 :<",
]  # fmt: skip
RANGES = [
    (32, 127), (32, 127), (0xA0, 0x250), (0x370, 0x600), (0x3040, 0x3100), (0x4E00, 0x9FFF),
    (0x1F300, 0x1F700), (9, 11), (32, 33),
]  # fmt: skip


def compare(gguf: Path, tokenizer: Path) -> list[Row]:
    """Ids and offsets of the examples, of odd texts, and of 2,000 random ones."""
    words = pieces_of(open_gguf(gguf))
    model = write_sentencepiece(words)
    told, carried = Tokenizer.open(tokenizer), Tokenizer.open(words)
    parsed = Tokenizer.open(read_sentencepiece(model, "the rebuilt model"))
    library = sentencepiece.SentencePieceProcessor(model_proto=model)
    texts = list(corpus())
    tokens = [told.encode(text) for text in texts]
    count = sum(map(len, tokens))
    about = f"{len(texts)} texts, {count} tokens"
    rows = []
    for name, other in (("the words of the GGUF file", carried), ("a SentencePiece model", parsed)):
        wrong = [text for text, want in zip(texts, tokens, strict=True)
                 if other.encode(text) != want]  # fmt: skip
        rows.append(_row(f"ids and offsets, tokenizer.json against {name}", about, wrong))
    plain = [(text, want.ids) for text, want in zip(texts, tokens, strict=True) if "<" not in text]
    wrong = [text for text, ids in plain if (2, *library.encode(text)) != ids]
    about = f"{len(plain)} texts without <"
    return [*rows, _row("ids, tokenizer.json against the sentencepiece library", about, wrong)]


def corpus() -> Iterator[str]:
    """The texts: the same ones in every run."""
    for file in sorted(EXAMPLES.glob("*.*")):
        yield file.read_text(encoding="utf-8")
    yield from ODD
    random = Random(0)
    for _ in range(2000):
        spans = [random.choice(RANGES) for _ in range(random.randrange(1, 12))]
        yield "".join(
            chr(random.randrange(*span)) for span in spans for _ in range(random.randrange(1, 9))
        )


def _row(name: str, about: str, wrong: list[str]) -> Row:
    first = f", first {wrong[0]!r}" if wrong else ""
    return Row(name, f"{about}, {len(wrong)} differ{first}", not wrong)
