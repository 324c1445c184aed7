"""Files are bytes that may lie: what agrees with itself opens, the rest is refused."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sakuga.adapters.file import read_adapter
from sakuga.adapters.spec import AdapterSpec
from sakuga.checkpoint.catalog import locate
from sakuga.checkpoint.folder import open_checkpoint, open_component
from sakuga.checkpoint.hub import parse_name
from sakuga.checkpoint.parts import is_model
from sakuga.commands.convert import convert
from sakuga.commands.inspect import inspect
from sakuga.commands.lora import open_transformer
from sakuga.errors import CorruptFile, ModelNotFound
from sakuga.weights.archive import open_archive
from sakuga.weights.header import MAX_HEADER, read_header
from sakuga.weights.sources import open_source
from sakuga.weights.store import Store
from sakuga.weights.untrusted import parse_json


def raw(file: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    """A file with any header: text, or a value written as JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return file


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize("name", ["n" * 5000, "n" * 300, "a\0b", "a\0b/c"])
def test_a_path_that_cannot_be_looked_up_is_not_there(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    opens: list[Callable[[Path], object]] = [
        Store.open, open_archive, open_source, open_component, open_checkpoint, inspect, is_model,
        lambda path: locate(str(path)), lambda path: read_adapter(AdapterSpec(path)),
        lambda path: open_checkpoint(None, {"transformer": path}),
        lambda path: open_transformer(str(path)),
        lambda path: convert(path, tmp_path / "out", "original"),
    ]  # fmt: skip
    for each in opens:
        if each is is_model and "\0" in name:
            continue  # it is none
        with pytest.raises(ModelNotFound) as caught:
            each(path)
        assert "Check the path" in caught.value.fix or "Known by name" in caught.value.fix
    assert not (tmp_path / "out").exists()


def test_a_name_of_the_hub_that_cannot_be_looked_up_as_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lab").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFound, match="too long"):
        parse_name(f"lab/{'n' * 300}")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that none can read")
def test_a_file_that_cannot_be_read_names_its_remedy() -> None:
    for opens in (Store.open, open_archive, open_source):
        with pytest.raises(ModelNotFound, match=r"for /proc/self/mem\. Check the path, and who"):
            opens(Path("/proc/self/mem"))


def test_reads_what_the_reference_library_writes(tmp_path: Path) -> None:
    tensors = {
        "a.weight": torch.arange(6, dtype=torch.float32).view(2, 3),
        "b": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "c": torch.tensor([-1, 7], dtype=torch.int8),
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(3.0),
    }
    file = tmp_path / "x.safetensors"
    save_file(tensors, file, {"note": "hello"})
    store = Store.open(file)
    assert set(store.keys()) == set(tensors)
    assert store.metadata == {"note": "hello"}
    assert store.shapes()["empty"] == (0, 4)
    assert store.shapes()["scalar"] == ()
    assert store.info("b").dtype == "BF16"
    for key, value in tensors.items():
        data = value.view(torch.uint8) if value.dim() else value.view(1).view(torch.uint8)
        assert bytes(store.view(key)) == data.numpy().tobytes()


def test_a_view_is_private_and_outlives_the_store(tmp_path: Path) -> None:
    file = raw(tmp_path / "x.safetensors", {"a": entry()}, bytes(8))
    before = file.read_bytes()
    store = Store.open(file)
    values = np.frombuffer(store.view("a"), dtype="<f4")
    values[:] = 5.0
    del store
    assert values.tolist() == [5.0, 5.0]
    assert file.read_bytes() == before


HOSTILE: dict[str, tuple[Any, bytes]] = {
    "not an object": ([1], b""),
    "starts with a space": (b' {"a":1}', b""),
    "not json": (b"{oops", b""),
    "not utf-8": (b'{"\xff": 1}', b""),
    "utf-16": ('{"a": 1}'.encode("utf-16-le"), b""),
    "deeply nested": (b'{"a":' * 200_000 + b"1" + b"}" * 200_000, b""),
    "double key": (b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2), bytes(8)),
    "double inner key": (
        b'{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        bytes(8),
    ),
    "entry is a list": ({"a": [1]}, b""),
    "entry lacks a field": ({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)),
    "entry has a field more": ({"a": {**entry(), "code": "x"}}, bytes(8)),
    "a name that is no text": (b'{"\\ud800":1}', b""),
    "a name of a megabyte": ({"a" * 1_000_000: entry()}, bytes(8)),
    "unknown dtype": ({"a": entry("F31")}, bytes(8)),
    "dtype is a list": ({"a": entry(["F32"])}, bytes(8)),
    "negative size": ({"a": entry(shape=(-2,))}, bytes(8)),
    "fractional size": ({"a": entry(shape=(2.0,))}, bytes(8)),
    "boolean size": ({"a": entry("U8", (True,), (0, 1))}, bytes(1)),
    "absurd size": ({"a": entry(shape=(2**62, 2**62))}, bytes(8)),
    "too many dimensions": ({"a": entry(shape=[1] * 40 + [2])}, bytes(8)),
    "size past an address": ({"a": entry(shape=[0, 2**70], offsets=(0, 0))}, b""),
    "three offsets": ({"a": entry(offsets=(0, 8, 8))}, bytes(8)),
    "reversed offsets": ({"a": entry(offsets=(8, 0))}, bytes(8)),
    "range of another length": ({"a": entry(offsets=(0, 4))}, bytes(8)),
    "range past the file": ({"a": entry()}, bytes(4)),
    "overlap": ({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)),
    "same range twice": ({"a": entry(), "b": entry()}, bytes(8)),
    "overlap that hides a gap": ({"a": entry(), "b": entry()}, bytes(16)),
    "gap": ({"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20)),
    "gap at the start": ({"a": entry(offsets=(4, 12))}, bytes(12)),
    "bytes after the end": ({"a": entry()}, bytes(8) + b"PK\x03\x04"),
    "metadata of numbers": ({"__metadata__": {"a": 1}, "a": entry()}, bytes(8)),
    "metadata is a list": ({"__metadata__": ["a"], "a": entry()}, bytes(8)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refuses_a_header_that_lies(tmp_path: Path, name: str) -> None:
    header, data = HOSTILE[name]
    file = raw(tmp_path / "x.safetensors", header, data)
    start = time.process_time()
    with pytest.raises(CorruptFile) as caught:
        Store.open(file)
    assert time.process_time() - start < 1
    error = caught.value
    assert error.rule
    assert str(file) in error.got
    assert error.fix
    assert len(str(error)) < 600 + 2 * len(str(file))


@pytest.mark.parametrize("length", [MAX_HEADER, MAX_HEADER + 1, 2**63, 2**64 - 1])
def test_refuses_a_header_longer_than_its_file(tmp_path: Path, length: int) -> None:
    file = raw(tmp_path / "x.safetensors", {"a": entry()}, bytes(8), length)
    with pytest.raises(CorruptFile, match="header"):
        Store.open(file)


MANY = {
    "numbers": b'{"a":[' + b"1," * 5_000_000 + b"1]}",
    "double keys": b'{"":1' + b',"":1' * 5_000_000 + b"}",
}


@pytest.mark.parametrize("what", MANY)
def test_refuses_a_header_that_would_take_long(tmp_path: Path, what: str) -> None:
    file = raw(tmp_path / "x.safetensors", MANY[what])
    start = time.process_time()
    with pytest.raises(CorruptFile, match="commas"):
        Store.open(file)
    assert time.process_time() - start < 1


def test_refuses_a_header_over_the_limit_though_it_is_there(tmp_path: Path) -> None:
    file = raw(tmp_path / "x.safetensors", b"{", b"", MAX_HEADER + 1)
    os.truncate(file, MAX_HEADER + 100)  # sparse: takes no room
    with pytest.raises(CorruptFile, match=str(MAX_HEADER)):
        Store.open(file)


@pytest.mark.parametrize("content", [b"", b"\x02", b"\x02\0\0\0\0\0\0"])
def test_refuses_a_stub(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(content)
    with pytest.raises(CorruptFile):
        Store.open(file)


def test_an_empty_file_of_tensors_is_fine(tmp_path: Path) -> None:
    assert Store.open(raw(tmp_path / "x.safetensors", {})).keys() == ()


def test_names_the_impostors(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(pickle.dumps({"a": [1.0] * 9}))
    with pytest.raises(CorruptFile, match="pickle"):
        Store.open(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.pkl", b"x")
    with pytest.raises(CorruptFile, match="zip"):
        Store.open(file)
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(CorruptFile, match="LFS"):
        Store.open(file)


def shards(folder: Path, weight_map: dict[str, Any] | None = None) -> Path:
    raw(folder / "model-00001-of-00002.safetensors", {"a": entry()}, b"AAAAAAAA")
    raw(folder / "model-00002-of-00002.safetensors", {"b": entry()}, b"BBBBBBBB")
    plain = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map or plain}))
    return index


def test_shards_are_one_store(tmp_path: Path) -> None:
    index = shards(tmp_path)
    for path in (tmp_path, index):
        store = Store.open(path)
        assert set(store) == {"a", "b"}
        assert bytes(store.view("b")) == b"BBBBBBBB"
        assert [file.name[:11] for file in store.files] == ["model-00001", "model-00002"]


@pytest.mark.parametrize(
    "name",
    [
        "../model-00002-of-00002.safetensors",
        "/etc/passwd",
        "sub/../model-00002-of-00002.safetensors",
        "..\\x.safetensors",
        "missing.safetensors",
        "a" * 5000 + ".safetensors",
        "a\0.safetensors",
        "\ud800.safetensors",
        "config.json",
        "..",
        "",
    ],
)
def test_an_index_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    shards(tmp_path)
    shards(folder, {"a": "model-00001-of-00002.safetensors", "b": name})
    with pytest.raises(CorruptFile, match=r"beside its index|every shard"):
        Store.open(folder)


def test_a_shard_that_links_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    shards(tmp_path)
    index = shards(folder)
    shard = folder / "model-00002-of-00002.safetensors"
    shard.unlink()
    shard.symlink_to(tmp_path / shard.name)
    for path in (folder, index):
        with pytest.raises(CorruptFile, match="lie within"):
            Store.open(path)


@pytest.mark.parametrize(
    "weight_map",
    [
        {"a": "model-00001-of-00002.safetensors"},
        {"a": "model-00001-of-00002.safetensors", "c": "model-00002-of-00002.safetensors"},
        {"a": "model-00002-of-00002.safetensors", "b": "model-00001-of-00002.safetensors"},
    ],
)
def test_index_and_shards_must_agree(tmp_path: Path, weight_map: dict[str, str]) -> None:
    shards(tmp_path, weight_map)
    if len(weight_map) == 1:
        raw(tmp_path / weight_map["a"], {"a": entry(), "b": entry(offsets=(8, 16))}, bytes(16))
    with pytest.raises(CorruptFile, match="same tensors"):
        Store.open(tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    shards(tmp_path)
    files = sorted(tmp_path.glob("*.safetensors"))
    with pytest.raises(CorruptFile, match="one shard"):
        Store(tmp_path, {files[0]: read_header(files[0]), tmp_path / "y": read_header(files[0])})


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    target = raw(tmp_path / "secret.safetensors", {"a": entry()}, bytes(8))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(target)
    with pytest.raises(CorruptFile, match="lie within"):
        Store.open(folder)
    assert Store.open(target).keys() == ("a",)


@pytest.mark.parametrize("what", ["a pipe", "a device", "a loop", "nowhere"])
def test_what_is_no_file_is_never_opened(tmp_path: Path, what: str) -> None:
    place = tmp_path / "model.safetensors"
    if what == "a pipe":
        os.mkfifo(place)
    else:
        place.symlink_to({"a device": "/dev/zero", "a loop": place.name, "nowhere": "x"}[what])
    with pytest.raises(CorruptFile, match="weights are a file"):
        Store.open(tmp_path)


def test_a_folder_that_leads_out_is_not_even_listed(tmp_path: Path) -> None:
    root, outside = tmp_path / "model", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "diary.txt").write_text("")
    (root / "vae").symlink_to(outside)
    with pytest.raises(CorruptFile, match="lie within") as caught:
        Store.open(root / "vae", root)
    assert "diary" not in str(caught.value)


def test_a_file_that_is_a_zip_to_others_is_refused(tmp_path: Path) -> None:
    """Its first bytes are the length of a header that fits, and the start of a zip file."""
    file = tmp_path / "x.safetensors"
    start = b"PK\x03\x04\0\0\0\0"
    with file.open("wb") as stream:
        stream.write(start + b"{}")
        stream.truncate(8 + int.from_bytes(start, "little"))
    with pytest.raises(CorruptFile, match="zip archive"):
        Store.open(file)


@pytest.mark.parametrize("digits", ["9" * 41, "-" + "9" * 400])
def test_numbers_that_no_float_holds_are_refused(digits: str) -> None:
    with pytest.raises(CorruptFile, match="digits"):
        parse_json(b'{"a": %s}' % digits.encode(), "x")
    assert parse_json(b'{"a": -%s}' % (b"9" * 39), "x") == {"a": -int("9" * 39)}


def test_links_within_one_download_of_the_hub_are_followed(tmp_path: Path) -> None:
    repo = tmp_path / "models--someone--something"
    snapshot = repo / "snapshots" / "abc" / "vae"
    (repo / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    raw(repo / "blobs" / "123", {"a": entry()}, bytes(8))
    (snapshot / "model.safetensors").symlink_to("../../../blobs/123")
    assert Store.open(snapshot).keys() == ("a",)
    other = tmp_path / "models--someone--else" / "blobs"
    other.mkdir(parents=True)
    raw(other / "123", {"a": entry()}, bytes(8))
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to(other / "123")
    with pytest.raises(CorruptFile):
        Store.open(snapshot)


def test_a_folder_without_weights_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="nothing"):
        Store.open(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(ModelNotFound, match=r"pytorch_model\.bin.*convert"):
        Store.open(tmp_path)
    with pytest.raises(ModelNotFound, match="no such path"):
        Store.open(tmp_path / "missing")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelNotFound, match="pipe, which is neither"):
        Store.open(tmp_path / "pipe")


def test_one_file_of_any_name_is_found_and_two_are_not_guessed(tmp_path: Path) -> None:
    raw(tmp_path / "gemma3-4b-it.safetensors", {"a": entry()}, bytes(8))
    assert Store.open(tmp_path).keys() == ("a",)
    raw(tmp_path / "other.safetensors", {"b": entry()}, bytes(8))
    with pytest.raises(ModelNotFound, match=r"gemma3-4b-it\.safetensors, other\.safetensors"):
        Store.open(tmp_path)
    raw(tmp_path / "model.safetensors", {"c": entry()}, bytes(8))
    assert Store.open(tmp_path).keys() == ("c",)


def test_digests_follow_the_bytes(tmp_path: Path) -> None:
    file = raw(tmp_path / "x.safetensors", {"a": entry()}, bytes(8))
    digest = Store.open(file).sha256()
    assert digest == hashlib.sha256(file.read_bytes()).hexdigest()
    raw(file, {"b": entry()}, bytes(8))
    os.utime(file, ns=(1, 1))
    assert Store.open(file).sha256() != digest
    folder = tmp_path / "shards"
    folder.mkdir()
    shards(folder)
    whole = Store.open(folder).sha256()
    raw(folder / "model-00002-of-00002.safetensors", {"b": entry()}, b"CCCCCCCC")
    os.utime(folder / "model-00002-of-00002.safetensors", ns=(1, 1))
    assert Store.open(folder).sha256() != whole
