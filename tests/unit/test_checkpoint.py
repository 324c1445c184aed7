"""A model folder is opened, understood and compared before anything is loaded."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import TINY

from sakuga.checkpoint import contents
from sakuga.checkpoint.bind import bind
from sakuga.checkpoint.families import match
from sakuga.checkpoint.folder import open_checkpoint, open_component, read_inventory
from sakuga.checkpoint.parts import is_model
from sakuga.checkpoint.save import save_component, write_json, write_weights, writing
from sakuga.errors import CorruptFile, LayoutError, ModelNotFound, SakugaError, SpecMismatch
from sakuga.model.nextdit import NextDiT
from sakuga.model.spec import NEWBIE_3_5B, NextDiTSpec
from sakuga.model.text import GemmaEncoder, JinaEncoder
from sakuga.model.vae import VAE
from sakuga.weights.store import Store


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    parts: dict[str, tuple[Any, torch.nn.Module]] = {
        "transformer": (TINY.transformer, NextDiT(TINY.transformer)),
        "text_encoder": (TINY.gemma, GemmaEncoder(TINY.gemma).model),
        "text_encoder_2": (TINY.jina, JinaEncoder(TINY.jina).model),
        "vae": (TINY.vae, VAE(TINY.vae)),
    }
    for name, (spec, module) in parts.items():
        storage = "int8" if name == "transformer" else "bfloat16"
        save_component(folder / name, spec, module.state_dict(), storage)
    for name in ("tokenizer", "tokenizer_2"):
        (folder / name).mkdir()
        write_json(folder / name / "tokenizer.json", {})
    return folder


@pytest.fixture
def model(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "tiny"))


def edit(file: Path, changes: dict[str, Any]) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_folder_gives_its_spec_and_fills_its_modules(model: Path) -> None:
    checkpoint = open_checkpoint(model)
    assert checkpoint.spec == TINY
    for part, module in {
        "transformer": NextDiT(TINY.transformer),
        "text_encoder": GemmaEncoder(TINY.gemma).model,
        "text_encoder_2": JinaEncoder(TINY.jina).model,
        "vae": VAE(TINY.vae),
    }.items():
        report = bind(module, getattr(checkpoint, part))
        assert report.counts
    assert checkpoint.tokenizer() == model / "tokenizer" / "tokenizer.json"
    assert checkpoint.tokenizer("tokenizer_2") == model / "tokenizer_2" / "tokenizer.json"
    assert checkpoint.vocabulary() is None
    digests = checkpoint.sha256()
    assert set(digests) == {"transformer", "text_encoder", "text_encoder_2", "vae"}
    assert len(set(digests.values())) == 4


def test_the_names_of_a_component_are_rewritten_once(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening reads what inventory and binding use: neither reads names or formats again."""
    calls: list[str] = []

    def counted(module: ModuleType, name: str) -> None:
        real = getattr(module, name)

        def call(*given: Any) -> Any:
            calls.append(name)
            return real(*given)

        monkeypatch.setattr(module, name, call)

    counted(match, "weights_of")  # which every rewriting of names begins with
    counted(contents, "read_storage_metadata")
    counted(contents, "logical_shapes")
    checkpoint = open_checkpoint(model)
    read_inventory(checkpoint)
    for part, module in (
        (checkpoint.transformer, NextDiT(TINY.transformer)),
        (checkpoint.text_encoder, GemmaEncoder(TINY.gemma).model),
        (checkpoint.text_encoder_2, JinaEncoder(TINY.jina).model),
        (checkpoint.vae, VAE(TINY.vae)),
    ):
        bind(module, part)
    counts = Counter(calls)
    assert counts == dict.fromkeys(("weights_of", "read_storage_metadata", "logical_shapes"), 4)


def test_the_index_names_the_model_and_its_habits(model: Path) -> None:
    ours = {"name": "mini", "drawing": {"steps": 7, "guidance": 3, "solver": "heun2", "width": 256}}
    write_json(model / "model_index.json", {"_class_name": "NewbiePipeline", "sakuga": ours})
    write_json(model / "vocabulary.json", {"words": ["blue_hair", "1girl"]})
    checkpoint = open_checkpoint(model)
    assert checkpoint.spec.name == "mini"
    drawing = checkpoint.spec.drawing
    assert (drawing.steps, drawing.guidance, drawing.solver, drawing.width) == (
        7,
        3.0,
        "heun2",
        256,
    )
    assert drawing.shift == NEWBIE_3_5B.drawing.shift
    assert checkpoint.vocabulary() == {"blue_hair", "1girl"}


