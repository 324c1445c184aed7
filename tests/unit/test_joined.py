"""A model joined in one file, and split again: the same tensors and pictures, to the bit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from kin_folder import write_kin
from torch import Tensor

from budgets import results
from engines import open_engine
from sakuga.api.request import Request
from sakuga.checkpoint.catalog import locate
from sakuga.checkpoint.folder import Checkpoint, open_checkpoint
from sakuga.commands.convert import convert
from sakuga.engine.networks import Networks
from sakuga.errors import ModelNotFound, RequestError
from sakuga.weights.store import Store

ASK = Request("1girl, blue_hair", seed=5, steps=2, width=128, height=128)
JOINED = "all-in-one"


@pytest.fixture(scope="module")
def kin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kin(tmp_path_factory.mktemp("kin") / "Lumina-Image-2.0")


def tensors(model: Path) -> dict[str, Tensor]:
    checkpoint: Checkpoint = open_checkpoint(model)
    networks = Networks(checkpoint, "float32")
    return {
        f"{part.name}.{key}": value
        for part in checkpoint.components
        for key, value in networks[part.name].state_dict().items()
    }


def same(one: Path, other: Path) -> None:
    ours, theirs = tensors(one), tensors(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert open_checkpoint(one).spec == open_checkpoint(other).spec


def pixels(model: Path) -> bytes:
    (result,) = results(open_engine(model, dtype="float32").generate(ASK))
    return result.picture.rgb


@pytest.mark.parametrize(
    "layout", [pytest.param("diffusers", marks=pytest.mark.long), "original", "single-file"]
)
def test_a_model_is_joined_draws_the_same_and_is_split(tmp_path: Path, layout: str) -> None:
    chibi = locate("chibi")
    written = convert(chibi, tmp_path / "one", JOINED)
    assert {each.file for each in written} == {"checkpoint.safetensors"}
    assert len(list((tmp_path / "one").rglob("*.safetensors"))) == 1
    convert(tmp_path / "one", tmp_path / "split", layout)
    same(chibi, tmp_path / "one")
    same(chibi, tmp_path / "split")
    assert pixels(chibi) == pixels(tmp_path / "one") == pixels(tmp_path / "split")


def test_a_lone_file_carries_configs_and_tokenizer(kin: Path, tmp_path: Path) -> None:
    file = tmp_path / "lumina" / "all.safetensors"
    convert(kin, file, JOINED)
    assert sorted(each.name for each in file.parent.iterdir()) == [
        "all.manifest.json", "all.safetensors",
    ]  # fmt: skip
    assert (
        bytes(Store.open(file).view("text_encoders.spiece_model"))
        == (kin / "tokenizer" / "tokenizer.model").read_bytes()
    )
    ours, theirs = tensors(file.parent), tensors(kin)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    convert(file, tmp_path / "split", "diffusers")
    convert(tmp_path / "split", tmp_path / "again.safetensors", JOINED)
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("dtype", ["bfloat16", "fp8_scaled", "comfy_float8", "comfy_int8"])
def test_what_is_joined_may_be_quantised(tmp_path: Path, dtype: str) -> None:
    chibi = locate("chibi")
    convert(chibi, tmp_path / "one", JOINED, dtype)
    convert(chibi, tmp_path / "folders", "original", dtype)
    ours, theirs = tensors(tmp_path / "one"), tensors(tmp_path / "folders")
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    names = set(Store.open(tmp_path / "one" / "checkpoint.safetensors"))
    markers = {name for name in names if name.endswith("scaled_fp8")}
    assert markers == (
        {"model.diffusion_model.scaled_fp8",
         "text_encoders.gemma.gemma3_4b.transformer.scaled_fp8"}
        if dtype == "fp8_scaled" else set()
    )  # fmt: skip


def test_a_part_or_a_model_with_a_part_missing_is_not_joined(kin: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="whole model in one file; got transformer alone"):
        convert(kin / "transformer", tmp_path / "x.safetensors", JOINED)
    less = Path(shutil.copytree(kin, tmp_path / "less"))
    shutil.rmtree(less / "vae")
    with pytest.raises(ModelNotFound, match="no vae"):
        convert(less, tmp_path / "x.safetensors", JOINED)
    with pytest.raises(RequestError, match=f"--layout {JOINED}"):
        convert(kin, tmp_path / "x.safetensors", "diffusers")
    with pytest.raises(RequestError, match=r"tokenizer\.model"):
        convert(locate("chibi"), tmp_path / "x.safetensors", JOINED)
    assert {each.name for each in tmp_path.iterdir()} == {"less"}
