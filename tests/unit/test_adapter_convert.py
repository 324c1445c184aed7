"""Adapters from torch archives: what trainers leave behind, as files that are applied."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import (
    FEW,
    TARGETS,
    factors,
    kohya_tensors,
    lokr_tensors,
    made,
    peft_folder,
    peft_tensors,
    saved,
    velocity,
)
from safetensors.torch import load_file
from torch import Tensor, nn

from sakuga.adapters.apply import apply_adapters
from sakuga.adapters.convert import WrittenAdapter
from sakuga.adapters.file import Adapter, read_adapter
from sakuga.adapters.fit import fit_adapters
from sakuga.adapters.spec import AdapterSpec, parse_adapters
from sakuga.commands.convert import convert
from sakuga.errors import CorruptFile, LayoutError, OutputExists, RequestError, SakugaError
from sakuga.weights.store import Store

LORA = peft_tensors(factors(FEW, rank=4))
LOKR = lokr_tensors(FEW[0], 4, 4, rank=3) | {"lycoris_layers_0_ffn_norm1.w_norm": torch.ones(48)}


def checkpoint(file: Path, kind: str, name: str, tensors: dict[str, Tensor]) -> Path:
    """What NewbieLoraTrainer saves on the way, with an optimizer that has made a step."""
    weights = nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(weights.parameters())
    weights(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    told = {"step": 1000, "rng_state": torch.get_rng_state(), "adapter_type": kind, name: tensors,
            "optimizer_state_dict": optimizer.state_dict(),
            "scheduler_state_dict": scheduler.state_dict()}  # fmt: skip
    torch.save(told, file)
    return file


def written(source: Path, out: Path, *options: Any, **more: Any) -> WrittenAdapter:
    (each,) = convert(source, out, None, *options, **more)
    assert isinstance(each, WrittenAdapter)
    return each


def opened(path: Path) -> Adapter:
    return read_adapter(AdapterSpec(path))


@pytest.mark.parametrize(
    ("kind", "name", "tensors"),
    [
        ("lora", "adapter_state_dict", LORA),
        ("lyco_lokr", "adapter_state_dict", LOKR),
        ("lora", "lora_state_dict", LORA),
    ],
)
def test_a_trainers_checkpoint_becomes_a_file_of_its_adapter(
    tmp_path: Path, kind: str, name: str, tensors: dict[str, Tensor]
) -> None:
    out = tmp_path / "out.safetensors"
    made_of = written(checkpoint(tmp_path / "checkpoint_1.pt", kind, name, tensors), out)
    found = load_file(out)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[key], value) for key, value in tensors.items())
    assert Store.open(out).metadata["adapter_type"] == kind
    assert made_of.beside.keys() == {
        "step", "rng_state", "optimizer_state_dict", "scheduler_state_dict"
    }  # fmt: skip
    assert made_of.sha256 == opened(out).store.sha256()
    assert made_of.modules == len(opened(out).parts)
    assert ("alpha assumed" in str(made_of)) == (kind == "lora")


def test_what_was_converted_draws_as_the_file_it_could_have_been(tmp_path: Path) -> None:
    torch.save(LORA, tmp_path / "style.pt")
    written(tmp_path / "style.pt", tmp_path / "a.safetensors")
    saved(tmp_path / "b.safetensors", LORA)
    model, found = made(), []
    for name in "ab":
        fits = fit_adapters(parse_adapters([f"{tmp_path / name}.safetensors"]), TARGETS)
        with torch.inference_mode(), apply_adapters(model, fits):
            found.append(velocity(model))
    assert torch.equal(*found)
    assert not torch.equal(found[0], velocity(model))


def test_a_state_dict_alone_keeps_its_alphas_and_dtypes(tmp_path: Path) -> None:
    tensors = {k: v.bfloat16() for k, v in kohya_tensors(factors(FEW, rank=4), 2.0).items()}
    torch.save(tensors, tmp_path / "style.pt")
    made_of = written(tmp_path / "style.pt", tmp_path / "style.safetensors")
    assert not made_of.assumed
    assert {part.scale for part in opened(tmp_path / "style.safetensors").parts} == {0.5}
    assert {value.dtype for value in load_file(made_of.file).values()} == {torch.bfloat16}


def test_an_alpha_beside_the_state_dict_is_kept(tmp_path: Path) -> None:
    torch.save({"lora_alpha": 2, "state_dict": LORA}, tmp_path / "style.pt")
    made_of = written(tmp_path / "style.pt", tmp_path / "style.safetensors")
    assert (made_of.assumed, dict(made_of.beside)) == ("", {})
    assert {part.scale for part in opened(tmp_path / "style.safetensors").parts} == {0.5}


@pytest.mark.parametrize("ending", ["bin", "safetensors"])
def test_what_a_config_says_goes_into_the_file(tmp_path: Path, ending: str) -> None:
    folder = peft_folder(tmp_path / "style", factors(FEW, rank=4), 2,
                         alpha_pattern={"w2": 8}, use_rslora=True)  # fmt: skip
    want = {part.stem: part.scale for part in opened(folder).parts}
    if ending == "bin":
        (folder / "adapter_model.safetensors").unlink()
        torch.save(LORA, folder / "adapter_model.bin")
    for number, source in enumerate((folder, folder / f"adapter_model.{ending}")):
        out = tmp_path / f"{number}.safetensors"
        assert not written(source, out).assumed
        assert {part.stem: part.scale for part in opened(out).parts} == want
    assert set(want.values()) == {1.0, 4.0}


def test_the_command_that_is_named_leads_to_a_file_that_is_read(tmp_path: Path) -> None:
    named = tmp_path / "my style.pt"
    renamed = tmp_path / "renamed.safetensors"
    folder = tmp_path / "folder"
    folder.mkdir()
    for file in (named, renamed, folder / "adapter_model.bin"):
        torch.save(LORA, file)
    for path in (named, renamed, folder):
        with pytest.raises(CorruptFile, match="Convert it once: sakuga convert") as refused:
            opened(path)
        source, out = map(Path, shlex.split(refused.value.fix.rstrip("."))[-2:])
        written(source, out)
        assert len(opened(out).parts) == len(FEW)
    assert len(opened(folder).parts) == len(FEW)


def test_a_layout_is_for_models_and_changes_no_adapter(tmp_path: Path) -> None:
    torch.save(LORA, tmp_path / "style.pt")
    (one,) = convert(tmp_path / "style.pt", tmp_path / "a.safetensors", "diffusers")
    two = written(tmp_path / "style.pt", tmp_path / "b.safetensors")
    assert isinstance(one, WrittenAdapter)
    assert one.sha256 == two.sha256
    saved(tmp_path / "model.safetensors", {"layers.0.attention.qkv.weight": torch.ones(2, 2)})
    with pytest.raises(RequestError, match="--layout"):
        list(convert(tmp_path / "model.safetensors", tmp_path / "c.safetensors", None))


def test_what_makes_no_file_is_refused(tmp_path: Path) -> None:
    source, out = tmp_path / "style.pt", tmp_path / "out.safetensors"
    torch.save(LORA, source)
    with pytest.raises(RequestError, match="keeps its dtypes"):
        written(source, out, "bfloat16")
    with pytest.raises(RequestError, match=r"\.safetensors file"):
        written(source, tmp_path / "out")
    for place in (source / "x.safetensors", tmp_path / f"{'n' * 300}.safetensors"):
        with pytest.raises(SakugaError, match="written whole"):
            written(source, place)
    itself = saved(tmp_path / "itself.safetensors", LORA)
    with pytest.raises(RequestError, match="does not replace what it is made of"):
        written(itself, itself, force=True)
    out.write_bytes(b"mine")
    with pytest.raises(OutputExists):
        written(source, out)
    torch.save(LORA | {next(iter(LORA)): torch.full((4, 48), torch.nan)}, source)
    with pytest.raises(CorruptFile, match="finite"):
        written(source, out, force=True)
    torch.save({"x.hada_t1": torch.ones(2, 2)}, source)
    with pytest.raises(LayoutError, match="LoHa"):
        written(source, out, force=True)
    assert out.read_bytes() == b"mine"


def test_of_two_state_dicts_one_is_named(tmp_path: Path) -> None:
    torch.save({"ema": LORA, "adapter_state_dict": LOKR}, tmp_path / "style.pt")
    out = tmp_path / "out.safetensors"
    with pytest.raises(LayoutError, match="--state"):
        written(tmp_path / "style.pt", out)
    written(tmp_path / "style.pt", out, state="ema")
    assert load_file(out).keys() == LORA.keys()


def test_for_programs_it_is_plain_json(tmp_path: Path) -> None:
    from sakuga.api.codec import plain

    torch.save(LORA, tmp_path / "style.pt")
    told = json.loads(json.dumps(plain(written(tmp_path / "style.pt", tmp_path / "a.safetensors"))))
    assert told["modules"] == len(FEW)
