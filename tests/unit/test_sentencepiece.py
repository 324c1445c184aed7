"""A SentencePiece model's bytes give its vocabulary, or are refused."""

from __future__ import annotations

import json
import struct
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from trained import gemma_model, jina_model, trained

from sakuga.errors import CorruptFile
from sakuga.tokenizer.sentencepiece import (
    BPE,
    MAX_FIELDS,
    MAX_PIECES,
    UNIGRAM,
    Added,
    PieceKind,
    checked,
    open_sentencepiece,
    read_sentencepiece,
)


def varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def field(number: int, value: int | bytes | float) -> bytes:
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def piece(text: str, kind: int = 1, score: float = 0.0) -> bytes:
    return field(1, field(1, text.encode()) + field(2, score) + field(3, kind))


HEAD = piece("<unk>", 2) + piece("<s>", 3) + piece("</s>", 3)


def test_reads_what_the_library_trains() -> None:
    own = sentencepiece.SentencePieceProcessor(model_proto=gemma_model())
    pieces = read_sentencepiece(gemma_model(), "x")
    assert list(pieces.texts) == [own.id_to_piece(n) for n in range(own.vocab_size())]
    assert list(pieces.scores) == [own.get_score(n) for n in range(own.vocab_size())]
    for n, kind in enumerate(pieces.kinds):
        assert (kind == PieceKind.BYTE) == own.is_byte(n)
        assert (kind == PieceKind.CONTROL) == own.is_control(n)
        assert (kind == PieceKind.UNKNOWN) == own.is_unknown(n)
    assert (pieces.algorithm, pieces.unknown, pieces.bos, pieces.eos) == (BPE, 3, 2, None)
    assert pieces.byte_fallback
    assert not pieces.charsmap
    assert not pieces.leading_space
    assert not pieces.single_spaces
    assert pieces.kinds[pieces.texts.index("<start_of_turn>")] == PieceKind.USER_DEFINED


def test_unigram_gets_the_ids_of_fairseq() -> None:
    own = sentencepiece.SentencePieceProcessor(model_proto=jina_model())
    pieces = read_sentencepiece(jina_model(), "x")
    assert pieces.texts[:4] == ("<s>", "<pad>", "</s>", "<unk>")
    assert list(pieces.texts[4:-1]) == [own.id_to_piece(n) for n in range(3, own.vocab_size())]
    assert (pieces.bos, pieces.eos, pieces.unknown) == (0, 2, 3)
    assert pieces.added == (Added(len(pieces.texts) - 1, "<mask>", True, True),)
    assert pieces.charsmap
    assert pieces.leading_space
    assert pieces.single_spaces


def test_unigram_that_counts_as_fairseq_already_is_taken_as_it_is() -> None:
    model = trained(model_type="unigram", vocab_size=180, bos_id=0, pad_id=1, eos_id=2, unk_id=3)
    pieces = read_sentencepiece(model, "x")
    assert pieces.texts[:4] == ("<s>", "<pad>", "</s>", "<unk>")
    assert (pieces.bos, pieces.eos, pieces.unknown) == (0, 2, 3)
    assert len(pieces.texts) == 180
    assert pieces.added == ()


def test_unknown_fields_are_passed_over() -> None:
    odd = field(9, 5) + field(4, b"tests") + varint(10 << 3 | 1) + bytes(8) + field(11, 1.0)
    assert read_sentencepiece(odd + HEAD, "x").texts[:4] == ("<s>", "<pad>", "</s>", "<unk>")


HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "no pieces": field(2, field(3, 2)),
    "text": b"this is no model",
    "a zip": b"PK\x03\x04" + bytes(30),
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.",
    "a number without end": b"\x08" + b"\xff" * 20,
    "a number cut short": HEAD + b"\x18\x80",
    "a field past the end": HEAD + b"\x0a\x7fabc",
    "a field past memory": HEAD + b"\x0a" + varint(2**63) + b"abc",
    "a group": HEAD + b"\x0b",
    "a piece that is no text": HEAD + field(1, field(1, b"\xff\xfe")),
    "an empty piece": HEAD + piece(""),
    "a piece of a million letters": HEAD + piece("a" * 1_000_000),
    "pieces of too many letters": HEAD + b"".join(piece(f"{n:0256}") for n in range(30_000)),
    "a piece twice": HEAD + piece("a") + piece("a"),
    "a piece as number": HEAD + field(1, field(1, 7)),
    "a kind of text": HEAD + field(1, field(1, b"a") + field(3, b"x")),
    "an unknown kind": HEAD + piece("a", 9),
    "a negative kind": HEAD + piece("a", 2**64 - 1),
    "no score": HEAD + piece("a", score=float("nan")),
    "an infinite score": HEAD + piece("a", score=float("inf")),
    "a score of eight bytes": HEAD + field(1, field(1, b"a") + b"\x11" + bytes(8)),
    "nothing for what is unknown": piece("a") + piece("b"),
    "another algorithm": HEAD + field(2, field(3, 4)),
    "spaces after words": HEAD + field(2, field(24, 1)),
    "spaces unmarked": HEAD + field(3, field(5, 0)),
    "a pad that is a word": HEAD + piece("<pad>"),
    "too many pieces": HEAD + piece("a") * (MAX_PIECES + 1),
    "too many fields": HEAD + field(9, 1) * (MAX_FIELDS + 1),
    "a piece of too many fields": HEAD + field(1, field(1, b"a") * 1000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refuses_bytes_that_lie(name: str) -> None:
    start = time.process_time()
    with pytest.raises(CorruptFile) as caught:
        read_sentencepiece(HOSTILE[name], "the source")
    assert time.process_time() - start < 1
    assert "the source" in caught.value.got
    assert len(str(caught.value)) < 400


def test_every_cut_of_a_real_model_is_refused_or_whole() -> None:
    """A cut between two fields leaves a smaller model, which nothing tells from a whole one."""
    model = gemma_model()
    for size in range(0, len(model), 97):
        try:
            read_sentencepiece(model[:size], "x")
        except CorruptFile:
            continue
        assert size > 100


@pytest.mark.parametrize("wrong", [{"bos": 999}, {"unknown": -1}, {"kinds": ("a",) * 180}])
def test_numbers_of_special_tokens_are_pieces(wrong: dict[str, Any]) -> None:
    pieces = read_sentencepiece(jina_model(), "x")
    assert checked(pieces, "x") == pieces
    with pytest.raises(CorruptFile):
        checked(replace(pieces, **wrong), "x")


def test_a_config_beside_adds_tokens(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(gemma_model())
    assert open_sentencepiece(tmp_path / "tokenizer.model").added == ()
    token = {"content": "<image_soft_token>", "special": True, "lstrip": False, "rstrip": True}
    config = {"added_tokens_decoder": {"481": token, "480": {**token, "content": "<other>"}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert open_sentencepiece(tmp_path / "tokenizer.model").added == (
        Added(480, "<other>", special=True, right_space=True),
        Added(481, "<image_soft_token>", special=True, right_space=True),
    )
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GemmaTokenizer"}')
    assert open_sentencepiece(tmp_path / "tokenizer.model").added == ()


@pytest.mark.parametrize(
    "config",
    [
        "[]", "{", "[" * 200_000, '{"added_tokens_decoder": []}',
        '{"added_tokens_decoder": {"x": {}}}', '{"added_tokens_decoder": {"1": "a"}}',
        '{"added_tokens_decoder": {"1": {"content": ""}}}',
        '{"added_tokens_decoder": {"-1": {"content": "a"}}}',
        '{"added_tokens_decoder": {"' + "9" * 5000 + '": {"content": "a"}}}',
    ],
)  # fmt: skip
def test_a_config_that_makes_no_sense(tmp_path: Path, config: str) -> None:
    (tmp_path / "tokenizer.model").write_bytes(gemma_model())
    (tmp_path / "tokenizer_config.json").write_text(config)
    with pytest.raises(CorruptFile, match=r"tokenizer_config\.json"):
        open_sentencepiece(tmp_path / "tokenizer.model")


def test_files_of_any_size_are_not_read(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.model"
    with file.open("wb") as stream:
        stream.truncate(2**33)  # sparse: takes no room
    with pytest.raises(CorruptFile, match="at most"):
        open_sentencepiece(file)


def test_the_kinds_are_those_of_the_library() -> None:
    assert read_sentencepiece(HEAD, "x").algorithm == UNIGRAM
    assert read_sentencepiece(HEAD + field(2, field(3, 2)), "x").algorithm == BPE
