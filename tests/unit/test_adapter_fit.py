"""Every spelling of a module leads to it, and what leads nowhere or to two places is refused."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
import torch
from adapters import (
    FEW,
    LINEARS,
    SHAPES,
    TARGETS,
    factors,
    peft_folder,
    peft_tensors,
    saved,
)
from torch import Tensor, nn

from sakuga.adapters.file import read_adapter
from sakuga.adapters.fit import Fit, Names, fit_adapters, record, targets_of
from sakuga.adapters.spec import AdapterSpec, parse_adapter
from sakuga.checkpoint.families.match import spellings
from sakuga.checkpoint.families.tables import LAYOUTS
from sakuga.errors import BindError, LayoutError
from sakuga.model.spec import NEWBIE_3_5B

QKV = "layers.0.attention.qkv"


def fitted(path: Path | str, **options: bool) -> Fit:
    (only,) = fit_adapters([parse_adapter(str(path))], TARGETS, **options)
    return only


def named(tmp_path: Path, stem: str, module: str = QKV) -> Path:
    ((down, up),) = factors((module,)).values()
    return saved(tmp_path / "a.safetensors",
                 {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up})  # fmt: skip


PREFIXES = (
    "", "base_model.model.", "transformer.", "diffusion_model.", "unet.base_model.model.",
    "model.diffusion_model.", "base_model.model.transformer.", "lycoris_", "lora_unet_",
)  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("module", [QKV, "final_layer.linear", "time_text_embed.1", "x_embedder"])
def test_prefixes_and_underscores_are_spellings(tmp_path: Path, prefix: str, module: str) -> None:
    for name in (module, module.replace(".", "_")):
        (change,) = fitted(named(tmp_path, prefix + name, module)).changes
        assert (change.module, change.rows, change.strength) == (module, None, 1.0)


def test_every_linear_and_norm_of_the_model_may_be_a_target() -> None:
    assert set(TARGETS) == {key.removesuffix(".weight") for key in SHAPES if "bias" not in key}
    names = Names(TARGETS)
    for module in TARGETS:
        for stem in (module, "lycoris_" + module.replace(".", "_"), f"base_model.model.{module}"):
            place = names.find(stem, "a file")
            assert place is not None
            assert (place.module, place.count) == (module, 1)


def test_every_layout_of_the_transformer_is_a_spelling() -> None:
    names = Names(TARGETS)
    layouts = [layout for layout in LAYOUTS if layout.component == "transformer"]
    for layout in layouts:
        for module in TARGETS:
            spelled = spellings(layout, f"{module}.weight")
            assert spelled, (layout.name, module)
            for part, name in enumerate(spelled):
                stem = name.removesuffix(".weight")
                for each in (stem, "lora_unet_" + stem.replace(".", "_")):
                    place = names.find(each, "a file")
                    assert place is not None, each
                    assert (place.module, place.part, place.count) == (module, part, len(spelled))


def test_query_key_and_value_apart_are_rows_of_the_fused_one(tmp_path: Path) -> None:
    rows = {"to_q": (0, 48), "to_k": (48, 72), "to_v": (72, 96)}  # 4 heads of 12, 2 of them kv
    tensors: dict[str, Tensor] = {}
    for name, (start, stop) in rows.items():
        stem = f"transformer.layers.1.attention.{name}"
        tensors[f"{stem}.lora_A.weight"] = torch.ones(3, 48)
        tensors[f"{stem}.lora_B.weight"] = torch.ones(stop - start, 3)
    changes = fitted(saved(tmp_path / "a.safetensors", tensors)).changes
    assert {change.module for change in changes} == {"layers.1.attention.qkv"}
    assert {change.part.stem.split(".")[-1]: change.rows for change in changes} == rows


def test_of_the_real_model_queries_keys_and_values_have_their_rows(tmp_path: Path) -> None:
    spec = NEWBIE_3_5B.transformer
    targets = {"layers.35.attention.qkv": (3840, 2304), "layers.35.attention.out": (2304, 2304)}
    assert spec.dim == 2304
    tensors = {"layers.35.attention.to_v.lora_A.weight": torch.zeros(2, 2304),
               "layers.35.attention.to_v.lora_B.weight": torch.zeros(768, 2)}  # fmt: skip
    file = saved(tmp_path / "a.safetensors", tensors)
    ((change,),) = [each.changes for each in fit_adapters([AdapterSpec(file)], targets)]
    assert change.rows == (3072, 3840)


def test_a_name_that_may_mean_two_modules_is_refused(tmp_path: Path) -> None:
    targets = {"a.b_c": (4, 4), "a_b.c": (4, 4), "d": (4, 4)}
    tensors = {"lycoris_a_b_c.lora_down.weight": torch.zeros(2, 4),
               "lycoris_a_b_c.lora_up.weight": torch.zeros(4, 2)}  # fmt: skip
    spec = AdapterSpec(saved(tmp_path / "a.safetensors", tensors))
    with pytest.raises(LayoutError, match=r"'a\.b_c' and 'a_b\.c'"):
        fit_adapters([spec], targets)
    (only,) = fit_adapters([spec], {"a.b_c": (4, 4), "d": (4, 4)})
    assert only.changes[0].module == "a.b_c"


def test_what_matches_nothing_is_an_error_unless_that_is_allowed(tmp_path: Path) -> None:
    tensors = peft_tensors(factors(FEW)) | {
        "lora_te_text_model_layers_0.lora_down.weight": torch.zeros(3, 8),
        "lora_te_text_model_layers_0.lora_up.weight": torch.zeros(8, 3),
        "base_model.model.layers.7.attention.qkv.lora_A.weight": torch.zeros(3, 48),
        "base_model.model.layers.7.attention.qkv.lora_B.weight": torch.zeros(96, 3),
        "bias_of_something": torch.zeros(3),
    }  # fmt: skip
    file = saved(tmp_path / "a.safetensors", tensors)
    with pytest.raises(BindError, match=r"bias_of_something.*nearest.*layers.*--lora-partial"):
        fitted(file)
    found = fitted(file, partial=True)
    assert {change.module for change in found.changes} == set(FEW)
    assert set(found.unmatched) == tensors.keys() - peft_tensors(factors(FEW)).keys()
    assert "left out: 'bias_of_something'" in str(found)


def test_an_adapter_of_which_nothing_matches_is_an_error_all_the_same(tmp_path: Path) -> None:
    file = named(tmp_path, "unet.down_blocks.0.attn1.to_q")
    with pytest.raises(BindError):
        fitted(file, partial=True)


@pytest.mark.parametrize(
    "tensors",
    [
        {f"{QKV}.lora_A.weight": torch.zeros(3, 49), f"{QKV}.lora_B.weight": torch.zeros(96, 3)},
        {f"{QKV}.lora_A.weight": torch.zeros(3, 48), f"{QKV}.lora_B.weight": torch.zeros(95, 3)},
        {f"{QKV}.lokr_w1": torch.zeros(4, 4), f"{QKV}.lokr_w2": torch.zeros(24, 13)},
        {f"{QKV}.w_norm": torch.zeros(96)},
        {"layers.0.ffn_norm1.w_norm": torch.zeros(47)},
        {"layers.0.ffn_norm1.lora_A.weight": torch.zeros(1, 1),
         "layers.0.ffn_norm1.lora_B.weight": torch.zeros(48, 1)},
    ],
)  # fmt: skip
def test_wrong_shapes_are_refused_even_in_part(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    file = saved(tmp_path / "a.safetensors", tensors | peft_tensors(factors(FEW[1:])))
    with pytest.raises(BindError, match="shape"):
        fitted(file, partial=True)


def test_one_module_changed_twice_by_one_file_is_refused(tmp_path: Path) -> None:
    tensors = peft_tensors(factors((QKV,)))
    tensors |= {key.replace("base_model.model.", "transformer."): value.clone()
                for key, value in tensors.items()}  # fmt: skip
    with pytest.raises(BindError, match="once"):
        fitted(saved(tmp_path / "a.safetensors", tensors))


def test_strength_goes_block_by_block(tmp_path: Path) -> None:
    folder = peft_folder(tmp_path / "style", factors(LINEARS), 3)
    found = fitted(f"{folder}:0.8:layers.1=0.5:layers.1.attention=0")
    strengths = {change.module: change.strength for change in found.changes}
    assert strengths["layers.0.attention.qkv"] == 0.8
    assert strengths["layers.1.feed_forward.w1"] == 0.4
    assert strengths["layers.1.attention.qkv"] == 0
    assert len(found.active) == len(LINEARS) - 2
    with pytest.raises(BindError, match=r"layers\.7"):
        fitted(f"{folder}:0.8:layers.7=0.5")


def test_a_record_is_enough_to_apply_the_same_again(tmp_path: Path) -> None:
    folder = peft_folder(tmp_path / "style", factors(LINEARS), 3)
    kept = record(fitted(f"{folder}:0.8:alpha=2:layers.1=0.5"))
    assert (kept.file, kept.strength, kept.alpha) == ("style", 0.8, 2.0)
    assert kept.blocks == ("layers.1=0.5",)
    digests = {kept.sha256, kept.config_sha256}
    assert digests == {
        sha256((folder / name).read_bytes()).hexdigest()
        for name in ("adapter_model.safetensors", "adapter_config.json")
    }
    lone = saved(tmp_path / "lone.safetensors", peft_tensors(factors(LINEARS)))
    assert record(fitted(lone)).config_sha256 is None


def test_an_assumed_alpha_is_said(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.safetensors", peft_tensors(factors(FEW)))
    assert "alpha assumed: as large as the rank (else give :alpha=NUMBER)" in str(fitted(file))
    assert "alpha assumed" not in str(fitted(f"{file}:1:alpha=3"))


def test_targets_are_the_linears_and_norms_of_any_module() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.RMSNorm(4), nn.Conv2d(1, 1, 3))
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    assert targets_of(shapes) == {"0": (4, 3), "1": (4,)}


def test_a_name_of_prefixes_alone_is_not_unwrapped_forever(tmp_path: Path) -> None:
    stem = "transformer." * 75  # of at most 1,000 letters
    tensors = {f"{stem}{QKV}.lora_A.weight": torch.zeros(3, 48),
               f"{stem}{QKV}.lora_B.weight": torch.zeros(96, 3)}  # fmt: skip
    with pytest.raises(BindError) as error:
        fitted(saved(tmp_path / "a.safetensors", tensors))
    assert len(str(error.value)) < 1000


def test_reading_many_strange_names_takes_no_time(tmp_path: Path) -> None:
    strange = {f"strange.{i}": torch.zeros(1) for i in range(5000)}
    file = saved(tmp_path / "a.safetensors", peft_tensors(factors((QKV,))) | strange)
    adapter = read_adapter(AdapterSpec(file))
    assert len(adapter.odd) == 5000
    with pytest.raises(BindError, match="and 4992 more"):
        fitted(file)