def test_an_index_of_someone_else_changes_nothing(model: Path) -> None:
    write_json(model / "model_index.json", {"_class_name": "NewbiePipeline", "vae": ["a", "b"]})
    assert open_checkpoint(model).spec == TINY


@pytest.mark.parametrize(
    "ours",
    [
        [],
        {"name": 3},
        {"drawing": []},
        {"drawing": {"stepz": 7}},
        {"drawing": {"steps": "7"}},
        {"drawing": {"steps": 7.5}},
        {"drawing": {"steps": -7}},
        {"drawing": {"guidance": float("nan")}},
        {"drawing": {"guidance": float("inf")}},
        {"drawing": {"width": 9999}},
        {"drawing": {"trained_sizes": "256"}},
        {"drawing": {"trained_sizes": "0x256 256x256"}},
        {"drawing": {"trained_sizes": 256}},
    ],
)
def test_habits_that_make_no_sense_are_refused(model: Path, ours: Any) -> None:
    (model / "model_index.json").write_text(json.dumps({"sakuga": ours}))
    with pytest.raises(SpecMismatch, match=r"model_index\.json"):
        open_checkpoint(model)


def test_the_nearest_habit_is_named(model: Path) -> None:
    (model / "model_index.json").write_text('{"sakuga": {"drawing": {"stepz": 7}}}')
    with pytest.raises(SpecMismatch, match="nearest: 'steps'"):
        open_checkpoint(model)


def test_missing_components_are_listed_beside_what_is_there(model: Path) -> None:
    shutil.rmtree(model / "vae")
    shutil.rmtree(model / "text_encoder_2")
    with pytest.raises(ModelNotFound) as caught:
        open_checkpoint(model)
    assert "no text_encoder_2 or clip_model, no vae" in caught.value.got
    assert "text_encoder, tokenizer, tokenizer_2, transformer" in caught.value.got
    assert "transformer, text_encoder, text_encoder_2, vae" in caught.value.rule


@pytest.mark.parametrize("what", ["missing", "a file"])
def test_a_path_that_is_no_folder(tmp_path: Path, what: str) -> None:
    if what == "a file":
        (tmp_path / "x").write_text("")
    with pytest.raises(ModelNotFound):
        open_checkpoint(tmp_path / "x")


def test_a_missing_tokenizer_matters_to_who_asks(model: Path) -> None:
    shutil.rmtree(model / "tokenizer")
    checkpoint = open_checkpoint(model)
    with pytest.raises(ModelNotFound, match=r"text_encoder/tokenizer\.json"):
        checkpoint.tokenizer()
    write_json(model / "text_encoder" / "tokenizer.json", {})
    assert checkpoint.tokenizer() == model / "text_encoder" / "tokenizer.json"


def test_the_release_calls_its_second_encoder_clip_model(model: Path) -> None:
    (model / "text_encoder_2").rename(model / "clip_model")
    assert open_checkpoint(model).spec == TINY


def test_metadata_stands_in_for_a_config(model: Path) -> None:
    folder = model / "vae"
    config = (folder / "config.json").read_text()
    file = folder / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    (folder / "config.json").unlink()
    save_file(tensors, file, {"config": config})
    assert open_component(folder, "vae").spec == TINY.vae
    for text in ("[]", "{", "\ufffe"):
        save_file(tensors, file, {"config": text})
        with pytest.raises(CorruptFile, match="metadata"):
            open_component(folder, "vae")
    wrong = {**json.loads(config), "layers_per_block": 2}
    save_file(tensors, file, {"config": json.dumps(wrong)})
    with pytest.raises(SpecMismatch, match="the metadata of"):
        open_component(folder, "vae")


def test_a_config_and_its_double_in_the_metadata_must_agree(model: Path) -> None:
    folder = model / "vae"
    config = json.loads((folder / "config.json").read_text())
    file = folder / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    save_file(tensors, file, {"config": json.dumps(config)})
    assert open_component(folder, "vae").spec == TINY.vae
    # Nothing but a second config can contradict this one: no shape tells it.
    save_file(tensors, file, {"config": json.dumps({**config, "scaling_factor": 0.25})})
    with pytest.raises(SpecMismatch) as caught:
        open_component(folder, "vae")
    assert f"scaling_factor {TINY.vae.scaling_factor} by" in caught.value.got
    assert "config.json" in caught.value.got
    assert "0.25 by the metadata of" in caught.value.got


def test_without_any_config_shapes_speak(model: Path) -> None:
    (model / "transformer" / "config.json").unlink()
    spec = open_component(model / "transformer", "transformer").spec
    assert spec.dim == TINY.transformer.dim
    assert spec.axes_dims == (4, 4, 4)
    assert spec.ffn_dim == TINY.transformer.ffn_dim


