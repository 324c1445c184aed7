"""Storage formats price a tensor without holding one."""

from __future__ import annotations

import json

import pytest

from sakuga.errors import CorruptFile
from sakuga.weights.formats import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    FORMATS,
    INT8_ROW,
    STORAGE_KEY,
    StorageFormat,
    read_storage_metadata,
    storage_metadata,
)


@pytest.mark.parametrize(
    ("form", "shape", "nbytes"),
    [
        (FLOAT32, (3, 5), 60),
        (FLOAT16, (3, 5), 30),
        (BFLOAT16, (7,), 14),
        (BFLOAT16, (), 2),
        (BFLOAT16, (0, 4), 0),
        (INT8_ROW, (3, 5), 15 + 3 * 4),
        (INT8_ROW, (8, 4, 3, 3), 8 * 36 + 8 * 4),
    ],
)
def test_bytes(form: StorageFormat, shape: tuple[int, ...], nbytes: int) -> None:
    assert form.bytes(shape) == nbytes


def test_groups_and_odd_widths_round_up() -> None:
    nibble = StorageFormat("int4-8", "U8", 4, scale_bits=16, group=8)
    assert nibble.scales((3, 17)) == 9
    assert nibble.bytes((3, 17)) == 3 * 9 + 9 * 2


def test_formats_go_by_their_names() -> None:
    assert {name: form.name for name, form in FORMATS.items()} == {name: name for name in FORMATS}
    assert [name for name, form in FORMATS.items() if form.quantised] == ["int8-row"]


def test_metadata_names_the_quantised_tensors_alone() -> None:
    written = storage_metadata({"b": INT8_ROW, "a": FLOAT16})
    assert json.loads(written[STORAGE_KEY]) == {"b": "int8-row"}
    assert read_storage_metadata(written) == {"b": INT8_ROW}
    assert storage_metadata({"a": FLOAT16}) == {}
    assert read_storage_metadata({"format": "pt"}) == {}


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"a": "int3"}', '{"a": 8}', '{"a": "float16"}', "[" * 100_000]
)
def test_metadata_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(CorruptFile, match=STORAGE_KEY):
        read_storage_metadata({STORAGE_KEY: text})
