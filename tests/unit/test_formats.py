"""Storage formats price a tensor without holding one."""

from __future__ import annotations

import json

import pytest

from sakuga.errors import CorruptFile, RequestError
from sakuga.weights.formats import (
    BFLOAT16,
    FLOAT8_E4M3,
    FLOAT16,
    FLOAT32,
    FORMATS,
    INT4,
    INT8,
    STORAGE_KEY,
    StorageFormat,
    StoredTensor,
    choose_format,
    is_block_linear,
    logical_shapes,
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
        (INT8, (3, 5), 15 + 3 * 4),
        (INT8, (8, 4, 3, 3), 8 * 36 + 8 * 4),
        (FLOAT8_E4M3, (3, 5), 15 + 3 * 4),
        (INT4, (3, 64), 3 * 32 + 3 * 2 * 2),
        (INT4, (3, 33), 3 * 17 + 3 * 2 * 2),
        (INT4, (8, 4, 3, 3), 8 * 18 + 8 * 2 * 2),
        (INT4, (0, 4), 0),
        (INT4, (4, 0), 0),
    ],
)
def test_bytes(form: StorageFormat, shape: tuple[int, ...], nbytes: int) -> None:
    assert form.bytes(shape) == nbytes


def test_groups_and_odd_widths_round_up() -> None:
    nibble = StorageFormat("int4-8", "U8", 4, scale="F16", group=8)
    assert nibble.scale_shape((3, 17)) == (3, 3)
    assert nibble.stored_shape((3, 17)) == (3, 9)
    assert nibble.bytes((3, 17)) == 3 * 9 + 9 * 2


def test_formats_go_by_their_names() -> None:
    assert {name: form.name for name, form in FORMATS.items()} == {name: name for name in FORMATS}
    quantised = [name for name, form in FORMATS.items() if form.quantised]
    assert quantised == ["int8", "float8_e4m3", "int4"]


def test_metadata_names_the_quantised_tensors_alone() -> None:
    stored = {"b": StoredTensor(INT8), "a": StoredTensor(FLOAT16), "c": StoredTensor(INT4, (3, 5))}
    written = storage_metadata(stored)
    assert json.loads(written[STORAGE_KEY]) == {
        "b": "int8",
        "c": {"format": "int4", "shape": [3, 5]},
    }
    assert read_storage_metadata(written) == {"b": stored["b"], "c": stored["c"]}
    assert storage_metadata({"a": StoredTensor(FLOAT16)}) == {}
    assert read_storage_metadata({"format": "pt"}) == {}


def test_files_that_use_the_former_name_are_read() -> None:
    assert read_storage_metadata({STORAGE_KEY: '{"a": "int8-row"}'}) == {"a": StoredTensor(INT8)}


def test_a_packed_tensor_has_the_shape_that_the_metadata_says() -> None:
    shapes = {"a": (3, 17), "a.scale": (3, 2), "b": (3,)}
    dtypes = {"a": "U8", "a.scale": "BF16", "b": "F32"}
    stored = {"a": StoredTensor(INT4, (3, 33))}
    assert logical_shapes(shapes, dtypes, stored) == {"a": (3, 33), "b": (3,)}
    with pytest.raises(CorruptFile, match="one per 32 values"):
        logical_shapes(shapes, dtypes, {"a": StoredTensor(INT4, (3, 35))})


@pytest.mark.parametrize(
    ("key", "kept"),
    [
        ("layers.0.attention.qkv.weight", True),
        ("context_refiner.1.feed_forward.w2.weight", True),
        ("layers.3.self_attn.o_proj.weight", True),
        ("layers.3.mlp.down_proj.weight", True),
        ("layers.0.attention.q_norm.weight", False),
        ("layers.0.adaLN_modulation.1.weight", False),
        ("final_layer.linear.weight", False),
        ("embed_tokens.weight", False),
        ("cap_embedder.1.bias", False),
        ("weight", False),
    ],
)
def test_formats_apply_to_the_matrices_of_blocks(key: str, kept: bool) -> None:
    assert is_block_linear(key) == kept


def test_a_format_is_chosen_by_name() -> None:
    assert choose_format("int4", "text_encoder") is INT4
    assert choose_format("float16", "transformer") is FLOAT16
    with pytest.raises(RequestError, match="float8_e4m3"):
        choose_format("float8", "transformer")
    with pytest.raises(RequestError, match="bfloat16"):
        choose_format("float16", "text_encoder")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"a": "int3"}',
        '{"a": 8}',
        '{"a": "float16"}',
        '{"a": "int4"}',
        '{"a": {"format": "int4"}}',
        '{"a": {"format": "int4", "shape": [2, -1]}}',
        '{"a": {"format": "int8", "shape": [2, 1]}}',
        "[" * 100_000,
    ],
)
def test_metadata_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(CorruptFile, match=STORAGE_KEY):
        read_storage_metadata({STORAGE_KEY: text})
