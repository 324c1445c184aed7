"""What a file says of its adapters, and what it may not say."""

from __future__ import annotations

import json
import re
import struct
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import (
    FEW,
    LINEARS,
    Factors,
    factors,
    kohya_tensors,
    lokr_tensors,
    peft_folder,
    peft_tensors,
    saved,
)
from safetensors.torch import save_file

from sakuga.adapters.config import ASSUMED
from sakuga.adapters.file import Adapter, read_adapter
from sakuga.adapters.fit import assumption
from sakuga.adapters.spec import AdapterSpec, parse_adapter
from sakuga.errors import BindError, CorruptFile, LayoutError, ModelNotFound, SakugaError

QKV = "layers.0.attention.qkv"


def opened(path: Path | str) -> Adapter:
    return read_adapter(parse_adapter(str(path)))


def scales(adapter: Adapter) -> set[float]:
    return {part.scale for part in adapter.parts}


def test_peft_takes_alpha_from_its_config(tmp_path: Path) -> None:
    folder = peft_folder(tmp_path / "style", factors(FEW, rank=8), 4)
    for path in (folder, folder / "adapter_model.safetensors"):
        adapter = opened(path)
        assert scales(adapter) == {0.5}
        assert {(part.rank, part.alpha, part.alpha_from) for part in adapter.parts} == {
            (8, 4.0, "adapter_config.json")
        }
    assert adapter.odd == ()


def test_a_config_describes_no_other_file_of_its_folder(tmp_path: Path) -> None:
    folder = peft_folder(tmp_path / "style", factors(FEW, rank=8), 4)
    other = saved(folder / "other.safetensors", peft_tensors(factors(FEW, rank=8)))
    assert scales(opened(other)) == {1.0}
    assert scales(opened(folder)) == {0.5}


def test_a_lone_file_without_alpha_is_taken_at_its_rank_and_says_so(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.safetensors", peft_tensors(factors(FEW, rank=8)))
    adapter = opened(file)
    assert scales(adapter) == {1.0}
    assert len(adapter.assumed) == len(FEW)
    given = opened(f"{file}:1:alpha=4")
    assert scales(given) == {0.5}
    assert given.assumed == ()


@pytest.mark.parametrize(
    "metadata",
    [
        {"lora_alpha": "4", "lora_rank": "8"},
        {"ss_network_alpha": "4.0", "ss_network_dim": "8"},
        {"lora_adapter_metadata": json.dumps({"transformer.r": 8, "transformer.lora_alpha": 4})},
    ],
)
def test_a_lone_file_may_tell_alpha_in_its_metadata(
    tmp_path: Path, metadata: dict[str, str]
) -> None:
    file = saved(tmp_path / "a.safetensors", peft_tensors(factors(FEW, rank=8)), metadata)
    assert scales(opened(file)) == {0.5}


def test_alpha_beside_the_factors_goes_before_metadata_and_after_the_user(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.safetensors", kohya_tensors(factors(FEW, rank=4), 2.0),
                 {"ss_network_alpha": "100"})  # fmt: skip
    assert scales(opened(file)) == {0.5}
    assert scales(opened(f"{file}:alpha=4")) == {1.0}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16,
                                   torch.int64, torch.int32])  # fmt: skip
