"""Converting: every layout holds the same model, and nothing else is ever left behind."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import TINY
from torch import Tensor

from sakuga.checkpoint import convert as streaming
from sakuga.checkpoint.bind import bind
from sakuga.checkpoint.convert import GOALS
from sakuga.checkpoint.families.family import read_spec
from sakuga.checkpoint.families.jina import JINA_OFFICIAL
from sakuga.checkpoint.families.match import BakedAdapter
from sakuga.checkpoint.families.tables import FAMILIES
from sakuga.checkpoint.folder import Checkpoint, open_checkpoint, open_component
from sakuga.checkpoint.save import save_component, write_json
from sakuga.commands import convert as converting
from sakuga.commands.convert import convert
from sakuga.commands.doctor.files import parts
from sakuga.engine.networks import Networks
from sakuga.errors import (
    BindError,
    CorruptFile,
    LayoutError,
    ModelNotFound,
    OutputExists,
    RequestError,
    SakugaError,
    SpecMismatch,
)
from sakuga.model.inventory import weights_of
from sakuga.weights.formats import read_storage_metadata
from sakuga.weights.store import Store

COMFY = "fp8_scaled, comfy_float8, comfy_int8"
NAMES = ("transformer", "text_encoder", "text_encoder_2", "vae")


def tensors_of(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Every tensor of a loaded model, by component and our name."""
    models = Networks(checkpoint, "float32")
    return {f"{name}.{k}": v for name in NAMES for k, v in models[name].state_dict().items()}


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def written(source: Path, out: Path, layout: str, dtype: str = "keep") -> list[Any]:
    return list(convert(source, out, layout, dtype))


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files_in(folder)}


@pytest.mark.parametrize("layout", GOALS)
def test_a_model_is_the_same_in_every_layout(layout: str, tiny_model: Path, tmp_path: Path) -> None:
    first = open_checkpoint(tiny_model)
    told = written(tiny_model, tmp_path / "out", layout)
    assert {each.component for each in told} == set(NAMES)
    second = open_checkpoint(tmp_path / "out")
    assert second.spec == first.spec
    assert {p.name: p.match.layout.name for p in second.components} == {
        each.component: each.layout for each in told
    }
    assert same(tensors_of(first), tensors_of(second))
    for name in ("tokenizer", "tokenizer_2"):
        assert first.tokenizer(name).read_bytes() == second.tokenizer(name).read_bytes()
    # And from there back to where it came from, byte by byte.
    list(convert(tmp_path / "out", tmp_path / "back", "original"))
    for name in ("transformer", "vae"):
        there = tmp_path / "back" / name / "diffusion_pytorch_model.safetensors"
        assert same(load_file(there), load_file(tiny_model / name / there.name))


def test_equal_tensors_give_equal_files_from_every_layout(tiny_model: Path, tmp_path: Path) -> None:
    for layout in GOALS:
        written(tiny_model, tmp_path / layout, layout)
    for source in GOALS:
        for layout in GOALS:
            out = tmp_path / f"{layout} from {source}"
            written(tmp_path / source, out, layout)
            assert contents(out) == contents(tmp_path / layout)


@pytest.mark.parametrize("layout", GOALS)
def test_each_component_opens_from_its_own_place(
    layout: str, tiny_model: Path, tmp_path: Path
) -> None:
    told = written(tiny_model, tmp_path / "out", layout)
    parts = {each.component: tmp_path / "out" / each.file for each in told}
    checkpoint = open_checkpoint(None, parts)
    assert same(tensors_of(checkpoint), tensors_of(open_checkpoint(tiny_model)))
    assert checkpoint.tokenizer() == tmp_path / "out" / "tokenizer" / "tokenizer.json"
    assert checkpoint.tokenizer("tokenizer_2").parent.name == "tokenizer_2"


def test_one_component_is_a_folder_or_a_file(tiny_model: Path, tmp_path: Path) -> None:
    source = tiny_model / "transformer"
    written(source, tmp_path / "folder", "diffusers")
    assert files_in(tmp_path / "folder") == {
        "config.json", "diffusion_pytorch_model.safetensors", "manifest.json",
    }  # fmt: skip
    written(tmp_path / "folder", tmp_path / "lone.safetensors", "original")
    assert files_in(tmp_path) - {f"folder/{name}" for name in files_in(tmp_path / "folder")} == {
        "lone.safetensors", "lone.manifest.json",
    }  # fmt: skip
    first, last = open_component(source), open_component(tmp_path / "lone.safetensors")
    assert first.spec == last.spec
    assert same(load_file(first.store.files[0]), load_file(last.store.files[0]))


