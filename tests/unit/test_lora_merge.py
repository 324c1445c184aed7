"""A merged file draws what the adapter drew, and is otherwise the file it was."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from adapters import (
    FEW,
    LINEARS,
    NORMS,
    TARGETS,
    factors,
    lokr_tensors,
    made,
    near,
    peft_folder,
    saved,
    velocity,
)
from gguf_file import write_gguf
from safetensors.torch import load_file
from tiny import TINY
from torch import Tensor

from sakuga.adapters.apply import apply_adapters
from sakuga.adapters.merge import merge
from sakuga.adapters.spec import parse_adapters
from sakuga.checkpoint.bind import bind
from sakuga.checkpoint.families.layout import KeyLayout
from sakuga.checkpoint.families.match import spellings
from sakuga.checkpoint.families.tables import LAYOUTS, config_of
from sakuga.checkpoint.folder import Component, open_component
from sakuga.checkpoint.save import save_component, write_json
from sakuga.errors import BindError, OutputExists, RequestError, SakugaError
from sakuga.model.nextdit import NextDiT
from sakuga.weights.formats import INT8, StoredTensor, read_storage_metadata, storage_metadata
from sakuga.weights.quantise import quantise


@pytest.fixture
def adapters(tmp_path: Path) -> list[str]:
    """A LoRA of few modules, and a LoKr of many with trained norms."""
    lora = peft_folder(tmp_path / "lora", factors(FEW, rank=3), 2)
    tensors: dict[str, Tensor] = {}
    for name in LINEARS[::2]:
        tensors |= lokr_tensors(name, 4, 2)
    for name in NORMS[::3]:
        tensors[f"{name}.w_norm"] = torch.full(TARGETS[name], 0.3)
    lokr = saved(tmp_path / "lokr.safetensors", tensors)
    return [f"{lora}:0.8", f"{lokr}:0.5:layers.1=-1"]


def based(folder: Path, storage: str = "float32") -> Component:
    save_component(folder, TINY.transformer, made().state_dict(), storage)
    return open_component(folder, "transformer")


def loaded(path: Path) -> NextDiT:
    component = open_component(path, "transformer")
    with torch.device("meta"):
        model = NextDiT(component.spec).eval()
    bind(model, component, dtype=torch.float32)
    return model.requires_grad_(False)


def test_a_merged_file_is_a_transformer_that_draws_the_same(
    tmp_path: Path, adapters: list[str]
) -> None:
    base, out = based(tmp_path / "base"), tmp_path / "merged.safetensors"
    specs = parse_adapters(adapters)
    fits = merge(base, specs, out).fits
    model = loaded(base.store.path)
    before = velocity(model)
    with apply_adapters(model, fits):
        want = velocity(model)
    assert near(velocity(loaded(out)), want)
    assert not near(want, before)
    assert os.stat(out).st_mode & 0o777 == 0o644


QKV = "layers.0.attention.qkv.weight"
TRANSFORMERS = [layout for layout in LAYOUTS if layout.component == "transformer"]


@pytest.mark.parametrize("layout", TRANSFORMERS, ids=lambda layout: layout.name)
def test_a_file_in_any_layout_stays_in_it(
    tmp_path: Path, adapters: list[str], layout: KeyLayout
) -> None:
    tensors: dict[str, Tensor] = {}
    for key, value in made().state_dict().items():
        names = spellings(layout, key)
        rows = value.split([48, 24, 24]) if len(names) == 3 else [value]
        tensors |= {name: part.clone() for name, part in zip(names, rows, strict=True)}
    saved(tmp_path / "theirs" / "model.safetensors", tensors)
    write_json(tmp_path / "theirs" / "config.json", config_of(TINY.transformer))
    base, out = open_component(tmp_path / "theirs", "transformer"), tmp_path / "out.safetensors"
    merge(base, parse_adapters(adapters), out)
    assert open_component(out, "transformer").store.shapes() == base.store.shapes()
    other = tmp_path / "other.safetensors"
    merge(based(tmp_path / "ours"), parse_adapters(adapters), other)
    found, want = loaded(out).state_dict(), loaded(other).state_dict()
    assert all(torch.equal(found[key], value) for key, value in want.items())


def test_what_is_not_changed_is_byte_for_byte_what_it_was(
    tmp_path: Path, adapters: list[str]
) -> None:
    base, out = based(tmp_path / "base", "bfloat16"), tmp_path / "merged.safetensors"
    (fit,) = merge(base, parse_adapters(adapters[:1]), out).fits
    merged = open_component(out, "transformer")
    assert set(merged.store) == set(base.store)
    assert merged.spec == base.spec
    changed = {f"{change.module}.weight" for change in fit.changes}
    assert changed == {f"{name}.weight" for name in FEW}
    for key in base.store:
        assert merged.store.info(key).dtype == base.store.info(key).dtype
        same = bytes(merged.store.view(key)) == bytes(base.store.view(key))
        assert same == (key not in changed)


def test_blocks_of_gguf_are_unfolded(tmp_path: Path) -> None:
    tensors = {}
    for key, value in made().state_dict().items():
        whole = value.dim() == 2 and value.shape[1] % 32 == 0
        tensors[key] = ("Q8_0" if whole else "F32", value.numpy())
    (tmp_path / "base").mkdir()
    file = write_gguf(tmp_path / "base" / "x.gguf", {}, tensors)
    write_json(file.parent / "config.json", config_of(TINY.transformer))
    base = open_component(file, "transformer")
    assert base.store.info("layers.0.feed_forward.w2.weight").dtype == "Q8_0"
    save_component(tmp_path / "plain", TINY.transformer, loaded(file).state_dict())
    few = ("layers.0.feed_forward.w2", "layers.1.attention.out")
    specs = parse_adapters([f"{peft_folder(tmp_path / 'lora', factors(few, rank=3), 2)}"])
    for name, component in (("a", base), ("b", open_component(tmp_path / "plain"))):
        merge(component, specs, tmp_path / f"{name}.safetensors")
    found, want = (loaded(tmp_path / f"{name}.safetensors").state_dict() for name in "ab")
    assert all(torch.equal(found[key], value) for key, value in want.items())


def test_sums_are_rounded_once(tmp_path: Path) -> None:
    """Two adapters, of which only the difference is small enough for a bfloat16 to hold."""
    base, out = based(tmp_path / "base", "bfloat16"), tmp_path / "merged.safetensors"
    (name,) = FEW[:1]
    one = peft_folder(tmp_path / "one", factors((name,), rank=3, seed=1), 300)
    merge(base, parse_adapters([f"{one}", f"{one}:-1"]), out)
    before, after = (loaded(path).get_submodule(name).weight for path in (base.store.path, out))
    assert (after - before).abs().max() <= 1e-5  # through bfloat16 it would be 0.02


NORM_KEYS = [f"{name}.weight" for name in NORMS]
QUANTISED = ("int8", "float8_e4m3", "int4")


@pytest.mark.parametrize("storage", QUANTISED)
def test_what_is_quantised_is_not_quantised_again(
    tmp_path: Path, adapters: list[str], storage: str
) -> None:
    base, out = based(tmp_path / "base", storage), tmp_path / "merged.safetensors"
    merged = merge(base, parse_adapters(adapters), out)
    model = loaded(base.store.path)
    before = velocity(model)
    with apply_adapters(model, merged.fits):
        want = velocity(model)
    assert near(velocity(loaded(out)), want)
    assert not near(want, before)
    linears = {f"{change.module}.weight" for fit in merged.fits for change in fit.changes}
    assert f"{len(linears - set(NORM_KEYS))} {storage} -> float32" in str(merged)
    assert f"{len(linears & set(NORM_KEYS))} float32" in str(merged)


@pytest.mark.parametrize("storage", QUANTISED)
def test_what_is_quantised_and_not_changed_stays_so(
    tmp_path: Path, adapters: list[str], storage: str
) -> None:
    base, out = based(tmp_path / "base", storage), tmp_path / "merged.safetensors"
    merge(base, parse_adapters(adapters[:1]), out)
    merged = open_component(out, "transformer")
    changed = {f"{name}.weight" for name in FEW}
    was, now = (read_storage_metadata(each.store.metadata) for each in (base, merged))
    assert now == {key: each for key, each in was.items() if key not in changed}
    assert set(merged.store) == set(base.store) - {f"{key}.scale" for key in changed}
    for key in merged.store:
        if key in changed:
            assert merged.store.info(key).dtype == "F32"
        else:
            assert bytes(merged.store.view(key)) == bytes(base.store.view(key))


def test_where_all_that_is_quantised_changes_no_storage_is_named(tmp_path: Path) -> None:
    base, out = based(tmp_path / "base", "int8"), tmp_path / "merged.safetensors"
    lora = peft_folder(tmp_path / "all", factors(LINEARS, rank=3), 2)
    merge(base, parse_adapters([str(lora)]), out)
    merged = open_component(out, "transformer").store
    assert "sakuga.storage" not in merged.metadata
    assert set(merged.dtypes().values()) == {"F32"}


@pytest.mark.parametrize(("small", "wide"), [("bfloat16", "BF16"), ("float32", "F32")])
def test_what_was_quantised_gets_the_dtype_of_the_files_floats(
    tmp_path: Path, adapters: list[str], small: str, wide: str
) -> None:
    out = tmp_path / "merged.safetensors"
    save_component(tmp_path / "base", TINY.transformer, made().state_dict(), "int8", small)
    merge(open_component(tmp_path / "base", "transformer"), parse_adapters(adapters[:1]), out)
    merged = open_component(out, "transformer").store
    assert {merged.info(f"{name}.weight").dtype for name in FEW} == {wide}


def test_eight_bit_floats_without_scales_hold_no_sum_either(
    tmp_path: Path, adapters: list[str]
) -> None:
    state = made().state_dict()
    narrow = {k: v.to(torch.float8_e4m3fn if v.dim() == 2 else torch.bfloat16)
              for k, v in state.items()}  # fmt: skip
    saved(tmp_path / "base" / "model.safetensors", narrow)
    write_json(tmp_path / "base" / "config.json", config_of(TINY.transformer))
    base, out = open_component(tmp_path / "base", "transformer"), tmp_path / "merged.safetensors"
    merge(base, parse_adapters(adapters[:1]), out)
    merged = open_component(out, "transformer").store
    for key in base.store:
        changed = key in {f"{name}.weight" for name in FEW}
        assert merged.info(key).dtype == ("BF16" if changed else base.store.info(key).dtype)


def test_a_sum_that_its_dtype_cannot_hold_is_refused(tmp_path: Path) -> None:
    base, out = based(tmp_path / "base", "float16"), tmp_path / "merged.safetensors"
    lora = peft_folder(tmp_path / "lora", factors(FEW, rank=3), 1e7)
    with pytest.raises(RequestError, match=r"float16.*Lower the strength"):
        merge(base, parse_adapters([str(lora)]), out)
    assert not out.exists()


def test_rows_that_an_adapter_leaves_alone_are_not_touched(tmp_path: Path) -> None:
    """Of query, key and value that lie apart only the changed one is written anew."""
    (layout,) = (layout for layout in TRANSFORMERS if len(spellings(layout, QKV)) == 3)
    tensors: dict[str, Tensor] = {}
    stored: dict[str, StoredTensor] = {}
    for key, value in made().state_dict().items():
        names = spellings(layout, key)
        rows = value.split([48, 24, 24]) if len(names) == 3 else [value]
        for name, part in zip(names, rows, strict=True):
            tensors[name] = part.clone()
            if len(names) == 3:
                tensors[name], scale = quantise(part, INT8)
                assert scale is not None
                tensors[f"{name}.scale"] = scale
                stored[name] = StoredTensor(INT8)
    saved(tmp_path / "base" / "model.safetensors", tensors, storage_metadata(stored))
    write_json(tmp_path / "base" / "config.json", config_of(TINY.transformer))
    base, out = open_component(tmp_path / "base", "transformer"), tmp_path / "merged.safetensors"
    stem = "layers.0.attention.to_k"
    few = {f"{stem}.lora_A.weight": torch.ones(2, 48),
           f"{stem}.lora_B.weight": torch.ones(24, 2)}  # fmt: skip
    lora = saved(tmp_path / "k.safetensors", few)
    merged = merge(base, parse_adapters([str(lora)]), out)
    assert "changed: 1 int8 -> float32" in str(merged)
    query, key, value = spellings(layout, QKV)
    dtypes = open_component(out, "transformer").store.dtypes()
    assert [dtypes[name] for name in (query, key, value)] == ["I8", "F32", "I8"]
    difference = loaded(out).state_dict()[QKV] - loaded(base.store.path).state_dict()[QKV]
    assert torch.allclose(difference[48:72], torch.tensor(2.0))
    assert not difference[:48].any()
    assert not difference[72:].any()


def test_nothing_is_merged_over_what_it_is_made_of(tmp_path: Path, adapters: list[str]) -> None:
    base = based(tmp_path / "base")
    link = tmp_path / "link.safetensors"
    link.symlink_to(base.store.files[0])
    lora = Path(adapters[0].partition(":")[0]) / "adapter_model.safetensors"
    for out in (base.store.files[0], link, lora):
        before = out.read_bytes()
        with pytest.raises(RequestError, match="does not replace what it is made of"):
            merge(base, parse_adapters(adapters), out, force=True)
        assert out.read_bytes() == before


def test_a_place_that_cannot_be_written_is_an_error_of_ours(
    tmp_path: Path, adapters: list[str]
) -> None:
    base, specs = based(tmp_path / "base"), parse_adapters(adapters)
    blocked = tmp_path / "file"
    blocked.touch()
    for out in (blocked / "x.safetensors", tmp_path / f"{'n' * 300}.safetensors"):
        with pytest.raises(SakugaError, match="written whole"):
            merge(base, specs, out)
    with pytest.raises(OutputExists, match="folder"):
        merge(base, specs, tmp_path / "base", force=True)


def test_the_metadata_names_what_was_folded_in(tmp_path: Path, adapters: list[str]) -> None:
    out = tmp_path / "merged.safetensors"
    fits = merge(based(tmp_path / "base"), parse_adapters(adapters), out).fits
    told = json.loads(open_component(out, "transformer").store.metadata["sakuga.adapters"])
    assert [each["file"] for each in told] == ["lora", "lokr.safetensors"]
    assert [each["sha256"] for each in told] == [fit.adapter.store.sha256() for fit in fits]
    assert told[1]["blocks"] == ["layers.1=-1"]


def test_nothing_is_overwritten_or_left_half_done(tmp_path: Path, adapters: list[str]) -> None:
    base, out = based(tmp_path / "base"), tmp_path / "merged.safetensors"
    out.write_bytes(b"mine")
    with pytest.raises(OutputExists):
        merge(base, parse_adapters(adapters), out)
    bias = {"layers.0.ffn_norm1.w_norm": torch.ones(48),
            "layers.0.ffn_norm1.b_norm": torch.ones(48)}  # fmt: skip
    odd = saved(tmp_path / "bias.safetensors", bias)
    with pytest.raises(BindError, match="bias"):
        merge(base, parse_adapters([str(odd)]), out, force=True)
    assert out.read_bytes() == b"mine"
    before = sorted(path.name for path in tmp_path.iterdir())
    merge(base, parse_adapters(adapters), out, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert len(load_file(out)) == len(base.store)


def test_an_adapter_that_does_not_fit_is_not_merged(tmp_path: Path) -> None:
    base, out = based(tmp_path / "base"), tmp_path / "merged.safetensors"
    odd = saved(tmp_path / "odd.safetensors", {
        "layers.0.attention.qkv.lora_A.weight": torch.zeros(3, 48),
        "layers.0.attention.qkv.lora_B.weight": torch.zeros(96, 3),
        "layers.9.attention.qkv.lora_A.weight": torch.zeros(3, 48),
        "layers.9.attention.qkv.lora_B.weight": torch.zeros(96, 3),
    })  # fmt: skip
    with pytest.raises(BindError, match=r"layers\.9"):
        merge(base, parse_adapters([str(odd)]), out)
    assert not out.exists()
    merge(base, parse_adapters([str(odd)]), out, partial=True)
    assert out.exists()
