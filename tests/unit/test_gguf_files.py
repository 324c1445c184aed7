"""GGUF files are inspected, converted and found as any other file of weights is."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf_file import write_gguf
from gguf_gemma import GEMMA, VALUES, gemma_file, on_meta
from safetensors.numpy import load_file, save_file
from trained import LINES, TEXTS, gemma_model, gguf_words, jina_model, trained

from sakuga.checkpoint import convert as converting
from sakuga.checkpoint.bind import bind, plan_binding, read_piece
from sakuga.checkpoint.contents import Contents
from sakuga.checkpoint.convert import GOALS
from sakuga.checkpoint.families.gemma import GEMMA_GGUF
from sakuga.checkpoint.folder import open_checkpoint, open_component
from sakuga.checkpoint.tokenizer import TENSOR, carried
from sakuga.commands.convert import convert
from sakuga.commands.inspect import inspect
from sakuga.model.text import GemmaEncoder
from sakuga.tokenizer.sentencepiece import (
    SentencePieceModel,
    read_sentencepiece,
    write_sentencepiece,
)
from sakuga.tokenizer.tokens import Tokenizer
from sakuga.weights.store import Store

WORDS = gguf_words(read_sentencepiece(gemma_model(), "x"))


def loaded(place: Path) -> dict[str, torch.Tensor]:
    component = open_component(place, "text_encoder")
    module = on_meta(lambda: GemmaEncoder(component.spec).model)
    bind(module, component)
    return module.state_dict()


@pytest.mark.parametrize("layout", GOALS)
def test_a_gguf_file_becomes_a_folder_or_a_file(layout: str, tmp_path: Path) -> None:
    source = gemma_file(tmp_path / "x.gguf", "Q4_K", VALUES | WORDS)
    (told,) = convert(source, tmp_path / "out", layout)
    place = tmp_path / "out"
    assert open_component(place, "text_encoder").spec == GEMMA
    before, after = loaded(source), loaded(place)
    assert before.keys() == after.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert told.report.counts == {"dequantised": 22, "shifted": 19, "dropped": 1}
    assert set(Store.open(place).dtypes().values()) <= {"F32", "U8"}
    words = place / "tokenizer.model"
    written = words.exists()
    pieces = read_sentencepiece(words.read_bytes(), "x") if written else carried(Store.open(place))
    assert pieces is not None
    first, second = Tokenizer.open(pieces), Tokenizer.open(read_sentencepiece(gemma_model(), "x"))
    for text in TEXTS:
        assert first.encode(text) == second.encode(text)


def test_a_part_of_a_tensor_is_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = gemma_file(tmp_path / "x.gguf", "Q5_K")
    monkeypatch.setattr(converting, "PART", 700)  # two rows and a bit
    list(convert(source, tmp_path / "out", "original", "bfloat16"))
    for key, value in loaded(source).items():
        assert torch.equal(loaded(tmp_path / "out")[key], value.to(torch.bfloat16).float())
    store = Store.open(source)
    todo = plan_binding(on_meta(lambda: GemmaEncoder(GEMMA).model), Contents.of(store))
    for piece in todo.explanation.pieces:
        whole = read_piece(store, piece, {}, torch.float32)
        for rows in ((0, 1), (3, 7), (0, piece.shape[0]), (5, 5)):
            part = read_piece(store, piece, {}, torch.float32, rows)
            assert torch.equal(part, whole[slice(*rows)])


def test_inspect_tells_blocks_and_shifts(tmp_path: Path) -> None:
    source = gemma_file(tmp_path / "x.gguf", "Q6_K")
    (found,) = inspect(source)
    assert (found.component, found.layout) == ("text_encoder", GEMMA_GGUF.name)
    assert found.problem is None
    assert found.fates == {"dequantised": 15, "shifted": 12, "dropped": 15}
    keys = {key.name: key for key in found.keys}
    query = keys["blk.0.attn_q.weight"]
    assert (query.dtype, query.detail, query.shape) == ("Q6_K", "Q6_K to float32", (256, 256))
    assert query.bytes == 256 * 210
    assert keys["blk.0.attn_norm.weight"].detail == "-1"
    (found,) = inspect(source, "bfloat16")
    assert {key.detail for key in found.keys if key.fate == "dequantised"} == {"Q6_K to bfloat16"}


def test_gguf_files_on_the_shelves_of_a_node_graph_program(
    tiny_model: Path, tmp_path: Path
) -> None:
    list(convert(tiny_model, tmp_path / "m", "single-file"))
    shelf = tmp_path / "m" / "diffusion_models"
    tensors = load_file(shelf / "transformer.safetensors")
    write_gguf(shelf / "newbie.gguf", {"config": Store.open(shelf).metadata["config"]},
               {key: ("F32", value) for key, value in tensors.items()})  # fmt: skip
    (shelf / "transformer.safetensors").unlink()
    write_gguf(shelf / "mmproj.gguf", {}, {"v.blk.0.attn_q.weight": ("F32", np.ones(3, "f4"))})
    checkpoint = open_checkpoint(tmp_path / "m")
    assert checkpoint.transformer.place == shelf / "newbie.gguf"
    assert checkpoint.spec == replace(open_checkpoint(tiny_model).spec)


def test_an_encoder_from_elsewhere_brings_its_words(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine" / "x.safetensors"
    file.parent.mkdir()
    (own,) = (tiny_model / "text_encoder").glob("*.safetensors")
    words = np.frombuffer(gemma_model(), np.uint8)
    save_file({**load_file(own), "text_encoder." + TENSOR: words}, file)
    shutil.copy(own.parent / "config.json", file.parent)
    checkpoint = open_checkpoint(tiny_model, {"text_encoder": file})
    found = checkpoint.tokenizer()
    assert isinstance(found, SentencePieceModel)
    assert found == read_sentencepiece(gemma_model(), "x")
    assert checkpoint.tokenizer("tokenizer_2") == tiny_model / "tokenizer_2" / "tokenizer.json"


FAIRSEQ = {"bos_id": 0, "pad_id": 1, "eos_id": 2, "unk_id": 3}


@pytest.mark.parametrize("name", ["gemma", "fairseq"])
def test_pieces_are_written_as_they_are_read(name: str) -> None:
    fairseq = trained(model_type="unigram", vocab_size=180, **FAIRSEQ)
    model = gemma_model() if name == "gemma" else fairseq
    pieces = read_sentencepiece(model, "x")
    assert read_sentencepiece(write_sentencepiece(pieces), "x") == pieces


def test_words_are_put_together_again() -> None:
    for model in (gemma_model(), jina_model()):
        tokenizer = Tokenizer.open(read_sentencepiece(model, "x"))
        inner = tokenizer._inner
        assert inner.decode(list(tokenizer.encode(LINES[-1]).ids)) == LINES[-1]
