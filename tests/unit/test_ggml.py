"""Blocks become the floats that ggml's own reference makes of them."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from gguf_file import encode
from torch.utils._python_dispatch import TorchDispatchMode

from sakuga.weights.ggml import CHUNK, dequantise_blocks
from sakuga.weights.gguf import BLOCKS

KIND = pytest.mark.parametrize("kind", BLOCKS)
# Half a step beside the largest of a block, and what rounding scales to a few bits costs.
ERROR = {"Q4_0": 0.13, "Q4_1": 0.08, "Q5_0": 0.07, "Q5_1": 0.04, "Q8_0": 0.005, "Q4_K": 0.08,
         "Q5_K": 0.05, "Q6_K": 0.03, "Q2_K": 0.35, "Q3_K": 0.3, "IQ4_NL": 0.2,
         "IQ4_XS": 0.2}  # fmt: skip


def tensor_of(data: bytes | bytearray) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


@KIND
def test_any_bytes_give_what_the_reference_gives(kind: str) -> None:
    """All bit patterns but scales that are no numbers, to the bit."""
    block = BLOCKS[kind]
    rng = np.random.default_rng(3)
    raw = rng.integers(0, 256, (700, block.nbytes), dtype=np.uint8)
    scales = {"Q2_K": [80, 82], "Q3_K": [108], "Q6_K": [208], "Q8_0": [0], "Q4_0": [0],
              "Q5_0": [0], "IQ4_NL": [0], "IQ4_XS": [0]}.get(kind, [0, 2])  # fmt: skip
    for at in scales:
        raw[:, at : at + 2] = rng.normal(size=(700, 1)).astype(np.float16).view(np.uint8)
    want = gguf.dequantize(raw, gguf.GGMLQuantizationType[kind])
    got = dequantise_blocks(tensor_of(raw.tobytes()), kind, want.shape, torch.float32)
    assert np.array_equal(got.numpy(), want)


@KIND
def test_quantised_floats_come_back_near(kind: str) -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(40, 512)).astype(np.float32)
    x[3] = 0
    got = dequantise_blocks(tensor_of(encode(x, kind)), kind, x.shape, torch.float32).numpy()
    blocks = (-1, BLOCKS[kind].values)
    error = np.abs(got - x).reshape(blocks).max(axis=1)
    assert (error <= ERROR[kind] * np.abs(x).reshape(blocks).max(axis=1)).all()
    assert error.max() > 0


@KIND
def test_chunks_and_casts_change_nothing_else(kind: str) -> None:
    count = CHUNK // BLOCKS[kind].values + 3
    row = np.random.default_rng(5).normal(size=(1, BLOCKS[kind].values)).astype(np.float32)
    raw = tensor_of(encode(row, kind) * count)
    one = dequantise_blocks(raw[: BLOCKS[kind].nbytes], kind, (1, row.size), torch.float32)
    half = dequantise_blocks(raw, kind, (count, row.size), torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, one.to(torch.bfloat16).expand(count, -1))


class Largest(TorchDispatchMode):
    """Notes the bytes of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made._base is None:
            self.bytes = max(self.bytes, made.nbytes)
        return made


@KIND
def test_no_more_than_a_chunk_is_ever_unfolded(kind: str) -> None:
    block = BLOCKS[kind]
    count = 20 * CHUNK // block.values
    result = 2 * count * block.values
    with Largest() as seen:
        raw = torch.zeros(count * block.nbytes, dtype=torch.uint8)
        dequantise_blocks(raw, kind, (count * block.values,), torch.bfloat16)
    assert seen.bytes == result
    with Largest() as seen:
        dequantise_blocks(raw[: CHUNK // block.values * block.nbytes], kind, (CHUNK,),
                          torch.bfloat16)  # fmt: skip
    assert seen.bytes <= 4 * CHUNK
