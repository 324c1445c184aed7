"""Tokens, their offsets and counts, as the tokenizer's own file says."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import tokenizers
from gguf_file import write_gguf
from safetensors.numpy import save_file
from tokenizers import models, pre_tokenizers, processors
from trained import (
    TEXTS,
    gemma_json,
    gemma_model,
    gguf_words,
    jina_json,
    jina_model,
    trained,
)

from sakuga.checkpoint.tokenizer import carried
from sakuga.errors import CorruptFile, ModelNotFound
from sakuga.tokenizer.sentencepiece import Added, read_sentencepiece
from sakuga.tokenizer.tokens import Tokenizer, Tokens
from sakuga.weights.store import Store


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


# SentencePiece

GEMMA, JINA = "gemma", "jina"
MODEL = pytest.mark.parametrize("model", [GEMMA, JINA])
SPECIAL = ["a <mask> b", "<mask>", "  <mask>  <mask>x", "<start_of_turn>user\n\n<pad>", "<unk>"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tokenizer]]:
    """The same two vocabularies from every place that may hold one."""
    folder = tmp_path_factory.mktemp("sources")
    charsmap = read_sentencepiece(jina_model(), "x").charsmap
    jsons = {GEMMA: gemma_json(folder / "g.json"), JINA: jina_json(folder / "j.json", charsmap)}
    made: dict[str, dict[str, Tokenizer]] = {}
    for name, data in ((GEMMA, gemma_model()), (JINA, jina_model())):
        (folder / f"{name}.model").write_bytes(data)
        tensor = np.frombuffer(data, dtype=np.uint8)
        save_file({"spiece_model": tensor}, folder / f"{name}.safetensors")
        pieces = carried(Store.open(folder / f"{name}.safetensors"))
        assert pieces is not None
        made[name] = {
            "tokenizer.json": Tokenizer.open(jsons[name]),
            "tokenizer.model": Tokenizer.open(folder / f"{name}.model"),
            "spiece_model": Tokenizer.open(pieces),
        }
    values = gguf_words(read_sentencepiece(gemma_model(), "x"))
    words = carried(Store.open(write_gguf(folder / "x.gguf", values, {})))
    assert words is not None
    made[GEMMA]["gguf"] = Tokenizer.open(words)
    return made


@MODEL
@pytest.mark.parametrize("text", [*TEXTS, *SPECIAL])
def test_ids_and_offsets_are_the_same_from_each_source(
    sources: dict[str, dict[str, Tokenizer]], model: str, text: str
) -> None:
    first, *others = sources[model].values()
    want = first.encode(text)
    assert want.ids
    for other in others:
        assert other.encode(text) == want


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_sentencepiece(
    sources: dict[str, dict[str, Tokenizer]], text: str
) -> None:
    own = sentencepiece.SentencePieceProcessor(model_proto=gemma_model())
    if "<" not in text:  # it takes the names of control tokens for text
        want = [2, *own.encode(text)]
        assert list(sources[GEMMA]["tokenizer.model"].encode(text).ids) == want
    own = sentencepiece.SentencePieceProcessor(model_proto=jina_model())
    if "<bos>" not in text:
        want = [0, *(n + 1 if n > 2 else 3 for n in own.encode(text)), 2]
        assert list(sources[JINA]["tokenizer.model"].encode(text).ids) == want


@pytest.mark.parametrize("model", ["bpe", "unigram"])
@pytest.mark.parametrize("leading", [True, False])
@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("fallback", [True, False])
def test_whatever_a_model_says_of_spaces_and_bytes_is_done(
    model: str, leading: bool, single: bool, fallback: bool
) -> None:
    data = trained(
        model_type=model, vocab_size=420 if fallback else 180, byte_fallback=fallback,
        add_dummy_prefix=leading, remove_extra_whitespaces=single,
    )  # fmt: skip
    own = sentencepiece.SentencePieceProcessor(model_proto=data)
    tokenizer = Tokenizer.open(read_sentencepiece(data, "x"))
    for text in TEXTS:
        if "</s>" in text:
            continue
        ids = own.encode(text)
        fairseq = [0, *(n + 1 if n > 2 else 3 for n in ids), 2]
        want = [1, *ids] if model == "bpe" else fairseq
        assert list(tokenizer.encode(text).ids) == want, text


def test_offsets_lead_back_to_the_text(sources: dict[str, dict[str, Tokenizer]]) -> None:
    text = "blue_hair,  red eyes 😀x"
    tokens = sources[GEMMA]["gguf"].encode(text)
    cuts = list(dict.fromkeys(tokens.offsets[1:]))
    assert "".join(text[start:end] for start, end in cuts) == text
    tokens = sources[JINA]["spiece_model"].encode(text)
    covered = {at for start, end in tokens.offsets for at in range(start, end)}
    assert covered == {at for at, letter in enumerate(text) if letter != " "}


def test_an_added_token_may_be_of_the_normalised_text() -> None:
    pieces = read_sentencepiece(jina_model(), "x")
    count = len(pieces.texts)
    for normalised in (False, True):
        added = Added(count, "ﬁx", normalised=normalised)
        tokenizer = Tokenizer.open(replace(pieces, added=(added,)))
        assert (count in tokenizer.encode("ﬁx").ids) is True
        assert (count in tokenizer.encode("fix").ids) is normalised


def test_added_tokens_come_before_all_else() -> None:
    pieces = read_sentencepiece(gemma_model(), "x")
    count = len(pieces.texts)
    image = Added(count, "<image_soft_token>", special=True)
    wide = Added(20, pieces.texts[20], right_space=True)
    tokenizer = Tokenizer.open(replace(pieces, added=(wide, image)))
    assert tokenizer.encode("<image_soft_token>a").ids[:2] == (2, count)
    with pytest.raises(CorruptFile, match="which it cannot be"):
        Tokenizer.open(replace(pieces, added=(replace(image, id=count + 5),)))


def test_a_broken_vocabulary_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"no model")
    with pytest.raises(CorruptFile, match=r"tokenizer\.model"):
        Tokenizer.open(tmp_path / "tokenizer.model")
    with pytest.raises(ModelNotFound, match=r"tokenizer\.model"):
        Tokenizer.open(tmp_path / "other" / "tokenizer.model")
    pieces = read_sentencepiece(jina_model(), "x")
    with pytest.raises(CorruptFile, match="charsmap"):
        Tokenizer.open(replace(pieces, charsmap=b"no table"))


def test_a_table_that_leads_out_of_itself_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    """The library panics over it, when the first text comes."""
    table = bytes(4) + b"\xff\xff\xff\x7f" * 6
    charsmap = (16).to_bytes(4, "little") + table[:16] + b"a\0"
    tokenizer = Tokenizer.open(replace(read_sentencepiece(jina_model(), "x"), charsmap=charsmap))
    with pytest.raises(CorruptFile, match="cuts any text"):
        tokenizer.encode("é blue")
    capfd.readouterr()  # its own words about it, on stderr


def test_a_vocabulary_needs_no_torch() -> None:
    script = (
        "import sys\n"
        "from sakuga.tokenizer.sentencepiece import read_sentencepiece\n"
        "from sakuga.tokenizer.tokens import Tokenizer\n"
        "data = sys.stdin.buffer.read()\n"
        "assert Tokenizer.open(read_sentencepiece(data, 'x')).count('blue') > 1\n"
        "assert not {'torch', 'transformers', 'sentencepiece', 'google'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], input=gemma_model(), check=True)
