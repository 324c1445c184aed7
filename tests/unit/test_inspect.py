"""What a file holds is told key by key, whether it can be used or not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sakuga.checkpoint.convert import GOALS
from sakuga.commands.convert import convert
from sakuga.commands.inspect import Inspected, as_json, describe_file, inspect
from sakuga.errors import CorruptFile, ModelNotFound, RequestError


def one(path: Path, dtype: str = "keep") -> Inspected:
    (found,) = inspect(path, dtype)
    return found


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("*.safetensors")
    return dict(load_file(file))


@pytest.mark.parametrize("layout", GOALS)
def test_a_model_is_told_component_by_component(
    layout: str, tiny_model: Path, tmp_path: Path
) -> None:
    told = {each.component: each for each in convert(tiny_model, tmp_path / "out", layout)}
    for found in inspect(tmp_path / "out"):
        assert found.problem is None
        assert found.layout == told[str(found.component)].layout
        assert found.fates == {"bound": len(found.keys)}
        assert found.dtypes == {"F32": len(found.keys)}
        assert found.bytes == sum(key.bytes for key in found.keys)
        assert found.provisional == told[str(found.component)].provisional
        assert {target for key in found.keys for target in key.into}
        del told[str(found.component)]
    assert told == {}


def test_fates_follow_the_dtype(tiny_model: Path) -> None:
    found = one(tiny_model / "vae", "bfloat16")
    assert {(key.fate, key.detail) for key in found.keys} == {("cast", "float32 to bfloat16")}
    assert one(tiny_model / "vae", "float32").fates == {"bound": len(found.keys)}
    with pytest.raises(RequestError, match="bfloat16"):
        inspect(tiny_model / "vae", "bfloat17")


def test_a_file_that_does_not_fill_its_model_is_told_whole(
    tiny_model: Path, tmp_path: Path
) -> None:
    state = state_of(tiny_model / "transformer")
    state["surprise"] = torch.ones(3)
    state["x_embedder.bias"] = torch.ones(5)
    del state["layers.1.attention.qkv.weight"]
    config = (tiny_model / "transformer" / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    save_file(state, tmp_path / "model.safetensors")
    found = one(tmp_path)
    fates = {key.name: key.fate for key in found.keys}
    assert fates["surprise"] == "unexpected"
    assert fates["x_embedder.bias"] == "wrong shape"
    assert fates["x_embedder.weight"] == "fits"
    assert "layers.1.attention.qkv.weight" in str(found.problem)
    assert found.layout == "NextDiT, original names"


def test_a_file_of_no_known_layout_still_shows_its_names(tmp_path: Path) -> None:
    save_file({"a.0.b": torch.ones(2, 3), "a.1.b": torch.ones(2, 3)}, tmp_path / "x.safetensors")
    found = one(tmp_path / "x.safetensors")
    assert (found.component, found.layout, found.fates) == (None, None, {"unknown": 2})
    text = "\n".join(describe_file(found))
    assert "a.*.b (2 such)" in text
    assert "2x3" in text
    assert "no layout is near" in text


def test_a_contradicting_config_is_a_problem_and_the_layout_is_told(
    tiny_model: Path, tmp_path: Path
) -> None:
    config = json.loads((tiny_model / "vae" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"latent_channels": 9}))
    save_file(state_of(tiny_model / "vae"), tmp_path / "model.safetensors")
    found = one(tmp_path)
    assert found.component == "vae"
    assert found.spec is None
    assert "latent_channels" in str(found.problem)


def test_reasons_and_the_prefix_are_in_the_text(tiny_model: Path, tmp_path: Path) -> None:
    tensors = state_of(tiny_model / "text_encoder")
    state = {"state_dict.model." + k.removeprefix("model."): v for k, v in tensors.items()}
    state |= {"vision_tower.x.weight": torch.ones(2), "spiece_model": torch.ones(2).byte()}
    config = (tiny_model / "text_encoder" / "config.json").read_text()
    save_file(state, tmp_path / "x.safetensors", {"config": config})
    found = one(tmp_path / "x.safetensors")
    text = "\n".join(describe_file(found))
    assert "under 'state_dict.model.'" in text
    assert "vision_tower.x.weight: prompts are text; pictures are never read" in text
    assert "2 dropped" in text
    assert "hidden_size 24" in text
    assert json.loads(as_json((found,)))[0]["fates"] == found.fates


def test_names_that_no_file_confirms_are_told_as_they_stand(
    tiny_model: Path, tmp_path: Path
) -> None:
    (told,) = convert(tiny_model / "transformer", tmp_path / "out", "diffusers")
    state = state_of(tmp_path / "out")
    state["pooled.combine.weight"] = state.pop("time_text_embed.1.weight")
    state["pooled.combine.bias"] = state.pop("time_text_embed.1.bias")
    save_file(state, tmp_path / "out" / told.file)
    found = one(tmp_path / "out")
    assert found.problem is None
    assert {"pooled.combine.weight", "pooled.combine.bias"} < set(found.provisional)
    (key,) = (key for key in found.keys if key.name == "pooled.combine.bias")
    assert (key.fate, key.into) == ("bound", ("time_text_embed.1.bias",))


def test_nothing_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        inspect(tmp_path)
    with pytest.raises(ModelNotFound):
        inspect(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["1girl, smile\n" * 99, "x", "一个女孩，微笑\n" * 99])
def test_a_text_is_called_one(text: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CorruptFile, match=r"a text: .*Give the file of the weights themselves"):
        inspect(path)