def test_config_and_weights_must_be_one_model(model: Path) -> None:
    edit(model / "transformer" / "config.json", {"n_layers": 3})
    with pytest.raises(SpecMismatch) as caught:
        open_checkpoint(model)
    assert "n_layers 3 by" in caught.value.got
    assert "config.json" in caught.value.got
    assert "2 by the keys of" in caught.value.got


def test_components_must_fit_together(model: Path) -> None:
    other = NextDiTSpec(
        dim=48,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=4,
        n_kv_heads=2,
        axes_dims=(4, 4, 4),
        cap_feat_dim=40,
        clip_text_dim=24,
        in_channels=4,
    )
    save_component(model / "transformer", other, NextDiT(other).state_dict(), "float16")
    with pytest.raises(SpecMismatch, match=r"cap_feat_dim 40 .* hidden_size of text_encoder 32"):
        open_checkpoint(model)


def test_components_in_each_others_folders(model: Path) -> None:
    (model / "vae").rename(model / "x")
    (model / "transformer").rename(model / "vae")
    (model / "x").rename(model / "transformer")
    with pytest.raises(LayoutError, match="transformer"):
        open_checkpoint(model)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1, "a": 2}', "\udcff"])
def test_a_config_that_is_no_json(model: Path, text: str) -> None:
    (model / "vae" / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CorruptFile, match=r"config\.json"):
        open_checkpoint(model)


@pytest.mark.parametrize(
    "name",
    [
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "model_index.json",
        "tokenizer/tokenizer.json",
        "vocabulary.json",
        "vae",
    ],
)
def test_links_out_of_the_folder_are_refused(model: Path, original: Path, name: str) -> None:
    target, link = original.parent / "secret", model / name
    if link.is_dir():
        shutil.rmtree(link)
        target = original / name
    else:
        link.unlink(missing_ok=True)
        target.write_text("{}")
    link.symlink_to(target)
    with pytest.raises(CorruptFile, match="lie within"):
        read_everything(model)


def read_everything(model: Path) -> None:
    checkpoint = open_checkpoint(model)
    checkpoint.tokenizer()
    checkpoint.vocabulary()


def test_code_beside_the_weights_is_never_looked_at(model: Path) -> None:
    edit(model / "text_encoder_2" / "config.json", {"auto_map": {"AutoModel": "evil.Evil"}})
    (model / "text_encoder_2" / "evil.py").write_text("raise SystemExit('ran')")
    assert open_checkpoint(model).spec == TINY


def test_saving_leaves_the_old_file_whole_when_it_fails(model: Path) -> None:
    file = model / "vae" / "diffusion_pytorch_model.safetensors"
    before = file.read_bytes()
    with pytest.raises(KeyError):
        save_component(model / "vae", TINY.vae, {"a": torch.zeros(2, 2)}, "float99")
    with pytest.raises(SakugaError, match=f"written whole; got disk full for {file}"):
        write_weights_failing(file)
    assert file.read_bytes() == before
    assert {entry.name for entry in (model / "vae").iterdir()} == {file.name, "config.json"}