def test_an_alpha_may_be_any_number(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = kohya_tensors(factors((QKV,), rank=4), 2.0)
    tensors = {k: v.to(dtype) if k.endswith("alpha") else v for k, v in tensors.items()}
    assert scales(opened(saved(tmp_path / "a.safetensors", tensors))) == {0.5}


def test_patterns_and_rslora_of_a_config_are_honoured(tmp_path: Path) -> None:
    given = {**factors((QKV, "layers.1.attention.qkv"), rank=4),
             **factors(("final_layer.linear",), rank=16)}  # fmt: skip
    folder = peft_folder(
        tmp_path / "style", given, 8, rank_pattern={"final_layer.linear": 16},
        alpha_pattern={"^layers\\.1\\.attention.qkv$": 2, "linear": 4}, use_rslora=True,
    )  # fmt: skip
    found = {part.stem.removeprefix("base_model.model."): part for part in opened(folder).parts}
    assert found[QKV].scale == 8 / 2
    assert found["layers.1.attention.qkv"].scale == 2 / 2
    assert found["final_layer.linear"].scale == 4 / 4


@pytest.mark.parametrize(
    ("pattern", "covered"),
    [
        ("qkv", {QKV, "layers.1.attention.qkv"}),
        ("attention.qkv", {QKV, "layers.1.attention.qkv"}),
        ("^attention.qkv", set()),
        ("kv", set()),
        ("layers.1.attention.qkv", {"layers.1.attention.qkv"}),
        (r"layers\.\d+\.attention\.qkv", {QKV, "layers.1.attention.qkv"}),
        (r"layers\.\d\.attention\.(qkv|out)", {QKV, "layers.1.attention.qkv"}),
        ("layers.[1-9].*", {"layers.1.attention.qkv", "layers.1.feed_forward.w2"}),
        (r"^layers\.[0-9]+\.feed_forward.*$", {"layers.1.feed_forward.w2"}),
    ],
)
def test_a_pattern_covers_what_it_does_in_peft(
    tmp_path: Path, pattern: str, covered: set[str]
) -> None:
    modules = (QKV, "layers.1.attention.qkv", "layers.1.feed_forward.w2")
    folder = peft_folder(tmp_path / "a", factors(modules, rank=4), 4, alpha_pattern={pattern: 8})
    found = {part.stem.removeprefix("base_model.model."): part.scale
             for part in opened(folder).parts}  # fmt: skip
    assert {name for name, scale in found.items() if scale == 2.0} == covered
    # As PEFT's get_pattern_key puts it.
    assert covered == {name for name in modules if re.match(rf"(.*\.)?({pattern})$", name)}


def test_of_whole_lokr_factors_alpha_means_nothing(tmp_path: Path) -> None:
    tensors = lokr_tensors(QKV, 4, 4) | lokr_tensors("layers.1.attention.qkv", 4, 4, rank=4)
    # In half precision the 114514 of trainers is infinite, and still means nothing.
    tensors = {key: value.half() for key, value in tensors.items()}
    file = saved(tmp_path / "a.safetensors", tensors, {"lora_alpha": "7", "lora_rank": "7"})
    found = {part.stem: part for part in opened(file).parts}
    whole = found["lycoris_layers_0_attention_qkv"]
    assert (whole.scale, whole.alpha, whole.rank) == (1.0, None, 0)
    assert found["lycoris_layers_1_attention_qkv"].scale == 2 / 4


def test_norms_are_parts_too(tmp_path: Path) -> None:
    norm = {"lycoris_layers_0_ffn_norm1.w_norm": torch.ones(48),
            "lycoris_layers_0_ffn_norm1.b_norm": torch.ones(48)}  # fmt: skip
    (part,) = opened(saved(tmp_path / "a.safetensors", norm)).parts
    assert (part.kind, part.shape, part.scale, part.values) == ("norm", (48,), 1.0, 96)


def test_what_is_kept_is_the_smaller_of_a_product_and_its_factors(tmp_path: Path) -> None:
    """LoKr factors narrower than their rank would grow on the way: 24 x 12 of rank 2, of rank 9."""
    kept = {}
    for rank in (0, 2, 9):
        tensors = lokr_tensors(QKV, 4, 4, rank=rank)
        (part,) = opened(saved(tmp_path / "a.safetensors", tensors)).parts
        kept[rank] = dict(part.kept)
    assert kept[0] == kept[9] == {"w1": (4, 4), "up": (24, 12)}
    assert kept[2] == {"w1": (4, 4), "up": (24, 2), "down": (2, 12)}


def without(tensors: dict[str, Any], end: str) -> dict[str, Any]:
    return {key: value for key, value in tensors.items() if not key.endswith(end)}


PEFT = peft_tensors(factors((QKV,), rank=4))
DOWN, UP = PEFT
LOKR = lokr_tensors(QKV, 4, 4, rank=3)


@pytest.mark.parametrize(
    ("tensors", "error"),
    [
        (without(PEFT, "lora_A.weight"), BindError),
        (without(LOKR, "lokr_w2_b"), BindError),
        (without(LOKR, "lokr_w1"), BindError),
        (PEFT | {DOWN: torch.zeros(5, 48)}, BindError),
        (PEFT | {DOWN: torch.zeros(4, 48, 1)}, BindError),
        (PEFT | {DOWN: torch.zeros(4, 48, dtype=torch.int8)}, BindError),
        (PEFT | {DOWN: torch.zeros(0, 48), UP: torch.zeros(96, 0)}, BindError),
        (PEFT | {DOWN: torch.zeros(1100, 48), UP: torch.zeros(96, 1100)}, BindError),
        (PEFT | {DOWN.replace("lora_A", "lora_down"): torch.zeros(4, 48)}, BindError),
        (PEFT | {DOWN.replace("lora_A.weight", "dora_scale"): torch.zeros(95)}, BindError),
        (PEFT | {DOWN.replace("lora_A", "lora_magnitude_vector"): torch.zeros(96, 2)}, BindError),
        (kohya_tensors(factors((QKV,)), float("inf")), CorruptFile),
        ({"layers.0.attention.qkv.weight": torch.zeros(4, 4)}, LayoutError),
        ({}, LayoutError),
        ({f"{QKV}.alpha": torch.tensor(4.0)}, LayoutError),
        (kohya_tensors(factors((QKV,)), float("nan")), CorruptFile),
        (kohya_tensors(factors((QKV,)), -1.0), CorruptFile),
        (PEFT | {f"base_model.model.{QKV}.alpha": torch.zeros(2)}, CorruptFile),
    ],
)  # fmt: skip
def test_what_is_no_whole_adapter_is_refused(
    tmp_path: Path, tensors: dict[str, Any], error: type[SakugaError]
) -> None:
    with pytest.raises(error):
        opened(saved(tmp_path / "a.safetensors", tensors))


@pytest.mark.parametrize(
    ("ends", "name"),
    [
        (("hada_t1", "hada_t2"), "LoHa of convolutions"),
        (("oft_diag",), "OFT"),
        (("oft_blocks", "rescale"), "OFT with a trained rescale"),
        (("lora_mid.weight",), "a Tucker decomposition"),
        (("a1.weight", "a2.weight", "b1.weight", "b2.weight"), "GLoRA"),
        (("weight", "on_input"), "IA3"),
        (("p_layer.weight", "q_layer.weight", "lambda_layer"), "T-LoRA"),
        (("boft_R",), "BOFT"),
        (("vera_lambda_b", "vera_lambda_d"), "VeRA"),
    ],
)
def test_other_kinds_go_by_their_names(tmp_path: Path, ends: tuple[str, ...], name: str) -> None:
    tensors = {f"lycoris_layers_0_attention_qkv.{end}": torch.ones(4, 4) for end in ends}
    for beside in ({}, PEFT):
        with pytest.raises(LayoutError, match=rf"{name}.*Merge it with the program"):
            opened(saved(tmp_path / "a.safetensors", tensors | beside))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_an_alpha_of_zero_stands_for_the_rank_and_is_said_to(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    tensors = kohya_tensors(factors(FEW, rank=4), 0.0)
    tensors |= lokr_tensors("layers.0.attention.out", 4, 4, rank=3)
    tensors |= {"lycoris_layers_0_attention_out.alpha": torch.tensor(0.0)}
    tensors = {k: v.to(dtype) if k.endswith("alpha") else v for k, v in tensors.items()}
    adapter = opened(saved(tmp_path / "a.safetensors", tensors, {"ss_network_alpha": "2"}))
    assert scales(adapter) == {1.0}
    assert {part.alpha for part in adapter.parts} == {4.0, 3.0}
    assert adapter.assumed == adapter.parts
    assert "a 0 in the file stands for" in assumption(adapter)
    assert scales(opened(f"{tmp_path / 'a.safetensors'}:alpha=12")) == {3.0, 4.0}


def test_a_config_beside_another_name_is_mentioned(tmp_path: Path) -> None:
    folder = peft_folder(tmp_path / "style", factors(FEW, rank=8), 4)
    file = folder / "pytorch_lora_weights.safetensors"
    (folder / "adapter_model.safetensors").rename(file)
    told = assumption(opened(file))
    assert "adapter_config.json lies beside it" in told
    assert told.endswith(f"give the folder, {folder}")
    assert scales(opened(folder)) == {0.5}
    assert assumption(opened(f"{file}:alpha=4")) == ""
    assert assumption(opened(folder)) == ""
    saved(folder / "adapter_model.safetensors", peft_tensors(factors(FEW, rank=8)))
    assert "adapter_config.json" not in assumption(opened(file))  # it is that one's


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"peft_type": "IA3"}, LayoutError),
        ({"peft_type": "OFT", "coft": True}, LayoutError),
        ({"peft_type": "OFT", "num_cayley_neumann_terms": 10**9}, CorruptFile),
        ({"fan_in_fan_out": True}, LayoutError),
        ({"r": 16}, BindError),
        ({"r": 0}, CorruptFile),
        ({"r": "many"}, CorruptFile),
        ({"lora_alpha": "4"}, CorruptFile),
        ({"lora_alpha": True}, CorruptFile),
        ({"lora_alpha": float("inf")}, CorruptFile),
        ({"rank_pattern": ["qkv"]}, CorruptFile),
        ({"rank_pattern": {"(a+)+b": 4}}, CorruptFile),
        ({"rank_pattern": {".*.*.*x": 4}}, CorruptFile),
        ({"rank_pattern": {f".*.*{i}": 4 for i in range(65)}}, CorruptFile),
        ({"rank_pattern": {"": 4}}, CorruptFile),
        ({"rank_pattern": {"layers.[9-0]": 4}}, CorruptFile),
        ({"alpha_pattern": {"qkv": -1}}, CorruptFile),
        ({"base_model_name_or_path": "../../../etc"}, CorruptFile),
        ({"target_modules": ["attention.qkv", "..\\..\\secrets"]}, CorruptFile),
        ({"auto_mapping": {"parent_library": {"../x": 1}}}, CorruptFile),
        ({"peft_type": nested(500)}, CorruptFile),
    ],
)
def test_a_config_that_misleads_is_refused(
    tmp_path: Path, config: dict[str, Any], error: type[SakugaError]
) -> None:
    folder = peft_folder(tmp_path / "style", factors((QKV,), rank=4), 4, **config)
    with pytest.raises(error):
        opened(folder)


