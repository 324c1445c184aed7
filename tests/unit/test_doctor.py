"""The doctor on sound and on broken models: a red line for each fault, and never a crash."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf_file import write_gguf
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_gguf_model import as_gguf

from effort import examples
from sakuga.checkpoint.bind import plan_binding
from sakuga.checkpoint.folder import open_checkpoint
from sakuga.checkpoint.manifest import MANIFEST, read_manifest, write_manifest
from sakuga.commands.convert import convert
from sakuga.commands.doctor import values as doctor_values
from sakuga.commands.doctor.computer import computer, disk
from sakuga.commands.doctor.examine import Visit, examine
from sakuga.commands.doctor.files import parts, whole
from sakuga.commands.doctor.finding import Diagnosis, green, red, trouble
from sakuga.commands.doctor.graphics import has_kernels
from sakuga.commands.doctor.room import room
from sakuga.commands.doctor.values import CHUNK, examine_values, pieces
from sakuga.commands.doctor.words import tokenizers
from sakuga.errors import CorruptFile
from sakuga.memory.host import host_memory
from sakuga.model.inventory import inventory_of
from sakuga.model.spec import NEWBIE_3_5B
from sakuga.weights.formats import ITEMSIZE
from sakuga.weights.gguf import BLOCKS
from sakuga.weights.header import TensorInfo
from sakuga.weights.store import Store

TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"
GEMMA = "text_encoder/model.safetensors"
JINA = "text_encoder_2/model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A tiny model of one's own, to be broken."""
    return Path(shutil.copytree(tiny_model, tmp_path / "tiny"))


def examined(model: Path | str, **how: Any) -> list[Diagnosis]:
    return list(examine(Visit(str(model), device="cpu", **{"draw": False, **how})))


def reds(findings: list[Diagnosis]) -> dict[str, str]:
    """What is red, by check; every red line names its remedy."""
    return {one.check: f"{one.says} -> {one.remedy}" for one in findings if one.colour == "red"}