def wrapped(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize(
    ("files", "prefix"),
    [
        ("one", ""),
        ("one", "model.diffusion_model."),
        ("one", "model."),
        ("one", "state_dict."),
        ("consolidated", ""),
        ("consolidated", "model."),
        ("shards", ""),
        ("shards", "state_dict."),
    ],
)
def test_the_original_transformer_in_all_its_wrappings(
    prefix: str, files: str, tiny_model: Path, tmp_path: Path
) -> None:
    (source,) = (tiny_model / "transformer").glob("*.safetensors")
    state = wrapped(load_file(source) | {"norm_final.weight": torch.ones(32)}, prefix)
    place = tmp_path / "transformer"
    place.mkdir()
    shutil.copy(tiny_model / "transformer" / "config.json", place)
    if files == "shards":
        names = sorted(state)
        halves = {"a": names[::2], "b": names[1::2]}
        for half, keys in halves.items():
            save_file({key: state[key] for key in keys}, place / f"part-{half}.safetensors")
        index = {key: f"part-{half}.safetensors" for half, keys in halves.items() for key in keys}
        write_json(place / "x.safetensors.index.json", {"weight_map": index})
    else:
        name = {"one": "newbie01", "consolidated": "consolidated_ema.00-of-01"}[files]
        save_file(state, place / f"{name}.safetensors")
    checkpoint = open_checkpoint(tiny_model, {"transformer": place})
    assert same(tensors_of(checkpoint), tensors_of(open_checkpoint(tiny_model)))
    (told,) = convert(place, tmp_path / "out", "original")
    assert told.report.counts == {"bound": len(state)}
    assert "norm_final.weight" in load_file(tmp_path / "out" / told.file)
    (told,) = convert(place, tmp_path / "out2", "diffusers")
    assert told.report.dropped == {
        prefix + "norm_final.weight": "stored by the original, read by nothing"
    }


def test_float_dtypes_are_cast_and_kept(tiny_model: Path, tmp_path: Path) -> None:
    written(tiny_model, tmp_path / "half", "diffusers", "bfloat16")
    half = open_checkpoint(tmp_path / "half")
    assert {dtype for p in half.components for dtype in p.store.dtypes().values()} == {"BF16"}
    want = {k: v.bfloat16().float() for k, v in tensors_of(open_checkpoint(tiny_model)).items()}
    assert same(tensors_of(half), want)
    written(tmp_path / "half", tmp_path / "kept", "single-file")
    kept = open_checkpoint(tmp_path / "kept")
    assert {dtype for p in kept.components for dtype in p.store.dtypes().values()} == {"BF16"}
    assert same(tensors_of(kept), want)


@pytest.mark.parametrize("storage", ["int8", "int4", "float8_e4m3"])
def test_quantised_tensors_are_unfolded(storage: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(streaming, "PART", 100)  # a few rows at a time
    torch.manual_seed(0)
    from sakuga.model.nextdit import NextDiT

    module = NextDiT(TINY.transformer)
    save_component(tmp_path / "small", TINY.transformer, module.state_dict(), storage)
    part = open_component(tmp_path / "small")
    assert read_storage_metadata(part.store.metadata)
    bind(module, part)
    (told,) = convert(tmp_path / "small", tmp_path / "out", "original")
    assert {"dequantised", "scale"} <= told.report.counts.keys()
    assert same(load_file(tmp_path / "out" / told.file), module.state_dict())


def adapted(folder: Path, state: Mapping[str, Tensor], alpha: float) -> None:
    """Official Jina: two adapters in the file, the second of which the config asks for."""
    torch.manual_seed(1)
    tensors = {"logit_scale": torch.tensor(2.0), "vision_model.x": torch.ones(2)}
    for key, value in state.items():
        stem, _, leaf = key.rpartition(".")
        if leaf == "bias" or value.dim() < 2:
            tensors[key] = value
            continue
        rows, columns = value.shape
        name = f"{stem}.parametrizations.weight"
        a, b = ((rows, 4), (4, columns)) if "embeddings" in key else ((4, columns), (rows, 4))
        tensors[f"{name}.original"] = value
        tensors[f"{name}.0.lora_A"] = torch.randn(2, *a)
        tensors[f"{name}.0.lora_B"] = torch.randn(2, *b)
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    text = {
        "default_lora_task": "retrieval.query",
        "num_attention_heads": 2,
        "hf_model_config_kwargs": {
            "lora_adaptations": ["other", "retrieval.query"],
            "lora_rank": 4,
            "lora_alpha": alpha,
        },
    }
    write_json(folder / "config.json", {"text_config": text})


def test_official_jina_is_written_with_its_adapter_baked_in(
    tiny_model: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(streaming, "PART", 100)
    written(tiny_model / "text_encoder_2", tmp_path / "plain", "original")
    state = load_file(tmp_path / "plain" / "model.safetensors")
    adapted(tmp_path / "adapted", state, alpha=2.0)
    part = open_component(tmp_path / "adapted")
    assert part.match.layout == JINA_OFFICIAL
    assert part.match.adapter == BakedAdapter(1, 0.5)
    (told,) = convert(tmp_path / "adapted", tmp_path / "out", "original")
    assert set(told.report.dropped) == {"logit_scale", "vision_model.x"}
    assert told.report.counts["baked"] == 3 * sum(value.dim() == 2 for value in state.values())
    source, baked = load_file(tmp_path / "adapted" / "model.safetensors"), load_file(
        tmp_path / "out" / told.file
    )  # fmt: skip
    for key, value in state.items():
        name = key.removesuffix("weight") + "parametrizations.weight.0.lora_"
        if name + "A" not in source:
            assert torch.equal(baked[key], value)
            continue
        a, b = source[name + "A"][1], source[name + "B"][1]
        product = a @ b if "embeddings" in key else b @ a
        torch.testing.assert_close(baked[key], value + 0.5 * product, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        {"lora_alpha": -1, "lora_rank": 4},
        {"lora_alpha": 1, "lora_rank": 0},
        {"lora_alpha": "much"},
        {"lora_adaptations": ["separation"]},
    ],
)
def test_adapters_that_make_no_sense_are_refused(
    config: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    written(tiny_model / "text_encoder_2", tmp_path / "plain", "original")
    adapted(tmp_path / "x", load_file(tmp_path / "plain" / "model.safetensors"), 1.0)
    write_json(tmp_path / "x" / "config.json", config)
    with pytest.raises(Exception, match="lora_") as caught:
        open_component(tmp_path / "x")
    assert type(caught.value).__name__ == "SpecMismatch"


def test_the_tokenizer_in_a_tensor_goes_along(tiny_model: Path, tmp_path: Path) -> None:
    written(tiny_model, tmp_path / "single", "single-file")
    for name in ("gemma", "jina"):
        file = tmp_path / "single" / "text_encoders" / f"{name}.safetensors"
        metadata = Store.open(file).metadata
        pieces = torch.tensor(list(name.encode()), dtype=torch.uint8)
        save_file(load_file(file) | {"spiece_model": pieces}, file, metadata)
    told = written(tmp_path / "single", tmp_path / "folders", "diffusers")
    assert all(set(each.report.dropped) <= {"spiece_model"} for each in told)
    assert (tmp_path / "folders" / "tokenizer" / "tokenizer.model").read_bytes() == b"gemma"
    jina = tmp_path / "folders" / "tokenizer_2" / "sentencepiece.bpe.model"
    assert jina.read_bytes() == b"jina"
    assert not list((tmp_path / "folders" / "text_encoder").glob("*.model"))
    written(tmp_path / "single", tmp_path / "again", "single-file")
    file = tmp_path / "again" / "text_encoders" / "jina.safetensors"
    assert bytes(Store.open(file).view("spiece_model")) == b"jina"


def test_every_file_is_in_the_manifest(tiny_model: Path, tmp_path: Path) -> None:
    told = written(tiny_model, tmp_path / "out", "diffusers")
    files = json.loads((tmp_path / "out" / "manifest.json").read_text())["files"]
    assert set(files) == files_in(tmp_path / "out") - {"manifest.json"}
    for name, promise in files.items():
        data = (tmp_path / "out" / name).read_bytes()
        assert promise == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    assert {each.file: each.sha256 for each in told}.items() <= {
        name: promise["sha256"] for name, promise in files.items()
    }.items()


def test_provisional_names_are_marked(tiny_model: Path, tmp_path: Path) -> None:
    (told,) = convert(tiny_model / "transformer", tmp_path / "out", "diffusers")
    assert len(told.provisional) == 5
    assert "time_text_embed.1.weight" in str(told)
    metadata = Store.open(tmp_path / "out").metadata
    assert metadata["sakuga.provisional"].split() == list(told.provisional)


def test_what_is_there_stays(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    written(tiny_model, out, "diffusers")
    before = {name: (out / name).read_bytes() for name in files_in(out)}
    with pytest.raises(OutputExists, match="--force"):
        written(tiny_model, out, "diffusers", "bfloat16")
    with pytest.raises(OutputExists, match="one layout"):
        list(convert(tiny_model, out, "single-file", force=True))
    assert {name: (out / name).read_bytes() for name in files_in(out)} == before
    (out / "notes.txt").write_text("mine")
    list(convert(tiny_model, out, "diffusers", "bfloat16", force=True))
    assert files_in(out) == {*before, "notes.txt"}
    assert same(
        tensors_of(open_checkpoint(out)),
        {k: v.bfloat16().float() for k, v in tensors_of(open_checkpoint(tiny_model)).items()},
    )
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


class Killed(BaseException):
    """Nothing runs after it in a process that was killed."""


def test_a_killed_replacement_never_mixes_old_and_new(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before each change to the disk in turn, until one conversion comes through."""
    out, aside = tmp_path / "out", tmp_path / "old"
    written(tiny_model / "vae", aside, "diffusers")
    (aside / "notes").mkdir()
    (aside / "notes" / "mine.txt").write_text("mine")
    (aside / "link.txt").symlink_to("notes/mine.txt")
    written(tiny_model / "vae", tmp_path / "new", "diffusers", "bfloat16")
    old = contents(aside)
    new = old | contents(tmp_path / "new")
    seen = []
    for deadline in range(99):
        shutil.copytree(aside, out, symlinks=True)
        with monkeypatch.context() as patch:
            killing(patch, deadline)
            try:
                convert(tiny_model / "vae", out, "diffusers", "bfloat16", force=True)
                ended = True
            except Killed:
                ended = False
        seen.append(contents(out) if out.exists() else None)
        assert seen[-1] in (old, new, None)
        if ended:
            break
        if not out.exists():  # what was there lies beside it, whole
            (kept,) = tmp_path.glob(".out.*.old")
            assert contents(kept) == old
        for path in (out, *tmp_path.glob(".out.*")):
            shutil.rmtree(path, ignore_errors=True)
    assert seen[-1] == new
    assert (out / "link.txt").is_symlink()
    assert seen.count(None) == 1  # the moment between two renames
    assert {path.name for path in tmp_path.iterdir()} == {"out", "old", "new"}


def killing(patch: pytest.MonkeyPatch, deadline: int) -> None:
    """Let a process be killed before its next change of names on the disk but `deadline`."""
    left = [deadline]

    def mortal(module: Any, name: str) -> None:
        change = getattr(module, name)

        def attempt(*args: Any, **how: Any) -> Any:
            if left[0] <= 0:
                left[0] = -1
                raise Killed
            left[0] -= 1
            return change(*args, **how)

        patch.setattr(module, name, attempt)

    for name in ("rename", "replace", "link", "unlink"):
        mortal(os, name)
    mortal(shutil, "rmtree")


@pytest.mark.parametrize(
    ("trouble", "told"),
    [(PermissionError(13, "Permission denied"), SakugaError), (KeyboardInterrupt(), None)],
)
def test_a_folder_that_cannot_be_replaced_stays(
    trouble: BaseException,
    told: type | None,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    written(tiny_model / "vae", out, "diffusers")
    old, rename = contents(out), os.rename

    def refuse(source: Path, target: Path) -> None:
        if Path(target) == out and not str(source).endswith(".old"):
            raise trouble
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(told or type(trouble), match=f"denied for {out}" if told else None):
        convert(tiny_model / "vae", out, "diffusers", "bfloat16", force=True)
    assert contents(out) == old
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_is_replaced_through_a_link_and_without_hard_links(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tiny_model / "vae", tmp_path / "disk" / "real", "diffusers")
    (tmp_path / "disk" / "real" / "notes.txt").write_text("mine")
    (tmp_path / "out").symlink_to("disk/real")

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    convert(tiny_model / "vae", tmp_path / "out", "diffusers", "bfloat16", force=True)
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert set(Store.open(tmp_path / "out").dtypes().values()) == {"BF16"}
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["real"]


@pytest.mark.parametrize(
    "out", ["{file}/x.safetensors", "{file}/x", "{long}", "{long}.safetensors"]
)
def test_a_place_where_nothing_can_be_written(out: str, tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    place = tmp_path / out.format(file=file, long="n" * 300)
    with pytest.raises(SakugaError, match="weights must be written whole") as caught:
        convert(tiny_model / "vae", place, "original")
    assert type(caught.value) is SakugaError
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["tokenizer", "tokenizer_2"])
@pytest.mark.parametrize(
    "text", ["{}", "[" * 100_000, '{"model":{"type":"BPE","vocab":{},"merges":[]}}']
)
def test_a_broken_tokenizer_is_refused_before_anything_is_written(
    text: str, name: str, tiny_model: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "in"))
    (model / name / "tokenizer.json").write_text(text)
    with pytest.raises((CorruptFile, SpecMismatch)):
        convert(model, tmp_path / "a" / "out", "original")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_dtypes_that_are_written_are_told(tiny_model: Path, tmp_path: Path) -> None:
    for asked, told in {
        "q5": f"Known: keep, float32, float16, bfloat16, {COMFY}.",
        "int8": "Did you mean 'comfy_int8'?",
        "bf16": "Did you mean 'bfloat16'?",
    }.items():
        with pytest.raises(RequestError) as caught:
            convert(tiny_model / "vae", tmp_path / "out", "original", asked)
        assert caught.value.fix == told


def test_a_conversion_onto_itself_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    written(tiny_model, tmp_path / "out", "single-file")
    file = tmp_path / "out" / "vae" / "ae.safetensors"
    for source, out in ((tmp_path / "out", tmp_path / "out"), (file, file), (file.parent, file)):
        with pytest.raises(RequestError, match="itself"):
            list(convert(source, out, "single-file", force=True))


@pytest.mark.parametrize(
    ("source", "out", "error"),
    [
        ("", "a.safetensors", RequestError),
        ("vae", "there", OutputExists),
        ("vae", "there.safetensors", OutputExists),
        ("nowhere", "out", ModelNotFound),
        ("tokenizer", "out", ModelNotFound),
    ],
)
def test_places_that_make_no_sense(
    source: str, out: str, error: type, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "there").write_text("a file")
    (tmp_path / "there.safetensors").mkdir()
    with pytest.raises(error):
        list(convert(tiny_model / source, tmp_path / out, "original", force=True))
    assert {path.name for path in tmp_path.iterdir()} == {"there", "there.safetensors"}


@pytest.mark.parametrize(
    ("name", "layout", "dtype"),
    [
        ("vae", "diffuser", "keep"),
        ("vae", "original", "int8"),
        ("vae", "original", "float33"),
        ("text_encoder", "original", "float16"),
    ],
)
def test_layouts_and_dtypes_that_are_not_written(
    name: str, layout: str, dtype: str, tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(RequestError):
        written(tiny_model / name, tmp_path / "out", layout, dtype)
    assert list(tmp_path.iterdir()) == []


def spoiled(tiny_model: Path, folder: Path, key: str, value: float) -> Path:
    """The tiny transformer with one value changed."""
    (source,) = (tiny_model / "transformer").glob("*.safetensors")
    state = load_file(source)
    state[key].view(-1)[7] = value
    folder.mkdir()
    shutil.copy(source.parent / "config.json", folder)
    save_file(state, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named_and_not_written(
    value: float, tiny_model: Path, tmp_path: Path
) -> None:
    source = spoiled(tiny_model, tmp_path / "in", "layers.1.attention.qkv.weight", value)
    with pytest.raises(CorruptFile, match=r"layers\.1\.attention\.qkv\.weight"):
        written(source, tmp_path / "out", "diffusers")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_values_too_large_for_a_dtype_are_told_from_broken_ones(
    tiny_model: Path, tmp_path: Path
) -> None:
    source = spoiled(tiny_model, tmp_path / "in", "x_embedder.weight", 1e6)
    with pytest.raises(RequestError, match=r"float16.*x_embedder\.weight.*bfloat16"):
        written(source, tmp_path / "out", "original", "float16")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    written(source, tmp_path / "out", "original", "bfloat16")


def test_a_key_that_nothing_explains_stops_it(tiny_model: Path, tmp_path: Path) -> None:
    (source,) = (tiny_model / "vae").glob("*.safetensors")
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / "vae.safetensors"
    save_file(load_file(source) | {"quant_conv.weight": torch.ones(3)}, file)
    config = (tiny_model / "vae" / "config.json").read_text()
    (tmp_path / "in" / "config.json").write_text(config)
    with pytest.raises(BindError, match=r"quant_conv\.weight"):
        written(file, tmp_path / "out", "original")
    save_file({"what": torch.ones(3)}, file)
    with pytest.raises(LayoutError, match="what"):
        written(file, tmp_path / "out", "original")


def test_stopping_leaves_nothing(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        assert [path.name[:5] for path in tmp_path.iterdir()] == [".out."]
        raise KeyboardInterrupt

    monkeypatch.setattr(converting, "write_manifest", stop)
    with pytest.raises(KeyboardInterrupt):
        convert(tiny_model, tmp_path / "out", "diffusers")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_known_before_anything_is_written(
    tiny_model: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(RequestError, match="1,000 free"):
        written(tiny_model, tmp_path / "out", "diffusers")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_memory_holds_parts_of_tensors_whatever_their_size(tmp_path: Path) -> None:
    """A file of 0.8 GB, most of it one tensor: all zeros, so that it takes no room on the disk."""
    layers, wide, inner, rows = 4, 1024, 8192, 2**17
    config = {
        "vocab_size": rows, "hidden_size": wide, "intermediate_size": inner, "head_dim": 8,
        "num_hidden_layers": layers + 1, "num_attention_heads": 2, "num_key_value_heads": 1,
        "model_type": "gemma3_text",
    }  # fmt: skip
    write_json(tmp_path / "config.json", config)
    spec = read_spec(FAMILIES["text_encoder"], config, "config.json", {}, "none")
    header, end = {}, 0
    for weight in weights_of(spec):
        start, end = end, end + 4 * torch.Size(weight.shape).numel()
        header[weight.key] = {
            "dtype": "F32", "shape": weight.shape, "data_offsets": [start, end],
        }  # fmt: skip
    text = json.dumps(header).encode()
    text += b" " * (1 - len(text) % 4)  # so that no value lies where a card or CPU wants it
    with (tmp_path / "model.safetensors").open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + end)
    script = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from sakuga.commands.convert import convert\n"
        "status = Path('/proc/self/status')\n"
        "peak = lambda: 1024 * int(re.search('VmHWM:\\\\s+(\\\\d+)', status.read_text())[1])\n"
        "before = peak()\n"
        "list(convert(Path(sys.argv[1]), Path(sys.argv[2]), 'single-file', 'bfloat16'))\n"
        "print(before, peak())\n"
    )
    command = [sys.executable, "-c", script, tmp_path, tmp_path / "out.safetensors"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    before, peak = map(int, said.stdout.split())
    largest = 4 * rows * wide
    assert end > largest + 2**28
    assert peak - before <= 2**27  # a part is 2**24 bytes, and there are a few of them
    assert peak <= 1.5 * largest + 2**29


def test_torch_archives_in_a_model_s_folder_are_converted_by_the_command_that_is_named(
    tiny_model: Path, tmp_path: Path
) -> None:
    """As in ready-made images: models/dit.pt and vae.pt, clip_model/ beside them."""
    old, first = tmp_path / "old", open_checkpoint(tiny_model)
    shutil.copytree(tiny_model, old)
    (old / "text_encoder_2").rename(old / "clip_model")
    (old / "transformer").rename(old / "models")
    (weights,) = (old / "models").glob("*.safetensors")
    torch.save({"model": load_file(weights)}, old / "models" / "dit.pt")
    weights.unlink()
    with pytest.raises(ModelNotFound, match="old-safetensors --layout diffusers"):
        open_checkpoint(old)
    advice = {each.check: each.remedy for each in parts(old) if each.colour == "red"}
    assert advice.keys() == {"transformer"}
    assert f"`sakuga convert {old} old-safetensors --layout diffusers`" in advice["transformer"]
    written(old, tmp_path / "new", "diffusers")
    assert same(tensors_of(open_checkpoint(tmp_path / "new")), tensors_of(first))