def test_the_slowest_patterns_take_no_time(tmp_path: Path) -> None:
    slow = {f".*.*{i}": 4 for i in range(64)}
    folder = peft_folder(tmp_path / "a", factors(LINEARS, rank=4), 4, alpha_pattern=slow)
    started = time.process_time()
    assert scales(opened(folder)) == {1.0}
    assert time.process_time() - started <= 1.0


def slow_modules(count: int) -> Factors:
    names = (".".join(["a" * 4] * 50) + str(i) for i in range(count))
    return {name: (torch.ones(1, 2), torch.ones(2, 1)) for name in names}


@pytest.mark.parametrize("pattern", ["a{}", "^aaaa{}", "aaaa.{}$"])
def test_many_plain_names_for_many_modules_take_no_time(tmp_path: Path, pattern: str) -> None:
    names = {pattern.format(i): 4 for i in range(30_000)}
    folder = peft_folder(tmp_path / "a", slow_modules(400), 4, alpha_pattern=names)
    started = time.process_time()
    opened(folder)
    assert time.process_time() - started <= 1.0


@pytest.mark.parametrize("pattern", [r"a\d{}", "a[ab]{}", ".*a.*{}", "(a|b){}"])
def test_many_expressions_for_many_modules_are_refused(tmp_path: Path, pattern: str) -> None:
    names = {pattern.format(i): 4 for i in range(64)}
    folder = peft_folder(tmp_path / "a", slow_modules(600), 4, alpha_pattern=names)
    started = time.process_time()
    with pytest.raises(CorruptFile, match="expressions that take"):
        opened(folder)
    assert time.process_time() - started <= 1.0


