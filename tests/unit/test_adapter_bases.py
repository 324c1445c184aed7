"""Adapters of every kind on a base that stays as its file has it: as on the unfolded one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adapters import TARGETS, saved
from test_adapter_kinds import CASES, MOD, QKV, W2, Draw, case
from test_folded import folded
from test_quantised import bound, model_file
from torch import Tensor, nn

from sakuga.adapters.apply import apply_adapters
from sakuga.adapters.fit import Fit, fit_adapters
from sakuga.adapters.spec import parse_adapters
from sakuga.checkpoint.folder import open_component
from sakuga.weights.folded import Folded

STRENGTH = 0.7
BIASES = ("whole with its bias", "whole bias", "bias difference", "bias of a LoRA")
KINDS = (*CASES, "oft of inputs", *BIASES)


def tensors_of(kind: str, draw: Draw, weight: Tensor) -> dict[str, Tensor]:
    """By their ends, and the name that PEFT puts before them."""
    rows, columns = weight.shape
    if kind in CASES:
        return case(kind, draw, weight, 3, STRENGTH)[0]
    if kind == "oft of inputs":
        return {"oft_R.weight": draw(columns // 8, 28)}
    bias, low = draw(rows), {"lora_A.weight": draw(3, columns), "lora_B.weight": draw(rows, 3)}
    return {
        "whole with its bias": {"weight": draw(rows, columns), "bias": bias},
        "whole bias": {"base_layer.bias": bias},
        "bias difference": {"diff_b": bias},
        "bias of a LoRA": {**low, "lora_B.bias": bias, "alpha": torch.tensor(3.0)},
    }[kind]


def fitted(file: Path, module: str, kind: str, weight: Tensor, targets=TARGETS) -> tuple[Fit, ...]:
    made = tensors_of(kind, Draw(8), weight)
    stem = f"base_model.model.{module}"
    saved(file, {f"{stem}.{end}": value.contiguous() for end, value in made.items()})
    return fit_adapters(parse_adapters([f"{file}:{STRENGTH}"]), targets)


def changed(model: nn.Module, module: str, fits: tuple[Fit, ...], x: Tensor) -> Tensor:
    """What the adapted module gives; afterwards it is the very same that it was."""
    linear = model.get_submodule(module)
    weight, bias, before = linear.weight, linear.bias, linear(x)
    with apply_adapters(model, fits):
        got = model.get_submodule(module)(x)
    assert model.get_submodule(module) is linear
    assert linear.weight is weight
    assert linear.bias is bias
    assert torch.equal(linear(x), before)
    assert not alike(got, before)
    return got


def alike(got: Tensor, want: Tensor) -> bool:
    return bool((got - want).abs().max() <= 1e-5 * want.abs().max())


@pytest.mark.parametrize("base", ["nvfp4", "bnb_4bit nested"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_base_is_what_it_unfolds_to(tmp_path: Path, kind: str, base: str) -> None:
    part = open_component(model_file(tmp_path, base)[0], "transformer")
    plain, packed = (bound(part, fold) for fold in (False, True))
    with torch.inference_mode():
        for module in (QKV, W2, MOD):
            weight = plain.get_submodule(module).weight
            assert isinstance(packed.get_submodule(module).weight, Folded) == (module != MOD)
            fits = fitted(tmp_path / "a.safetensors", module, kind, weight)
            x = Draw(1)(7, weight.shape[1])
            want, got = (changed(model, module, fits, x) for model in (plain, packed))
            assert alike(got, want)


@pytest.mark.parametrize("base", ["Q8_0", "Q4_K"])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_gguf_are_what_they_unfold_to(
    tmp_path: Path, kind: str, biased: bool, base: str
) -> None:
    values = folded(base, torch.float32, (96, 256))
    models = []
    for weight in (values.unfolded(), values):
        linear = nn.Linear(256, 96, bias=biased).requires_grad_(False)
        linear.weight = nn.Parameter(weight, requires_grad=False)
        if biased:
            linear.bias.copy_(torch.arange(96.0) / 96)
        models.append(nn.ModuleDict({"lone": linear}))
    assert isinstance(models[1]["lone"].weight, Folded)
    with torch.inference_mode():
        weight = models[0]["lone"].weight
        fits = fitted(tmp_path / "a.safetensors", "lone", kind, weight, {"lone": (96, 256)})
        want, got = (changed(model, "lone", fits, Draw(1)(7, 256)) for model in models)
    assert alike(got, want)
