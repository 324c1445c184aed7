"""What trainers save with torch comes out as safetensors, and what is left out is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sakuga.checkpoint.folder import open_checkpoint
from sakuga.commands.convert import convert
from sakuga.commands.inspect import describe_file, inspect
from sakuga.errors import LayoutError, ModelNotFound, UnsafeFile

State = dict[str, Tensor]
PARTS = ("transformer", "text_encoder", "text_encoder_2", "vae")


def state_of(folder: Path) -> State:
    (file,) = folder.glob("*.safetensors")
    return dict(load_file(file))


def same(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def converted(source: Path, out: Path) -> State:
    """What a component's folder becomes in one of the layouts."""
    list(convert(source, out, "diffusers"))
    return state_of(out)


def as_shards(folder: Path) -> None:
    """Put three torch archives and an index in the place of a component's safetensors."""
    state = state_of(folder)
    (file,) = folder.glob("*.safetensors")
    file.unlink()
    names = [f"pytorch_model-0000{n}-of-00003.bin" for n in (1, 2, 3)]
    index = {key: names[place % 3] for place, key in enumerate(state)}
    for name in names:
        torch.save({key: state[key] for key in state if index[key] == name}, folder / name)
    text = json.dumps({"metadata": {"total_size": 0}, "weight_map": index})
    (folder / "pytorch_model.bin.index.json").write_text(text)


@pytest.mark.parametrize("part", PARTS)
def test_a_folder_of_torch_shards_converts_to_what_it_was(
    tiny_model: Path, tmp_path: Path, part: str
) -> None:
    want = state_of(tiny_model / part)
    shutil.copytree(tiny_model / part, tmp_path / part)
    as_shards(tmp_path / part)
    (found,) = inspect(tmp_path / part)
    assert (found.problem, found.component, found.beside) == (None, part, {})
    assert {key.name for key in found.keys} == set(want)
    got = converted(tmp_path / part, tmp_path / "out")
    assert same(got, converted(tiny_model / part, tmp_path / "want"))


def test_a_model_of_torch_shards_converts_whole_and_never_draws(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    for part in ("text_encoder", "vae"):
        as_shards(model / part)
    assert [found.problem for found in inspect(model)] == [None] * 4
    with pytest.raises(ModelNotFound, match="sakuga convert"):
        open_checkpoint(model)
    list(convert(model, tmp_path / "out", "original"))
    list(convert(tiny_model, tmp_path / "want", "original"))
    for file in (tmp_path / "want").rglob("*.safetensors"):
        got = tmp_path / "out" / file.relative_to(tmp_path / "want")
        assert same(dict(load_file(got)), dict(load_file(file)))
    assert open_checkpoint(tmp_path / "out").spec


def trained(state: State) -> dict[str, Any]:
    """What a trainer keeps: the model after a step of AdamW, its average, and all about it."""
    model = nn.ParameterDict({key.replace(".", "/"): value.clone() for key, value in state.items()})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    sum(value.square().sum() for value in model.values()).backward()
    optimizer.step()
    return {
        "epoch": 3,
        "global_step": 1200,
        "lr": 1e-3,
        "note": "second run",
        "model": {key: model[key.replace(".", "/")].detach() for key in state},
        "ema": {**state, "decay": 0.999},
        "optimizer": optimizer.state_dict(),
        "scaler": {"scale": 65536.0, "_growth_tracker": 0},
        "rng": torch.get_rng_state(),
    }


@pytest.fixture
def checkpoint(tiny_model: Path, tmp_path: Path) -> Path:
    value = trained(state_of(tiny_model / "vae"))
    del value["rng"]
    torch.save(value, tmp_path / "last.ckpt")
    shutil.copy(tiny_model / "vae" / "config.json", tmp_path)
    return tmp_path / "last.ckpt"


def test_a_checkpoint_of_a_trainer_converts_once_its_weights_are_named(
    checkpoint: Path, tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(LayoutError, match="several: 'model', 'ema'"):
        list(convert(checkpoint, tmp_path / "out", "diffusers"))
    with pytest.raises(LayoutError, match="--state"):
        inspect(checkpoint)
    want = state_of(tiny_model / "vae")
    for name in ("ema", "model"):
        (told,) = convert(checkpoint, tmp_path / name, "diffusers", state=name)
        assert same(state_of(tmp_path / name), want) == (name == "ema")
        assert state_of(tmp_path / name).keys() == want.keys()
        other = {"ema": "model", "model": "ema"}[name]
        assert set(told.beside) - {"decay"} == {
            "epoch", "global_step", "lr", "note", "optimizer", "scaler", other
        }  # fmt: skip
        assert f"left out: {other}: lies beside '{name}'" in str(told)


def test_what_was_left_out_is_shown_with_the_reason(checkpoint: Path) -> None:
    (found,) = inspect(checkpoint, state="ema")
    assert found.problem is None
    text = "\n".join(describe_file(found))
    assert "beside  optimizer: lies beside 'ema'" in text
    assert "beside  decay: float, not a tensor" in text


def test_what_differs_by_a_number_shares_a_line(tiny_model: Path, tmp_path: Path) -> None:
    state = state_of(tiny_model / "vae")
    numbers = {f"blocks.{n}.scale": float(n) for n in range(40)}
    torch.save(state | numbers | {"blocks.7.kind": "x"}, tmp_path / "x.pt")
    shutil.copy(tiny_model / "vae" / "config.json", tmp_path)
    (found,) = inspect(tmp_path / "x.pt")
    assert len(found.beside) == 41
    lines = [line for line in describe_file(found) if line.startswith("  beside")]
    assert lines == [
        "  beside  blocks.*.scale (40 such): float, not a tensor",
        "  beside  blocks.7.kind: str, not a tensor",
    ]


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "module", "ema"])
@pytest.mark.parametrize("part", PARTS)
def test_one_state_dict_is_found_under_its_usual_names(
    tiny_model: Path, tmp_path: Path, part: str, wrapper: str
) -> None:
    state = state_of(tiny_model / part)
    shutil.copytree(tiny_model / part, tmp_path / "in")
    (file,) = (tmp_path / "in").glob("*.safetensors")
    file.unlink()
    optimizer = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(9)}}}
    value = {"optimizer_states": [optimizer], wrapper: state, "step": 9}
    torch.save(value, tmp_path / "in" / "last.ckpt")
    got = converted(tmp_path / "in", tmp_path / "out")
    assert same(got, converted(tiny_model / part, tmp_path / "want"))


def test_names_of_a_model_trained_on_several_cards_are_understood(
    tiny_model: Path, tmp_path: Path
) -> None:
    want = state_of(tiny_model / "transformer")
    torch.save({f"module.{key}": value for key, value in want.items()}, tmp_path / "dit.pt")
    shutil.copy(tiny_model / "transformer" / "config.json", tmp_path)
    (found,) = inspect(tmp_path / "dit.pt")
    assert (found.problem, found.prefix) == (None, "module.")
    list(convert(tmp_path / "dit.pt", tmp_path / "out", "original"))
    assert same(state_of(tmp_path / "out"), want)


def test_a_checkpoint_with_objects_of_its_trainer_is_refused_by_their_name(
    tiny_model: Path, tmp_path: Path
) -> None:
    from argparse import Namespace

    value = {"model": state_of(tiny_model / "vae"), "args": Namespace(lr=1e-3)}
    torch.save(value, tmp_path / "x.pt")
    with pytest.raises(UnsafeFile, match=r"argparse\.Namespace.*torch\.save its state dict alone"):
        inspect(tmp_path / "x.pt")