@pytest.mark.parametrize("bad", [0, "x", -1, {"a": 1}])
def test_an_alpha_given_by_hand_needs_none_of_the_config(tmp_path: Path, bad: object) -> None:
    modules = factors((QKV,), rank=4)
    folder = peft_folder(tmp_path / "style", modules, bad, alpha_pattern={"qkv": bad})
    with pytest.raises(CorruptFile, match="Give it by hand"):
        opened(folder)
    assert scales(read_adapter(AdapterSpec(folder, alpha=2.0))) == {0.5}


@pytest.mark.parametrize("name", ["lora_alpha", "ss_network_alpha"])
def test_what_a_trainer_was_asked_for_is_no_factor_of_a_lokr(tmp_path: Path, name: str) -> None:
    tensors = {f"{QKV}.lokr_w1": torch.ones(2, 2), f"{QKV}.lokr_w2_a": torch.ones(48, 2),
               f"{QKV}.lokr_w2_b": torch.ones(2, 24)}  # fmt: skip
    said = {"lora_rank": "114514", name: "114514"}
    save_file(tensors, tmp_path / "a.safetensors", said)
    (part,) = opened(tmp_path / "a.safetensors").parts
    assert (part.scale, part.alpha, part.alpha_from) == (1.0, 2.0, ASSUMED)