def write_weights_failing(file: Path) -> None:
    def half(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    write_weights(file, half)


def test_a_place_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    for place in (tmp_path / "no" / "a.json", tmp_path / f"{'n' * 300}.json", tmp_path):
        with pytest.raises(SakugaError, match="written whole"):
            write_json(place, {})
    with pytest.raises(SakugaError, match="written whole"), writing(tmp_path):
        save_file({"a": torch.zeros(2)}, tmp_path / "no" / "a.safetensors")
    assert not any(tmp_path.iterdir())


@pytest.fixture
def elsewhere(model: Path, tmp_path: Path) -> dict[str, Path]:
    """The components of the model, each in a place of its own."""
    places = {}
    for name in ("transformer", "text_encoder", "text_encoder_2", "vae"):
        places[name] = tmp_path / "apart" / f"my {name}"
        places[name].parent.mkdir(exist_ok=True)
        (model / name).rename(places[name])
    for name, place in zip(("tokenizer", "tokenizer_2"), ("text_encoder", "text_encoder_2"),
                           strict=True):  # fmt: skip
        (model / name / "tokenizer.json").rename(places[place] / "tokenizer.json")
    return places


def test_every_component_may_come_from_elsewhere(elsewhere: dict[str, Path]) -> None:
    checkpoint = open_checkpoint(None, elsewhere)
    assert replace(checkpoint.spec, name="tiny") == TINY
    assert checkpoint.path == elsewhere["transformer"]
    assert {part.name: part.place for part in checkpoint.components} == elsewhere
    for name, place in (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")):
        assert checkpoint.tokenizer(name) == elsewhere[place] / "tokenizer.json"


def test_one_component_may_come_from_elsewhere(model: Path, original: Path, tmp_path: Path) -> None:
    write_json(model / "vocabulary.json", {"words": ["1girl"]})
    (file,) = (original / "vae").glob("*.safetensors")
    shutil.copytree(original / "vae", tmp_path / "other")
    checkpoint = open_checkpoint(model, {"vae": tmp_path / "other" / file.name})
    assert checkpoint.vae.place == tmp_path / "other" / file.name
    assert checkpoint.transformer.place == model / "transformer"
    assert checkpoint.vocabulary() == {"1girl"}
    assert checkpoint.tokenizer() == model / "tokenizer" / "tokenizer.json"
    # What another transformer can draw, this model's vocabulary does not know.
    assert open_checkpoint(model, {"transformer": original / "transformer"}).vocabulary() is None


def test_a_model_may_lack_what_comes_from_elsewhere(model: Path, original: Path) -> None:
    shutil.rmtree(model / "vae")
    assert open_checkpoint(model, {"vae": original / "vae"}).spec == TINY
    with pytest.raises(ModelNotFound, match="no vae among"):
        open_checkpoint(model, {"transformer": original / "transformer"})


def test_the_tokenizer_of_an_encoder_from_elsewhere_comes_before_the_models(
    model: Path, elsewhere: dict[str, Path]
) -> None:
    (elsewhere["text_encoder"] / "tokenizer.json").rename(model / "tokenizer" / "tokenizer.json")
    checkpoint = open_checkpoint(model, elsewhere)
    assert checkpoint.tokenizer() == model / "tokenizer" / "tokenizer.json"
    assert checkpoint.tokenizer("tokenizer_2").parent == elsewhere["text_encoder_2"]


def test_two_encoders_in_one_folder_share_no_tokenizer(
    elsewhere: dict[str, Path], tmp_path: Path
) -> None:
    shelf = tmp_path / "text_encoders"
    shelf.mkdir()
    for name in ("text_encoder", "text_encoder_2"):
        (file,) = elsewhere[name].glob("*.safetensors")
        config = (elsewhere[name] / "config.json").read_text()
        save_file(load_file(file), shelf / f"{name}.safetensors", {"config": config})
    write_json(shelf / "tokenizer.json", {})
    files = {name: shelf / f"{name}.safetensors" for name in ("text_encoder", "text_encoder_2")}
    checkpoint = open_checkpoint(None, elsewhere | files)
    with pytest.raises(ModelNotFound, match="tokenizer_2"):
        checkpoint.tokenizer("tokenizer_2")
    for name in ("tokenizer", "tokenizer_2"):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "tokenizer.json", {})
        assert checkpoint.tokenizer(name) == tmp_path / name / "tokenizer.json"


@pytest.mark.parametrize(
    ("drop", "match"),
    [(("vae",), "no vae"), (("transformer", "text_encoder_2"), "no transformer, no text_enc")],
)
def test_without_a_folder_every_component_is_named(
    drop: tuple[str, ...], match: str, elsewhere: dict[str, Path]
) -> None:
    with pytest.raises(ModelNotFound, match=match):
        open_checkpoint(None, {k: v for k, v in elsewhere.items() if k not in drop})


def test_parts_must_be_components_that_are_there(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="'gemma'"):
        open_checkpoint(model, {"gemma": model / "text_encoder"})
    with pytest.raises(ModelNotFound, match="nowhere"):
        open_checkpoint(model, {"vae": tmp_path / "nowhere"})
    with pytest.raises(LayoutError, match="transformer"):
        open_checkpoint(model, {"vae": model / "transformer"})


def test_single_files_in_a_folder_are_told_by_their_tensors(model: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, name in enumerate(("vae", "text_encoder", "transformer", "text_encoder_2")):
        (file,) = (model / name).glob("*.safetensors")
        config = (model / name / "config.json").read_text()
        metadata = Store.open(file).metadata
        save_file(load_file(file), flat / f"{number}.safetensors", metadata | {"config": config})
    save_file({"a.lora_A": torch.ones(2)}, flat / "style.safetensors")
    assert replace(open_checkpoint(flat).spec, name="tiny") == TINY
    assert is_model(flat)
    assert is_model(model)
    assert not is_model(model / "vae")
    assert not is_model(flat / "0.safetensors")
    shutil.copy(flat / "0.safetensors", flat / "again.safetensors")
    with pytest.raises(ModelNotFound, match=r"0\.safetensors and .*again\.safetensors"):
        open_checkpoint(flat)
    assert open_checkpoint(flat, {"vae": flat / "0.safetensors"}).vae.spec == TINY.vae