def rewrite(file: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Write a safetensors file again, with other tensors."""
    with safe_open(file, "pt") as old:
        metadata = old.metadata()
    tensors = {key: value.clone() for key, value in load_file(file).items()}
    change(tensors)
    save_file(tensors, file, metadata)


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def swap(first: Path, second: Path) -> None:
    aside = first.with_name("aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


def test_a_sound_model_has_no_red_line_and_draws(tiny_model) -> None:
    findings = examined(tiny_model, draw=True)
    assert reds(findings) == {}
    said = {one.check: one.says for one in findings}
    assert list(said)[:4] == ["python", "libraries", "memory", "disk"]
    assert {"transformer", "text_encoder", "text_encoder_2", "vae", "model"} <= set(said)
    assert {"tokenizer", "tokenizer_2", "torch", "attention", "values"} <= set(said)
    assert said["drawing"].startswith("32x32, 1 step on cpu")
    assert "NextDiT, original names" in said["transformer"]
    assert "torch's flash kernel for 2 heads of 16, 1 for keys" in said["attention"]
    assert findings[-1].check == "drawing"


def test_the_key_report_is_the_one_of_binding(tiny_model) -> None:
    """Two implementations: names from arithmetic here, from the modules there."""
    from sakuga.engine.networks import BUILDERS
    from sakuga.model.text import GemmaEncoder, JinaEncoder

    said = {one.check: one.says for one in examined(tiny_model)}
    for part in open_checkpoint(tiny_model).components:
        with torch.device("meta"):
            module = BUILDERS[part.name](part.spec)
        inner = module.model if isinstance(module, GemmaEncoder | JinaEncoder) else module
        report = plan_binding(inner, part).report
        bound = len(report.entries) - len(report.dropped)
        assert f"{bound} tensors bound" in said[part.name]


@pytest.mark.parametrize("layout", ["single-file", "original", "diffusers"])
def test_every_layout_is_understood_and_held_against_its_manifest(
    tiny_model, tmp_path, layout
) -> None:
    for _ in convert(tiny_model, tmp_path / "out", layout):
        pass
    findings = examined(tmp_path / "out", hash=True, draw=True)
    assert reds(findings) == {}
    assert [one.colour for one in findings if one.check == "hashes"] == ["green"]


def test_a_model_kept_as_gguf_is_sound(model) -> None:
    as_gguf(model)
    findings = examined(model, scan=True)
    assert reds(findings) == {}
    assert "llama.cpp names" in next(one.says for one in findings if one.check == "text_encoder")


@pytest.mark.parametrize("name", ["transformer", "text_encoder", "text_encoder_2", "vae"])
def test_a_missing_folder(model, name) -> None:
    shutil.rmtree(model / name)
    assert list(reds(examined(model))) == [name]


@pytest.mark.parametrize("file", [TRANSFORMER, GEMMA, JINA, VAE])
def test_a_truncated_file(model, file) -> None:
    os.truncate(model / file, (model / file).stat().st_size - 10)
    found = reds(examined(model))
    assert list(found) == [file.split("/", maxsplit=1)[0]]
    assert "cut short" in found[file.split("/", maxsplit=1)[0]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("file", [TRANSFORMER, VAE])
def test_numbers_that_are_not_finite(model, file, value) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors[sorted(tensors)[5]].view(-1)[-1] = value

    rewrite(model / file, spoil)
    (component,) = (part for part in ("transformer", "vae") if file.startswith(part))
    found = reds(examined(model))
    assert list(found) == [component]
    assert "NaN or infinity in" in found[component]


def test_a_large_model_is_sampled_unless_all_is_asked_for(model, monkeypatch) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        """In the second eighth of a tensor, where no probe of four falls."""
        numbers = tensors["decoder.mid_block.resnets.0.conv1.weight"].view(-1)
        numbers[numbers.numel() // 6] = float("nan")

    rewrite(model / VAE, spoil)
    monkeypatch.setattr(doctor_values, "QUICK", 1 << 15)
    quick, full = examined(model), examined(model, scan=True)
    (said,) = (one.says for one in quick if one.check == "values")
    assert said.endswith("were looked at, some of every tensor; --scan reads all")
    assert reds(quick) == {}
    assert list(reds(full)) == ["vae"]
    (said,) = (one.says for one in full if one.check == "values")
    assert said.startswith("all numbers of ")


def test_a_scale_that_is_not_finite(model, tmp_path) -> None:
    from sakuga.checkpoint.save import save_component

    part = open_checkpoint(model).transformer
    tensors = load_file(model / TRANSFORMER)
    save_component(model / "transformer", part.spec, tensors, "int4")
    rewrite(
        model / TRANSFORMER,
        lambda stored: stored["layers.0.attention.qkv.weight.scale"].fill_(float("inf")),
    )
    assert "layers.0.attention.qkv.weight.scale" in reds(examined(model))["transformer"]


def test_a_matrix_of_zeros_is_worth_knowing(model) -> None:
    rewrite(model / VAE, lambda tensors: tensors["decoder.conv_in.weight"].zero_())
    findings = examined(model)
    assert reds(findings) == {}
    (found,) = (one for one in findings if one.colour == "yellow" and one.check == "vae")
    assert "nothing but zeros in decoder.conv_in.weight" in found.says


def test_a_network_of_zeros_computes_nothing(model) -> None:
    def empty(tensors: dict) -> None:
        for tensor in tensors.values():
            if tensor.dim() > 1:
                tensor.zero_()

    rewrite(model / VAE, empty)
    assert "nothing but zeros in all" in reds(examined(model))["vae"]


def test_swapped_components(model) -> None:
    swap(model / "transformer", model / "vae")
    found = reds(examined(model))
    assert set(found) == {"transformer", "vae"}
    assert "FLUX autoencoder" in found["transformer"]


def test_swapped_tokenizers(model) -> None:
    swap(model / "tokenizer", model / "tokenizer_2")
    found = reds(examined(model))
    assert set(found) == {"tokenizer", "tokenizer_2"}
    assert "an empty text is [0, 2]" in found["tokenizer"]


def test_a_tokenizer_with_more_words_than_the_encoder_has_rows(model) -> None:
    file = model / "tokenizer_2" / "tokenizer.json"
    data = json.loads(file.read_text())
    data["model"]["vocab"] |= {f"word{i}": 512 + i for i in range(9)}
    file.write_text(json.dumps(data))
    assert "521 tokens for 512 rows" in reds(examined(model))["tokenizer_2"]


def test_a_tokenizer_that_loses_words(model) -> None:
    file = model / "tokenizer" / "tokenizer.json"
    data = json.loads(file.read_text())
    data["normalizer"] = {"type": "Replace", "pattern": {"String": "blue"}, "content": "red"}
    file.write_text(json.dumps(data))
    assert "comes back as" in reds(examined(model))["tokenizer"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": "1.0"}', "\0\1"])
def test_a_tokenizer_that_is_none(model, text) -> None:
    (model / "tokenizer" / "tokenizer.json").write_text(text)
    (model / "tokenizer_2" / "tokenizer.json").unlink()
    assert set(reds(examined(model))) == {"tokenizer", "tokenizer_2"}


@pytest.mark.parametrize(
    "part",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAAAAAA"}},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "/////w=="}},
        {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
        {"model": {"type": "Unigram", "unk_id": None, "vocab": []}},
    ],
    ids=["no table", "half a table", "no length", "no words"],
)
def test_a_tokenizer_over_which_its_library_panics(model, part) -> None:
    edit(model / "tokenizer" / "tokenizer.json", **part)
    found = reds(examined(model))
    assert list(found) == ["tokenizer"]


def test_a_pipe_is_no_file_and_is_not_waited_for(model) -> None:
    os.mkfifo(model / "config.json")
    assert reds(examined(model, hash=True)) == {}
    (model / "tokenizer" / "tokenizer.json").unlink()
    os.mkfifo(model / "tokenizer" / "tokenizer.json")
    assert list(reds(examined(model))) == ["tokenizer"]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "dit.pt", "clip.ckpt", "model.pth"])
def test_pickles_instead_of_weights(model, name) -> None:
    (model / VAE).rename(model / "vae" / name)
    found = reds(examined(model))
    assert list(found) == ["vae"]
    assert "convert" in found["vae"]


def test_a_pickle_that_calls_itself_safetensors(model) -> None:
    torch.save({"weight": torch.ones(3)}, model / VAE)
    assert "zip archive" in reds(examined(model))["vae"]


def test_keys_that_are_missing_or_too_many(model) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["decoder.conv_out.scale"] = tensors.pop("decoder.conv_out.bias")

    rewrite(model / VAE, change)
    said = reds(examined(model))["vae"]
    assert "missing 'decoder.conv_out.bias'" in said
    assert "unexpected 'decoder.conv_out.scale'" in said


def test_a_tensor_of_another_shape(model) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["decoder.conv_out.bias"] = torch.ones(7)

    rewrite(model / VAE, change)
    assert "'decoder.conv_out.bias' is (7,), not (3,)" in reds(examined(model))["vae"]


def test_parts_of_different_models(model) -> None:
    edit(model / "text_encoder" / "config.json", hidden_size=48)
    assert "text_encoder" in reds(examined(model))


def test_parts_that_do_not_fit_together(model, tmp_path) -> None:
    from dataclasses import replace

    from sakuga.checkpoint.save import save_component
    from sakuga.model.text import JinaEncoder

    spec = replace(open_checkpoint(model).spec.jina, hidden_size=24, num_attention_heads=3)
    save_component(model / "text_encoder_2", spec, JinaEncoder(spec).state_dict())
    said = reds(examined(model))
    assert list(said) == ["model"]
    assert "clip_text_dim 16" in said["model"]


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1, "a": 2}', "{" * 10_000, "\ud800"])
def test_a_config_that_is_none(model, text) -> None:
    data = text.encode("utf-8", "surrogatepass")
    (model / "vae" / "config.json").write_bytes(data)
    assert list(reds(examined(model))) == ["vae"]


def test_a_link_out_of_the_folder(model, tmp_path) -> None:
    (model / VAE).rename(tmp_path / "elsewhere.safetensors")
    (model / VAE).symlink_to(tmp_path / "elsewhere.safetensors")
    assert "leads to" in reds(examined(model))["vae"]


def test_several_faults_are_several_lines(model) -> None:
    shutil.rmtree(model / "vae")
    os.truncate(model / GEMMA, 100)
    (model / "tokenizer_2" / "tokenizer.json").write_text("{}")
    findings = examined(model, draw=True)
    assert set(reds(findings)) == {"vae", "text_encoder", "tokenizer_2"}
    assert (findings[-1].check, findings[-1].colour, findings[-1].says) == (
        "drawing", "yellow", "not tried",
    )  # fmt: skip


def test_a_vocabulary_that_is_none(model) -> None:
    (model / "vocabulary.json").write_text('{"words": [1]}', encoding="utf-8")
    assert list(reds(examined(model))) == ["model"]


def test_code_beside_weights_is_told_and_never_run(model, tmp_path) -> None:
    trap = f"open({str(tmp_path / 'ran')!r}, 'w')"
    (model / "text_encoder_2" / "modeling_clip.py").write_text(trap)
    (model / "text_encoder_2" / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    edit(model / "text_encoder_2" / "config.json", auto_map={"AutoModel": "modeling_clip.Clip"})
    findings = examined(model, draw=True)
    assert reds(findings) == {}
    (said,) = (one.says for one in findings if one.check == "other files")
    code = "text_encoder_2/modeling_clip.py, auto_map in text_encoder_2/config.json"
    assert f"code ({code})" in said
    assert "pickles (text_encoder_2/pytorch_model.bin)" in said
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["nothing/here", "nothing", "newbie-3.5b", "a\0b"])
def test_a_model_that_is_not_there(name) -> None:
    findings = examined(name)
    assert list(reds(findings)) == ["model"]
    assert findings[-1].check == "attention"  # what can be said without a model is said


def test_a_device_that_is_not_there(tiny_model) -> None:
    findings = list(examine(Visit(str(tiny_model), device="cuda:77")))
    assert "a device must be" in reds(findings)["torch"]


def test_a_check_that_fails_is_a_red_line() -> None:
    assert trouble("torch", ImportError("no libcudart")).remedy.startswith("Install it again")
    assert "Report this line" in trouble("torch", ValueError("odd")).remedy
    assert trouble("vae", PermissionError(13, "denied")).colour == "red"


def test_what_is_red_must_name_its_remedy() -> None:
    with pytest.raises(ValueError, match="no remedy"):
        Diagnosis("vae", "red", "broken")
    assert green("vae", "sound").remedy == ""
    assert red("vae", "broken", "Mend it.").remedy == "Mend it."


def test_the_computer_is_described(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert [one.check for one in computer()] == ["python", "libraries", "memory", "disk"]
    total, free = host_memory()
    assert 0 < free <= total
    assert str(tmp_path) in disk(tmp_path).says


def test_a_card_is_asked_whether_a_picture_fits() -> None:
    inventory = inventory_of(NEWBIE_3_5B)
    fits = room(inventory, "NVIDIA GeForce RTX 4060 Ti", 8 * 10**9, "bfloat16")
    assert fits.colour == "green"
    assert fits.says.startswith("1024x1024 in bfloat16 takes ")
    full = room(inventory, "NVIDIA GeForce RTX 4060 Ti", 10**8, "bfloat16")
    assert full.colour == "yellow"
    assert full.says.startswith("1024x1024 does not fit 100 MB: this drawing needs")


@pytest.mark.parametrize(
    ("built", "card", "runs"),
    [
        (["sm_80", "sm_90"], (8, 6), True),  # machine code runs on later members of its generation
        (["sm_86"], (8, 0), False),
        (["sm_80", "sm_90"], (7, 5), False),
        (["sm_80", "compute_90"], (12, 0), True),  # and intermediate code on all later cards
        (["sm_80", "compute_90"], (8, 9), True),
        (["compute_90"], (8, 9), False),
        (["sm_90a", "sm_100", "sm_120"], (12, 0), True),
        (["sm_100"], (12, 0), False),
        (["gfx90a"], (9, 0), False),
        ([], (9, 0), True),
    ],
)
def test_a_card_needs_kernels_built_for_it(built, card, runs) -> None:
    assert has_kernels(built, *card) is runs


# Hashes


def hashes(model: Path) -> list[Diagnosis]:
    return [one for one in examined(model, hash=True) if one.check == "hashes"]


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_without_a_manifest_the_hashes_are_told(model) -> None:
    (finding,) = hashes(model)
    assert finding.colour == "yellow"
    assert f"vae/{Path(VAE).name} {digest(model / VAE)}" in finding.says


def test_a_manifest_is_held_against_every_file(model) -> None:
    write_manifest(model, [model / name for name in (TRANSFORMER, GEMMA, JINA, VAE)])
    (finding,) = hashes(model)
    assert (finding.colour, finding.says[:27]) == ("green", "4 files are as promised, 1 ")
    rewrite(model / VAE, lambda tensors: tensors["decoder.conv_in.bias"].add_(1))
    bad, rest = hashes(model)
    assert bad.colour == "red"
    assert bad.says.startswith(f"{VAE} is {digest(model / VAE)[:16]}")
    assert rest.says.startswith("3 files are as promised")


def test_small_files_are_held_against_their_manifest_unasked(model) -> None:
    (said,) = (one.says for one in examined(model) if one.check == "hashes")
    assert said.endswith("not compared with their digests; --hash does")
    write_manifest(model, [model / VAE])
    rewrite(model / VAE, lambda tensors: tensors["decoder.conv_in.bias"].add_(1))
    assert list(reds(examined(model))) == ["hashes"]


def test_a_file_that_the_manifest_promises_is_there(model) -> None:
    write_manifest(model, [*(model / name for name in (GEMMA, VAE)), model / "model_index.json"])
    (model / "model_index.json").unlink()
    found = hashes(model)
    assert [one.colour for one in found] == ["red", "green", "yellow"]
    assert found[0].says == "model_index.json is missing, which manifest.json promises"


def test_a_manifest_reads_as_it_was_written(model) -> None:
    wrote = write_manifest(model, [model / VAE])
    assert read_manifest(model) == wrote
    form = json.loads((model / MANIFEST).read_text())
    size = (model / VAE).stat().st_size
    assert form == {"files": {VAE: {"sha256": digest(model / VAE), "bytes": size}}}


@pytest.mark.parametrize(
    "files",
    [
        [],
        {"vae": 3},
        {"../secret": {"sha256": "a" * 64, "bytes": 1}},
        {"vae/../../secret": {"sha256": "a" * 64, "bytes": 1}},
        {"/etc/passwd": {"sha256": "a" * 64, "bytes": 1}},
        {"C:\\secret": {"sha256": "a" * 64, "bytes": 1}},
        {"": {"sha256": "a" * 64, "bytes": 1}},
        {"vae/config.json": {"sha256": "xyz", "bytes": 1}},
        {"vae/config.json": {"sha256": "a" * 64}},
    ],
)
def test_a_manifest_that_is_none_is_refused(model, files) -> None:
    (model / MANIFEST).write_text(json.dumps({"files": files}))
    with pytest.raises(CorruptFile, match=r"a manifest maps.*manifest\.json"):
        read_manifest(model)
    assert list(reds(examined(model, hash=True))) == ["hashes"]


def test_a_link_that_a_manifest_promises_stays_inside(model, tmp_path) -> None:
    (tmp_path / "secret").write_text("s")
    (model / "notes.json").symlink_to(tmp_path / "secret")
    write_manifest(model, [model / "notes.json"])
    assert "leads to" in reds(examined(model, hash=True))["hashes"]


# Numbers


def test_all_of_a_small_tensor_and_places_of_a_large_one() -> None:
    def ranges(count: int, most: int | None, dtype: str = "F32") -> list[tuple[int, int]]:
        size = count * {"F32": 4, "I8": 1}[dtype]
        return list(pieces(TensorInfo(dtype, (count,), size, Path("a"), 8), most))

    assert ranges(10, None) == ranges(10, 40) == [(0, 40)]
    assert ranges(0, None) == []
    assert ranges(1000, 80) == [(0, 20), (1324, 1344), (2652, 2672), (3980, 4000)]
    assert ranges(1000, 2) == [(0, 4), (1332, 1336), (2664, 2668), (3996, 4000)]
    assert ranges(CHUNK + 1, None, "I8") == [(0, CHUNK), (CHUNK, CHUNK + 1)]


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"])
def test_numbers_are_read_in_every_width_and_wherever_they_lie(tmp_path, dtype) -> None:
    bad = {
        "F64": struct.pack("<d", float("nan")), "F32": struct.pack("<f", float("-inf")),
        "F16": b"\x00\x7c", "BF16": b"\x80\x7f", "F8_E4M3": b"\x7f", "F8_E5M2": b"\x7c",
    }[dtype]  # fmt: skip
    width = len(bad)
    lead = 3  # so that nothing lies where its type would like it to
    header = {
        "lead": {"dtype": "I8", "shape": [lead], "data_offsets": [0, lead]},
        "good": {"dtype": dtype, "shape": [3, 1], "data_offsets": [lead, lead + 3 * width]},
        "bad": {
            "dtype": dtype, "shape": [3], "data_offsets": [lead + 3 * width, lead + 6 * width],
        },
    }  # fmt: skip
    text = json.dumps(header).encode()
    data = b"\1" * lead + bytes(3 * width) + bytes(width) + bad + bytes(width)
    file = tmp_path / "a.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)
    health = examine_values(Store.open(file))
    assert (health.looked, health.broken, health.empty) == (lead + 6 * width, ("bad",), ("good",))


@pytest.mark.parametrize("dtype", ["BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"])
def test_whole_numbers_are_asked_for_zero_alone(tmp_path, dtype) -> None:
    width = ITEMSIZE[dtype]
    header = {
        "full": {"dtype": dtype, "shape": [1, 2], "data_offsets": [0, 2 * width]},
        "empty": {"dtype": dtype, "shape": [1, 2], "data_offsets": [2 * width, 4 * width]},
    }
    text = json.dumps(header).encode()
    data = bytes(2 * width - 1) + b"\1" + bytes(2 * width)
    file = tmp_path / "a.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)
    health = examine_values(Store.open(file))
    assert (health.broken, health.empty) == ((), ("empty",))


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_K", "Q6_K"])
def test_numbers_in_blocks_are_unfolded(tmp_path, kind) -> None:
    block = BLOCKS[kind]
    values = np.random.default_rng(0).normal(size=(4, 2 * block.values)).astype(np.float32)
    tensors = {"good": (kind, values), "bad": (kind, values), "empty": (kind, 0 * values)}
    file = tmp_path / "a.gguf"
    write_gguf(file, {"general.architecture": "x"}, tensors)
    info = Store.open(file).info("bad")
    with file.open("r+b") as stream:
        at = {"Q6_K": 208}.get(kind, 0)  # where a block keeps its scale, a float16
        stream.seek(info.start + info.nbytes - block.nbytes + at)
        stream.write(b"\x00\x7e")
    health = examine_values(Store.open(file))
    assert (health.broken, health.empty) == (("bad",), ("empty",))
    assert examine_values(Store.open(file), most=100).broken == ("bad",)


# Anything at all


@settings(max_examples=examples(40), deadline=None)
@given(data=st.data())
def test_no_damage_makes_it_raise(tiny_model, tmp_path_factory, data) -> None:
    model = tmp_path_factory.mktemp("damaged") / "tiny"
    shutil.copytree(tiny_model, model)
    files = sorted(path for path in model.rglob("*") if path.is_file())
    file = data.draw(st.sampled_from(files))
    content = bytearray(file.read_bytes())
    first = data.draw(st.integers(0, min(len(content), 4096) - 1))
    content[first : first + data.draw(st.integers(0, 64))] = data.draw(st.binary(max_size=64))
    file.write_bytes(content)

    def looked() -> Iterator[Diagnosis]:
        components = yield from parts(model)
        yield from whole(model, components)
        yield from tokenizers(model, components)

    found: list[Diagnosis] = []
    try:
        found.extend(looked())
    except Exception as error:
        found.append(trouble("model", error))
    assert [one for one in found if "the check itself failed" in one.says] == []
