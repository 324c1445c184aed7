"""Torch archives are read as descriptions: tensors come out, and nothing else happens."""

from __future__ import annotations

import json
import resource
import struct
import time
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import hostile
from hostile import PROGRAMS, beside, state, tensor, torch_zip, zip64
from sakuga.errors import CorruptFile, LayoutError, ModelNotFound, UnsafeFile
from sakuga.weights.archive import WRAPPERS, is_from_torch, open_archive
from sakuga.weights.pickles import read_pickle
from sakuga.weights.sources import open_source
from sakuga.weights.store import Store
from sakuga.weights.zips import read_entries


def save(file: Path, value: Any) -> Path:
    torch.save(value, file)
    return file


def test_a_state_dict_reads_as_a_store(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).bfloat16()
    archive = open_archive(save(tmp_path / "x.pt", module.state_dict()))
    assert isinstance(archive, Store)
    assert archive.shapes() == {k: tuple(v.shape) for k, v in module.state_dict().items()}
    assert archive.info("0.weight").dtype == "BF16"
    assert archive.info("1.num_batches_tracked").shape == ()
    assert archive.files == (tmp_path / "x.pt",)
    assert archive.metadata == {}
    assert archive.dropped == {}
    assert len(archive.sha256()) == 64
    want = module[0].weight.detach().view(torch.uint8).numpy().tobytes()
    assert bytes(archive.view("0.weight")) == want


def test_bind_takes_an_archive_as_it_takes_any_store(tmp_path: Path) -> None:
    from sakuga.checkpoint.bind import read_tensor

    base = torch.arange(12.0).view(3, 4)
    values = {"whole": base, "turned": base.t(), "column": base[:, 1], "none": base[:0]}
    archive = open_archive(save(tmp_path / "x.pt", values))
    for key, value in values.items():
        assert torch.equal(read_tensor(archive, key), value)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_what_lies_beside_a_wrapped_state_dict_is_named(tmp_path: Path, wrapper: str) -> None:
    value = {
        "epoch": 3,
        wrapper: OrderedDict(a=torch.zeros(2), step=7),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-3}]},
    }
    archive = open_archive(save(tmp_path / "x.ckpt", value))
    assert archive.keys() == ("a",)
    assert archive.dropped == {
        "epoch": f"lies beside {wrapper!r}",
        "optimizer": f"lies beside {wrapper!r}",
        "step": "int, not a tensor",
    }


def test_a_state_dict_may_be_wrapped_twice_and_more(tmp_path: Path) -> None:
    value = {
        "module": {"model": {"state_dict": {"a": torch.zeros(2)}, "step": 3}},
        "ds_version": "1",
    }
    archive = open_archive(save(tmp_path / "x.ckpt", value))
    assert archive.keys() == ("a",)
    assert archive.dropped == {
        "ds_version": "lies beside 'module'", "step": "lies beside 'state_dict'"
    }  # fmt: skip


BOTH = {"model": {"a": torch.zeros(2)}, "ema": {"a": torch.ones(2)}, "step": 7, "optimizer": {}}


def test_of_two_state_dicts_one_has_to_be_named(tmp_path: Path) -> None:
    file = save(tmp_path / "x.ckpt", BOTH)
    with pytest.raises(LayoutError, match=r"several: 'model', 'ema' .*--state ema"):
        open_archive(file)
    archive = open_archive(file, state="ema")
    assert bytes(archive.view("a")) == torch.ones(2).numpy().tobytes()
    assert archive.dropped == dict.fromkeys(("model", "step", "optimizer"), "lies beside 'ema'")
    for other in ("step", "optimizer", "weights"):
        with pytest.raises(LayoutError, match=f"no '{other}' among 'model', 'ema', 'step'"):
            open_archive(file, state=other)


def test_a_state_dict_may_be_named_that_has_no_usual_name(tmp_path: Path) -> None:
    value = {
        "generator": {"a": torch.zeros(2)},
        "critic": {"b": torch.zeros(2)},
        "w": torch.ones(1),
    }
    file = save(tmp_path / "x.ckpt", value)
    assert set(open_archive(file)) == {"generator.a", "critic.b", "w"}
    assert set(open_archive(file, state="generator")) == {"a"}


