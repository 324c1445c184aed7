"""Tokens, their offsets and counts, as the tokenizer's own file says."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from sakuga.errors import CorruptFile, ModelNotFound
from sakuga.prompt.tokens import Tokenizer, Tokens


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two known words between special tokens; the file asks for truncation and padding."""
    vocabulary = {"[UNK]": 0, "[BOS]": 1, "[EOS]": 2, "blue": 3, "髪": 4}
    inner = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 1), ("[EOS]", 2)]
    )
    inner.enable_truncation(3)
    inner.enable_padding(length=20)
    inner.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_ids_and_offsets_count_characters(path: Path) -> None:
    tokens = Tokenizer.open(path).encode("blue 😀 髪")
    assert tokens == Tokens((1, 3, 0, 4, 2), ((0, 0), (0, 4), (5, 6), (7, 8), (0, 0)))
    assert len(tokens) == 5


def test_a_text_is_neither_cut_nor_padded(path: Path) -> None:
    tokenizer = Tokenizer.open(str(path))
    assert tokenizer.count("blue " * 50) == 52
    assert tokenizer.count("") == 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"tokenizer\.json"):
        Tokenizer.open(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"model": {"type": "Odd"}}'])
def test_a_broken_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CorruptFile, match="tokenizers format"):
        Tokenizer.open(tmp_path / "tokenizer.json")
