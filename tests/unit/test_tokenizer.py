"""A model's tokenizer is found wherever it is kept, and says the same everywhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from gguf_file import write_gguf
from safetensors.numpy import load_file, save_file
from trained import LINES, gemma_model, jina_model

from sakuga.checkpoint.catalog import lint_profile
from sakuga.checkpoint.folder import Checkpoint, open_checkpoint
from sakuga.checkpoint.tokenizer import TENSOR, carried, carrier, read_tokenizer
from sakuga.checkpoint.tokenizer_file import own_file
from sakuga.errors import CorruptFile, ModelNotFound
from sakuga.tokenizer.sentencepiece import SentencePieceModel, read_sentencepiece
from sakuga.tokenizer.tokens import Tokenizer
from sakuga.weights.store import Store

WEIGHTS = "text_encoder/model.safetensors"


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A whole model without a tokenizer of its own."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    for name in ("tokenizer", "tokenizer_2"):
        shutil.rmtree(folder / name)
    return folder


def put_tensor(folder: Path, name: str, data: bytes) -> None:
    """Put a SentencePiece model into weights, as encoders in a single file have it."""
    (file,) = (folder / name).glob("*.safetensors")
    tensors = {**load_file(file), TENSOR: np.frombuffer(data, dtype=np.uint8)}
    save_file(tensors, file)


def ids(checkpoint: Checkpoint, name: str, text: str = LINES[0]) -> tuple[int, ...]:
    return Tokenizer.open(checkpoint.tokenizer(name)).encode(text).ids


def test_weights_carry_what_folders_lack(model: Path) -> None:
    put_tensor(model, "text_encoder", gemma_model())
    put_tensor(model, "text_encoder_2", jina_model())
    checkpoint = open_checkpoint(model)
    for name, data in (("tokenizer", gemma_model()), ("tokenizer_2", jina_model())):
        want = Tokenizer.open(read_sentencepiece(data, "x")).encode(LINES[0]).ids
        assert ids(checkpoint, name) == want
        assert isinstance(checkpoint.tokenizer(name), SentencePieceModel)


def test_the_spiece_tensor_is_dropped_by_name(model: Path) -> None:
    from sakuga.checkpoint.bind import bind
    from sakuga.model.text import GemmaEncoder

    put_tensor(model, "text_encoder", gemma_model())
    checkpoint = open_checkpoint(model)
    report = bind(GemmaEncoder(checkpoint.spec.gemma).model, checkpoint.text_encoder)
    assert report.dropped == {TENSOR: "it is the tokenizer, no weight"}


@pytest.mark.parametrize("name", ["tokenizer.model", "sentencepiece.bpe.model", "spiece.model"])
def test_a_sentencepiece_file_in_any_of_the_folders(model: Path, name: str) -> None:
    put_tensor(model, "text_encoder_2", gemma_model())  # which the file goes before
    (model / "clip_tokenizer").mkdir()
    (model / "clip_tokenizer" / name).write_bytes(jina_model())
    checkpoint = open_checkpoint(model)
    assert checkpoint.tokenizer("tokenizer_2") == model / "clip_tokenizer" / name
    want = Tokenizer.open(read_sentencepiece(jina_model(), "x")).encode(LINES[0]).ids
    assert ids(checkpoint, "tokenizer_2") == want


def test_tokenizer_json_goes_before_the_model_beside_it(model: Path, words_model: Path) -> None:
    (model / "tokenizer").mkdir()
    (model / "tokenizer" / "tokenizer.model").write_bytes(b"no model")
    shutil.copy(words_model / "tokenizer" / "tokenizer.json", model / "tokenizer")
    found = open_checkpoint(model).tokenizer()
    assert found == model / "tokenizer" / "tokenizer.json"


def test_none_at_all_is_an_error_that_says_where(model: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"tokenizer\.json or tokenizer\.model") as caught:
        open_checkpoint(model).tokenizer()
    assert str(model / "text_encoder" / "tokenizer.json") in caught.value.got


def test_a_link_out_of_the_model_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.model").write_bytes(gemma_model())
    (model / "text_encoder" / "tokenizer.model").symlink_to(tmp_path / "outside.model")
    with pytest.raises(CorruptFile, match="within its folder"):
        open_checkpoint(model).tokenizer()
    assert lint_profile(str(model)).tokenizer is None


def test_a_config_out_of_the_model_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.json").write_text("{}")
    (model / "text_encoder" / "tokenizer.model").write_bytes(gemma_model())
    (model / "text_encoder" / "tokenizer_config.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(CorruptFile, match="within its folder"):
        open_checkpoint(model).tokenizer()


def test_a_linter_finds_the_same(model: Path) -> None:
    assert lint_profile(str(model)).tokenizer is None
    put_tensor(model, "text_encoder", gemma_model())
    found = lint_profile(str(model)).tokenizer
    assert found == model / WEIGHTS
    assert Tokenizer.open(read_tokenizer(found)).encode(LINES[0]).ids == ids(
        open_checkpoint(model), "tokenizer"
    )
    (model / "text_encoder" / "tokenizer.model").write_bytes(gemma_model())
    found = lint_profile(str(model)).tokenizer
    assert found == model / "text_encoder" / "tokenizer.model"
    assert read_tokenizer(found) == found


def test_a_linter_tells_encoders_on_one_shelf_apart(model: Path) -> None:
    put_tensor(model, "text_encoder", gemma_model())
    put_tensor(model, "text_encoder_2", jina_model())
    shelf = model / "text_encoders"
    shelf.mkdir()
    (model / WEIGHTS).rename(shelf / "b.safetensors")
    (model / WEIGHTS.replace("encoder", "encoder_2")).rename(shelf / "a.safetensors")
    assert lint_profile(str(model)).tokenizer == shelf / "b.safetensors"
    for file in shelf.iterdir():
        file.rename(model / file.name)
    assert lint_profile(str(model)).tokenizer == model / "b.safetensors"


def test_weights_that_make_no_sense_carry_nothing(model: Path) -> None:
    (model / WEIGHTS).write_bytes(b"no weights")
    assert carrier([(model, "text_encoder"), (model, "nowhere")], "text_encoder") is None
    assert own_file([(model, "text_encoder")]) is None
    assert lint_profile(str(model)).tokenizer is None


def test_gguf_carries_its_words(tmp_path: Path) -> None:
    words = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": ["<pad>", "<eos>", "<bos>", "<unk>", "a", "b", "ab"],
        "tokenizer.ggml.scores": [0.0, 0.0, 0.0, 0.0, -1.0, -2.0, -0.5],
        "tokenizer.ggml.token_type": [3, 3, 3, 2, 1, 1, 1],
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 3,
        "tokenizer.ggml.add_space_prefix": False,
    }
    file = write_gguf(tmp_path / "x.gguf", words, {})
    assert carrier([(tmp_path, "")], "text_encoder") is None  # no weights of an encoder
    assert Tokenizer.open(read_tokenizer(file)).encode("aabc").ids == (2, 4, 6, 3)
    words |= {"tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.add_eos_token": True}
    write_gguf(file, words, {})
    assert Tokenizer.open(read_tokenizer(file)).encode("ab").ids == (6, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tokens": ["a", "a"]}, {"tokens": [1, 2]}, {"scores": [0.0]}, {"token_type": [9, 1]},
        {"token_type": ["x", "y"]}, {"unknown_token_id": 7}, {"bos_token_id": 2},
        {"scores": [float("nan"), 0.0]}, {"tokens": "ab"}, {"tokens": ["", "a"]},
    ],
    ids=str,
)  # fmt: skip
def test_words_of_gguf_that_make_no_sense(tmp_path: Path, wrong: dict[str, object]) -> None:
    told = {"model": "llama", "tokens": ["<unk>", "a"], "scores": [0.0, -1.0],
            "token_type": [2, 1], "unknown_token_id": 0, **wrong}  # fmt: skip
    values = {f"tokenizer.ggml.{key}": value for key, value in told.items()}
    file = write_gguf(tmp_path / "x.gguf", values, {})
    with pytest.raises(CorruptFile, match=r"x\.gguf"):
        carried(Store.open(file))


def test_weights_without_words(tmp_path: Path, model: Path) -> None:
    values = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": ["a"]}
    file = write_gguf(tmp_path / "x.gguf", values, {})
    assert carried(Store.open(file)) is None
    with pytest.raises(ModelNotFound, match="weights without one"):
        read_tokenizer(file)
    save_file({TENSOR: np.zeros(3, np.float32)}, model / WEIGHTS)
    with pytest.raises(CorruptFile, match="F32"):
        carried(Store.open(model / WEIGHTS))
    save_file({TENSOR: np.zeros(3, np.uint8)}, model / WEIGHTS)
    with pytest.raises(CorruptFile, match="spiece_model of"):
        carried(Store.open(model / WEIGHTS))


def test_a_length_is_counted_with_words_within_weights(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sakuga.commands.cli import main

    put_tensor(model, "text_encoder", gemma_model())
    prompt = "<character_1><appearance>" + "blue_hair, " * 400 + "</appearance></character_1>"
    (model / "prompt.xml").write_text(prompt)
    monkeypatch.setattr("sys.argv", ["sakuga", "lint", "--model", str(model),
                                     str(model / "prompt.xml")])  # fmt: skip
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().out
    assert "[too-long]" in said
    assert "estimated" not in said


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"sakuga": []}', '{"sakuga": null}', '{"sakuga": {"drawing": []}}',
             '{"sakuga": {"drawing": {"system_xml": 1}}}', '{"a": 1, "a": 2}'],
)  # fmt: skip
def test_a_linter_passes_over_an_index_that_makes_no_sense(words_model, tmp_path, text) -> None:
    shutil.copytree(words_model, tmp_path / "model")
    plain = lint_profile(str(words_model))
    (tmp_path / "model" / "model_index.json").write_text(text, encoding="utf-8")
    found = lint_profile(str(tmp_path / "model"))
    assert (found.limit, found.vocabulary) == (plain.limit, plain.vocabulary)
    assert isinstance(found.system_xml, str)


@pytest.mark.parametrize("text", ["[]", '{"words": [1]}', '{"words": "blue"}', "{}"])
def test_a_linter_knows_no_words_where_the_list_makes_no_sense(words_model, tmp_path, text) -> None:
    shutil.copytree(words_model, tmp_path / "model")
    (tmp_path / "model" / "vocabulary.json").write_text(text, encoding="utf-8")
    assert lint_profile(str(tmp_path / "model")).vocabulary is None


def test_a_linter_follows_no_link_and_reads_no_sea_of_words(words_model, tmp_path) -> None:
    shutil.copytree(words_model, tmp_path / "model")
    file = tmp_path / "model" / "vocabulary.json"
    (tmp_path / "words.json").write_text('{"words": ["secret"]}', encoding="utf-8")
    file.unlink(missing_ok=True)
    file.symlink_to(tmp_path / "words.json")
    assert lint_profile(str(tmp_path / "model")).vocabulary is None
    file.unlink()
    with file.open("wb") as stream:
        stream.truncate(300_000_000)
    assert lint_profile(str(tmp_path / "model")).vocabulary is None