def test_a_state_dict_is_named_of_torch_archives_alone(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "x.safetensors")
    assert set(open_source(tmp_path)) == {"a"}
    with pytest.raises(LayoutError, match="Leave out --state"):
        open_source(tmp_path, state="ema")


def test_a_wrapper_beside_tensors_is_none(tmp_path: Path) -> None:
    value = {"model": {"a": torch.zeros(2)}, "b": torch.ones(2)}
    assert set(open_archive(save(tmp_path / "x.pt", value))) == {"model.a", "b"}


def test_tied_weights_come_twice_from_the_same_bytes(tmp_path: Path) -> None:
    weight = torch.randn(4)
    archive = open_archive(save(tmp_path / "x.pt", {"a": weight, "b": weight, "c": weight[1:]}))
    assert archive.info("a").start == archive.info("b").start == archive.info("c").start - 4
    assert bytes(archive.view("a")) == bytes(archive.view("b"))
    assert bytes(archive.view("c")) == bytes(archive.view("a")[4:])


def test_a_view_never_reaches_the_file(tmp_path: Path) -> None:
    file = save(tmp_path / "x.pt", {"a": torch.zeros(2, 2), "b": torch.zeros(2, 2).t()})
    before = file.read_bytes()
    archive = open_archive(file)
    for key in archive:
        archive.view(key)[0] = 255
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("program", "found"),
    [
        ("os.system", "posix.system"),
        ("os.system, protocol 4", "posix.system"),
        ("eval", "__builtin__.eval"),
        ("INST", "os.system"),
        ("globals of an allowed name", "torch._utils._rebuild_tensor_v2.__globals__"),
        ("torch.load", "torch.load"),
        ("NEWOBJ", "NEWOBJ"),
        ("EXT1", "EXT1"),
        ("a call of a storage", "torch.FloatStorage"),
        ("BUILD of a tensor", "attributes"),
        ("a quantised tensor", "_rebuild_qtensor"),
    ],
)
def test_what_was_found_is_named_with_its_place(tmp_path: Path, program: str, found: str) -> None:
    file = tmp_path / "x.pt"
    code, _ = PROGRAMS[program]
    torch_zip(file, code)
    with pytest.raises(UnsafeFile) as caught:
        open_archive(file)
    assert found in caught.value.got
    assert f"of x/data.pkl in {file}" in caught.value.got
    assert "torch.save" in caught.value.fix
    place = int(caught.value.got.split(" at byte ")[1].split()[0])
    # The instruction at this place is the one that asks for it.
    assert code[place : place + 1] in b"c\x93iob\x81\x82R"