def test_other_entries_of_a_config_do_not_matter(tmp_path: Path) -> None:
    folder = peft_folder(
        tmp_path / "style", factors((QKV,), rank=4), 2, base_model_name_or_path="/root/NewBie",
        target_modules="all-linear", eva_config=None, modules_to_save=None, lora_dropout=0.05,
    )  # fmt: skip
    assert scales(opened(folder)) == {0.5}


def test_links_do_not_lead_out_of_an_adapters_folder(tmp_path: Path) -> None:
    folder = peft_folder(tmp_path / "style", factors((QKV,), rank=4), 2)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        outside = (folder / name).rename(tmp_path / name)
        (folder / name).symlink_to(outside)
        with pytest.raises(CorruptFile, match="leads to"):
            opened(folder)
        (folder / name).unlink()
        outside.rename(folder / name)
    assert scales(opened(folder)) == {0.5}


def test_factors_larger_than_the_file_are_never_allocated(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    entry = {"dtype": "F32", "shape": [10**9, 48], "data_offsets": [0, 8]}
    header = json.dumps({DOWN: entry}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 8)
    with pytest.raises(CorruptFile):
        opened(file)


def test_what_is_not_there_and_what_is_no_safetensors(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="colon"):
        read_adapter(AdapterSpec(tmp_path / "style.safetensors"))
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(ModelNotFound, match=r"adapter_model\.bin"):
        opened(tmp_path)
    pickle = tmp_path / "a.safetensors"
    pickle.write_bytes(b"\x80\x02" * 40)
    with pytest.raises(CorruptFile, match="pickle"):
        opened(pickle)


def test_a_folder_may_hold_one_file_of_any_name(tmp_path: Path) -> None:
    save_file(kohya_tensors(factors((QKV,), rank=4), 4.0), tmp_path / "style.safetensors")
    assert scales(opened(tmp_path)) == {1.0}
