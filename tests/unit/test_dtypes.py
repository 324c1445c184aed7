"""The table of dtypes against torch, Python's struct, and the library of safetensors."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from safetensors.torch import save

from sakuga.checkpoint.save import bytes_of
from sakuga.weights.formats import DTYPES, FLOAT_DTYPES, STRUCT_CODES, Dtype
from sakuga.weights.quantise import TORCH_DTYPES

EACH = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)


@EACH
def test_a_dtype_is_torchs_of_that_size(dtype: Dtype) -> None:
    theirs = TORCH_DTYPES[dtype.name]
    assert theirs.itemsize == dtype.nbytes
    assert theirs.is_floating_point == (dtype.name in FLOAT_DTYPES)


@EACH
def test_its_name_is_the_one_in_headers(dtype: Dtype) -> None:
    written = save({"x": torch.zeros(2, dtype=TORCH_DTYPES[dtype.name])})
    length = int.from_bytes(written[:8], "little")
    assert json.loads(written[8 : 8 + length])["x"]["dtype"] == dtype.name


@pytest.mark.parametrize("name", STRUCT_CODES)
def test_its_letter_reads_the_same_number(name: str) -> None:
    one = torch.tensor(3, dtype=TORCH_DTYPES[name])
    assert struct.unpack("<" + STRUCT_CODES[name], bytes_of(one)) == (3,)