@pytest.mark.parametrize("name", ["legacy pickle.pt", "tar of pickles.pt", "torchscript.pt"])
def test_other_files_of_torch_are_named_with_a_remedy(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    write, _ = hostile.FILES[name]
    write(file)
    with pytest.raises(UnsafeFile, match=r"torch\.save its state dict"):
        open_archive(file)


def test_what_torch_itself_writes_as_legacy_and_script_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.pt"
    torch.save({"a": torch.zeros(2)}, file, _use_new_zipfile_serialization=False)
    with pytest.raises(UnsafeFile, match="bare pickle"):
        open_archive(file)


@pytest.mark.parametrize("protocol", [0, 1])
def test_a_pickle_of_an_old_protocol_is_not_called_harmful(tmp_path: Path, protocol: int) -> None:
    state = {"a": torch.zeros(2), "layers": 3, "name": "x", "rate": 0.5}
    torch.save(state, tmp_path / "x.pt", pickle_protocol=protocol)
    with pytest.raises(UnsafeFile) as caught:
        open_archive(tmp_path / "x.pt")
    assert "protocol 2" in caught.value.fix
    assert "save it again" in caught.value.fix
    assert "Do not load" not in caught.value.fix
    torch.save(state, tmp_path / "x.pt", pickle_protocol=2)
    assert open_archive(tmp_path / "x.pt").keys() == ("a",)


@pytest.mark.parametrize(
    "program", [b"cos\nsystem\n(X\x01\0\0\0atR.", b"(X\x01\0\0\0aios\nsystem\n."]
)
def test_an_old_pickle_that_asks_for_a_program_still_is(tmp_path: Path, program: bytes) -> None:
    torch_zip(tmp_path / "x.pt", program)
    with pytest.raises(UnsafeFile, match=r"os\.system.*Do not load it"):
        open_archive(tmp_path / "x.pt")


def test_no_file_and_another_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        open_archive(tmp_path / "x.pt")
    with pytest.raises(ModelNotFound):
        open_archive(tmp_path)
    (tmp_path / "x.pt").write_text("<html>404</html>")
    with pytest.raises(CorruptFile, match="html"):
        open_archive(tmp_path / "x.pt")


def test_what_torch_wrote_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    file = save(tmp_path / "x.safetensors", {"a": torch.zeros(1)})
    assert is_from_torch(file)
    torch.save({"a": torch.zeros(2)}, file, _use_new_zipfile_serialization=False)
    assert is_from_torch(file)
    hostile.raw(file, b"{}".ljust(0x0280))  # the length of its header begins a pickle
    assert file.read_bytes().startswith(b"\x80\x02")
    assert Store.open(file).keys() == ()
    assert not is_from_torch(file)
    file.write_bytes(b"")
    assert not is_from_torch(file)
    assert not is_from_torch(tmp_path)


def test_a_changed_weight_is_noticed_when_it_is_first_viewed(tmp_path: Path) -> None:
    file = tmp_path / "x.pt"
    torch_zip(file, state(tensor(), tensor()), {"0": b"A" * 16})
    assert [bytes(open_archive(file).view(key)) for key in "01"] == [b"A" * 16] * 2
    file.write_bytes(file.read_bytes().replace(b"AAAA", b"AABA", 1))
    archive = open_archive(file)
    with pytest.raises(CorruptFile, match="checksum"):
        archive.view("1")


def test_files_saved_without_checksums_are_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        file = save(tmp_path / "x.pt", {"a": torch.ones(3)})
    finally:
        torch.serialization.set_crc32_options(True)
    assert bytes(open_archive(file).view("a")) == torch.ones(3).numpy().tobytes()


def test_a_file_of_five_gigabytes_is_mapped_not_read(tmp_path: Path) -> None:
    count = 5 * 2**30 // 4
    size = b"\x8a\x08" + struct.pack("<q", count)
    program = state(
        tensor(shape=size + b"\x85", count=size),
        tensor(shape=b"K\x02\x85", offset=b"\x8a\x08" + struct.pack("<q", count - 2), count=size),
        tensor(key="1"),
    )
    file = tmp_path / "x.pt"  # sparse: takes no room
    zip64(file, {
        "x/data.pkl": (program, len(program)),
        "x/data/0": (b"", 4 * count),
        "x/data/1": (b"B" * 16, 16),
    })  # fmt: skip
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    archive = open_archive(file)
    assert archive.info("0").nbytes == len(archive.view("0")) == 5 * 2**30
    assert bytes(archive.view("1")) == bytes(8)
    assert bytes(archive.view("2")) == b"B" * 16
    assert time.process_time() - start < 0.5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_zip64_agrees_with_the_reader_of_the_standard_library(tmp_path: Path) -> None:
    file = tmp_path / "x.zip"
    zip64(file, {"a/b": (b"BB", 2), "a/c": (b"", 0), "a/d": (b"DDD", 3)})
    with zipfile.ZipFile(file) as reference:
        want = {each.filename: each.file_size for each in reference.infolist()}
    entries = read_entries(file)
    assert {name: entry.size for name, entry in entries.items()} == want
    whole = file.read_bytes()
    spans = [whole[each.start : each.start + each.size] for each in entries.values()]
    assert spans == [b"BB", b"", b"DDD"]


def test_the_hostile_programs_are_in_order_but_for_one_thing(tmp_path: Path) -> None:
    torch_zip(tmp_path / "x.pt", beside(b"N"))
    assert open_archive(tmp_path / "x.pt").dropped == {"1": "NoneType, not a tensor"}
    (tmp_path / "x.pt").write_bytes(hostile.GOOD_ZIP)
    assert bytes(open_archive(tmp_path / "x.pt").view("0")) == b"A" * 16


def test_a_program_is_bounded_by_itself() -> None:
    with pytest.raises(CorruptFile, match="at most 16777216 bytes"):
        read_pickle(beside(hostile.text("a" * 17_000_000)), "x")
    read_pickle(state(tensor(key="0" * 100)), "x")
    with pytest.raises(CorruptFile, match="refers to storages"):
        read_pickle(state(tensor(key="0" * 101)), "x")


def test_a_pickle_of_plain_values_reads_as_them() -> None:
    value = {"a": [1, -2, 2**40, -(2**63), 3.5, None, True, False], "b": ("x", ("é",) * 4), 3: {}}
    for protocol in (2, 3, 4, 5):
        assert read_pickle(hostile.dump(value, protocol), "x") == value
    assert read_pickle(hostile.dump(OrderedDict(a=1)), "x") == {"a": 1}


def sharded(folder: Path, *shards: dict[str, Any], name: str = "pytorch_model") -> Path:
    """State dicts as shards of one index, as transformers and diffusers write them."""
    index = {}
    for number, shard in enumerate(shards, start=1):
        file = f"{name}-{number:05}-of-{len(shards):05}.bin"
        torch.save(shard, folder / file)
        index |= {key: file for key, value in shard.items() if isinstance(value, torch.Tensor)}
    text = json.dumps({"metadata": {"total_size": 1}, "weight_map": index})
    (folder / f"{name}.bin.index.json").write_text(text)
    return folder


@pytest.mark.parametrize("name", ["pytorch_model", "diffusion_pytorch_model"])
def test_shards_read_as_one_store(tmp_path: Path, name: str) -> None:
    weight = torch.arange(6.0).view(2, 3)
    sharded(tmp_path, {"a": weight, "b": weight.t(), "step": 3}, {"c": -weight}, name=name)
    torch.save({"lr": 0.1}, tmp_path / "training_args.bin")  # which no index names
    index = tmp_path / f"{name}.bin.index.json"
    assert is_from_torch(tmp_path)
    for path in (tmp_path, index):
        archive = open_source(path)
        assert archive.path == path
        assert archive.shapes() == {"a": (2, 3), "b": (3, 2), "c": (2, 3)}
        assert [file.name for file in archive.files] == [
            f"{name}-00001-of-00002.bin", f"{name}-00002-of-00002.bin"
        ]  # fmt: skip
        assert archive.dropped == {"step": "int, not a tensor"}
        for key, value in {"a": weight, "b": weight.t(), "c": -weight}.items():
            assert bytes(archive.view(key)) == value.contiguous().numpy().tobytes()
        assert len(archive.sha256()) == 64


def test_each_shard_has_checksums_of_its_own(tmp_path: Path) -> None:
    same = torch.full((4,), 2.0)  # at the same place, of the same size and sum, in both files
    sharded(tmp_path, {"a": same}, {"b": same})
    (file,) = tmp_path.glob("*-00002-of-*")
    data = same.numpy().tobytes()
    file.write_bytes(file.read_bytes().replace(data, bytes(reversed(data)), 1))
    archive = open_archive(tmp_path)
    assert bytes(archive.view("a")) == data
    with pytest.raises(CorruptFile, match="checksum"):
        archive.view("b")


def test_safetensors_of_a_folder_go_before_archives(tmp_path: Path) -> None:
    sharded(tmp_path, {"a": torch.zeros(1)})
    save_file({"b": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert not is_from_torch(tmp_path)
    assert set(open_source(tmp_path)) == {"b"}


def test_a_lone_archive_of_a_folder_is_found(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.ckpt")
    assert set(open_source(tmp_path)) == {"a"}
    torch.save({"b": torch.zeros(1)}, tmp_path / "pytorch_model.bin")  # the usual name
    assert set(open_source(tmp_path)) == {"b"}
    (tmp_path / "pytorch_model.bin").rename(tmp_path / "y.ckpt")
    with pytest.raises(ModelNotFound, match=r"x\.ckpt, y\.ckpt"):
        open_source(tmp_path)
