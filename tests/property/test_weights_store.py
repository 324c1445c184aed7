"""No header, however mutilated, gets past the reader with a lie in it."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from effort import examples
from sakuga.errors import CorruptFile
from sakuga.weights.formats import ITEMSIZE
from sakuga.weights.store import Store

ROOMY = settings(
    max_examples=examples(150),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
NAMES = st.text(min_size=1, max_size=6).filter(lambda name: name != "__metadata__")
SHAPES = st.lists(st.integers(0, 4), max_size=3)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 2**66),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(-3, 40), max_size=3),
)


@st.composite
def headers(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """A truthful header and its data."""
    header: dict[str, Any] = {}
    end = 0
    for name in draw(st.lists(NAMES, unique=True, max_size=4)):
        dtype, shape = draw(st.sampled_from(sorted(ITEMSIZE))), draw(SHAPES)
        start, end = end, end + math.prod(shape) * ITEMSIZE[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    if draw(st.booleans()):
        header["__metadata__"] = draw(st.dictionaries(st.text(max_size=3), st.text(max_size=3)))
    return header, draw(st.binary(min_size=end, max_size=end))


def write(folder: Path, text: bytes, data: bytes) -> Path:
    file = folder / "x.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return file


def open_or_refuse(file: Path) -> Store | None:
    try:
        return Store.open(file)
    except CorruptFile:
        return None


def assert_truthful(store: Store, file: Path) -> None:
    """Views lie within the file, are as long as they say, and cover the data once."""
    size = file.stat().st_size
    infos = [store.info(key) for key in store]
    for key, info in zip(store, infos, strict=True):
        assert info.nbytes == math.prod(info.shape) * ITEMSIZE[info.dtype]
        assert 8 <= info.start <= info.start + info.nbytes <= size
        assert len(store.view(key)) == info.nbytes
    assert sum(info.nbytes for info in infos) == size - 8 - int.from_bytes(
        file.read_bytes()[:8], "little"
    )


@ROOMY
@given(headers())
def test_truthful_headers_open(tmp_path: Path, made: tuple[dict[str, Any], bytes]) -> None:
    header, data = made
    store = Store.open(write(tmp_path, json.dumps(header).encode(), data))
    assert_truthful(store, tmp_path / "x.safetensors")
    assert store.metadata == header.get("__metadata__", {})
    for key in store:
        start, end = header[key]["data_offsets"]
        assert bytes(store.view(key)) == data[start:end]


@ROOMY
@given(headers(), st.data())
def test_a_changed_value_is_refused_or_true(
    tmp_path: Path, made: tuple[dict[str, Any], bytes], data: st.DataObject
) -> None:
    header, content = made
    names = [name for name in header if name != "__metadata__"]
    if names:
        name = data.draw(st.sampled_from(names))
        field = data.draw(st.sampled_from(["dtype", "shape", "data_offsets", "more"]))
        header[name][field] = data.draw(ODD)
    content = content[: data.draw(st.integers(0, len(content)))] + data.draw(st.binary(max_size=9))
    file = write(tmp_path, json.dumps(header).encode(), content)
    if (store := open_or_refuse(file)) is not None:
        assert_truthful(store, file)
        with safe_open(file, "np") as reference:  # the reference library finds no fault either
            assert set(reference.keys()) == set(store)


@ROOMY
@given(headers(), st.data())
def test_changed_bytes_are_refused_or_true(
    tmp_path: Path, made: tuple[dict[str, Any], bytes], data: st.DataObject
) -> None:
    header, content = made
    whole = bytearray(write(tmp_path, json.dumps(header).encode(), content).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place] = data.draw(st.integers(0, 255))
    file = tmp_path / "x.safetensors"
    file.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    if (store := open_or_refuse(file)) is not None:
        assert_truthful(store, file)


TOKENS = st.sampled_from(
    [
        "{", "}", "[", "]", ",", ":", "[2]", "[0,8]", "[8]", "0", "8", "-0", "1e3", "1e999", "NaN",
        "-Infinity", "null", "true", "9" * 50, '"a"', '"a":', '"dtype":', '"shape":', '"U8"',
        '"F32"', '"data_offsets":', '"\\ud800"', '"\\u0061"', '"__metadata__":', '{"x":"y"}', "/*",
        '"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}', "'a'", "\\", "\0", " ", "\ufeff",
    ]
)  # fmt: skip


@ROOMY
@given(st.lists(TOKENS, max_size=12).map("".join))
def test_odd_json_is_refused_or_true(tmp_path: Path, text: str) -> None:
    file = write(tmp_path, ("{" + text + "}").encode(), bytes(8))
    start = time.process_time()
    if (store := open_or_refuse(file)) is not None:
        assert_truthful(store, file)
        with safe_open(file, "np") as reference:
            assert set(reference.keys()) == set(store)
    assert time.process_time() - start < 1


SHARDS = ("a-00001.safetensors", "a-00002.safetensors")
PLACES = st.one_of(
    st.sampled_from(
        [*SHARDS, "../x.safetensors", "/x.safetensors", ".safetensors", "x/../a-00001.safetensors"]
    ),
    st.text(max_size=6).map(lambda text: text + ".safetensors"),
    ODD,
)


@ROOMY
@example(places={"a": SHARDS[0], "b": SHARDS[1]}, bare=False)
@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), PLACES), st.booleans())
def test_an_index_is_refused_or_true(tmp_path: Path, places: dict[str, Any], bare: bool) -> None:
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    one = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}
    for name, key in zip(("x.safetensors", *SHARDS), ("a", "a", "b"), strict=True):
        place = tmp_path if name == "x.safetensors" else folder
        write(place, json.dumps({key: one}).encode(), b"!").rename(place / name)
    index = folder / "a.safetensors.index.json"
    index.write_text(json.dumps(places if bare else {"weight_map": places}))
    if (store := open_or_refuse(index)) is not None:
        assert not bare
        assert places == {key: store.info(key).file.name for key in store}
        assert {file.parent for file in store.files} == {folder}


@ROOMY
@given(st.binary(max_size=200))
def test_noise_is_refused(tmp_path: Path, noise: bytes) -> None:
    file = write(tmp_path, noise, b"")
    if (store := open_or_refuse(file)) is not None:
        assert_truthful(store, file)
    file.write_bytes(noise)
    if (store := open_or_refuse(file)) is not None:
        assert_truthful(store, file)


@pytest.mark.parametrize("cut", [1, 7, 8, 9, 40])
@ROOMY
@given(headers())
def test_a_file_cut_short_is_refused(
    tmp_path: Path, cut: int, made: tuple[dict[str, Any], bytes]
) -> None:
    header, data = made
    file = write(tmp_path, json.dumps(header).encode(), data)
    whole = file.read_bytes()
    file.write_bytes(whole[: max(0, len(whole) - cut)])
    with pytest.raises(CorruptFile):
        Store.open(file)
