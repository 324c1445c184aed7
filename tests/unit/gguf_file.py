"""Writes small GGUF files: a header as the format says, tensors in ggml's block layouts.

The quantisers are plain ones, by the block layouts of ggml-common.h: no search for better
scales. `Raw` puts bytes as they are, for files that lie.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from sakuga.weights.gguf import BLOCKS, PLAIN

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

NUMBERS = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8,
    "Q4_K": 12, "Q5_K": 13, "Q6_K": 14, "BF16": 30,
}  # fmt: skip
U32, F32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9


@dataclass(frozen=True, slots=True)
class Raw:
    """A value or a tensor entry as bytes, its type's number first."""

    data: bytes


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def typed(value: Any) -> bytes:
    """A named value: its type's number, then itself."""
    if isinstance(value, Raw):
        return value.data
    if isinstance(value, list):
        inner = [typed(each) for each in value]
        return (
            struct.pack("<I", ARRAY)
            + inner[0][:4]
            + struct.pack("<Q", len(inner))
            + b"".join(each[4:] for each in inner)
        )
    for kind, number, code in ((bool, BOOL, "?"), (int, U32, "I"), (float, F32, "f")):
        if isinstance(value, kind):
            return struct.pack("<I" + code, number, value)
    return struct.pack("<I", STRING) + text(value)


def write_gguf(
    file: Path,
    values: Mapping[str, Any],
    tensors: Mapping[str, tuple[str, Floats]],
    alignment: int = 32,
) -> Path:
    """Write tensors, each with its type, and named values."""
    raw = {name: encode(array, kind) for name, (kind, array) in tensors.items()}
    listed = {name: (kind, array.shape, len(raw[name])) for name, (kind, array) in tensors.items()}
    if alignment != 32:
        values = {"general.alignment": alignment, **values}
    data = b"".join(each + bytes(-len(each) % alignment) for each in raw.values())
    file.write_bytes(header_of(values, listed, alignment) + data)
    return file


def write_hole(
    file: Path, values: Mapping[str, Any], shapes: Mapping[str, tuple[str, tuple[int, ...]]]
) -> Path:
    """Write a file of any size whose tensors take no room: all their bytes are a hole."""
    listed = {}
    for name, (kind, shape) in shapes.items():
        block = (PLAIN | BLOCKS)[kind]
        listed[name] = (kind, shape, math.prod(shape) // block.values * block.nbytes)
    header = header_of(values, listed, 32)
    file.write_bytes(header)
    with file.open("r+b") as stream:
        stream.truncate(len(header) + sum(size + -size % 32 for _, _, size in listed.values()))
    return file


def header_of(
    values: Mapping[str, Any],
    tensors: Mapping[str, tuple[str, tuple[int, ...], int]],
    alignment: int,
) -> bytes:
    """All that stands before the data of tensors, given by type, shape and bytes."""
    entries, start = b"", 0
    for name, (kind, shape, size) in tensors.items():
        sizes = tuple(reversed(shape))
        entries += text(name) + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
        entries += struct.pack("<IQ", NUMBERS[kind], start)
        start += size + -size % alignment
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    head += b"".join(text(key) + typed(value) for key, value in values.items()) + entries
    return head + bytes(-len(head) % alignment)


def encode(array: Floats, kind: str) -> bytes:
    """The bytes of an array in one of ggml's types."""
    values = np.ascontiguousarray(array, dtype=np.float32)
    if kind == "F32":
        return values.tobytes()
    if kind == "F16":
        return values.astype(np.float16).tobytes()
    if kind == "BF16":  # to the nearest, a tie to the even one
        bits = values.view(np.uint32).astype(np.uint64)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16).tobytes()
    quantise = globals()[f"_{kind.lower()}"]
    width = BLOCKS[kind].values
    blocks = quantise(values.reshape(-1, width))
    return bytes(np.ascontiguousarray(blocks))


def _q4_0(x: Floats) -> Bytes:
    return _around_zero(x, 8)


def _q5_0(x: Floats) -> Bytes:
    return _around_zero(x, 16)


def _around_zero(x: Floats, half: int) -> Bytes:
    """Levels from -half to half - 1; the one farthest from zero gets -half."""
    far = np.take_along_axis(x, np.abs(x).argmax(axis=1, keepdims=True), axis=1)
    scale = _half(far / -half)
    q = np.clip(np.round(_over(x, scale)) + half, 0, 2 * half - 1).astype(np.uint8)
    return np.hstack([_bytes(scale), *_fifth(q, half), _packed(q & 15)])


def _q4_1(x: Floats) -> Bytes:
    return _above_least(x, 8)


def _q5_1(x: Floats) -> Bytes:
    return _above_least(x, 16)


def _above_least(x: Floats, half: int) -> Bytes:
    least = _half(x.min(axis=1, keepdims=True))
    scale = _half((x.max(axis=1, keepdims=True) - least) / (2 * half - 1))
    q = np.clip(np.round(_over(x - least, scale)), 0, 2 * half - 1).astype(np.uint8)
    return np.hstack([_bytes(scale), _bytes(least), *_fifth(q, half), _packed(q & 15)])


def _q8_0(x: Floats) -> Bytes:
    scale = _half(np.abs(x).max(axis=1, keepdims=True) / 127)
    q = np.clip(np.round(_over(x, scale)), -127, 127).astype(np.int8)
    return np.hstack([_bytes(scale), q.view(np.uint8)])


def _q2_k(x: Floats) -> Bytes:
    groups = x.reshape(-1, 16, 16)
    least = np.maximum(-groups.min(axis=2), 0)
    fine = (groups.max(axis=2) + least) / 3
    d, dmin = (_half(each.max(axis=1, keepdims=True) / 15) for each in (fine, least))
    scale, minimum = (np.clip(np.round(_over(each, by)), 0, 15).astype(np.uint8)
                      for each, by in ((fine, d), (least, dmin)))  # fmt: skip
    shifted = groups + (dmin * minimum)[:, :, None]
    q = np.clip(np.round(_over(shifted, (d * scale)[:, :, None])), 0, 3).astype(np.uint8)
    return np.hstack([scale | minimum << 4, _quarters(q), _bytes(d), _bytes(dmin)])


def _q3_k(x: Floats) -> Bytes:
    groups = x.reshape(-1, 16, 16)
    d, step, scale = _six_bits(np.abs(groups).max(axis=2) / 4)
    q = np.clip(np.round(_over(groups, scale[:, :, None])) + 4, 0, 7).astype(np.uint8)
    third = np.packbits((q >> 2).reshape(-1, 8, 32).transpose(0, 2, 1), axis=2, bitorder="little")
    high = np.bitwise_or.reduce(
        [step[:, 4 * i : 4 * i + 4] >> 4 << 2 * i for i in range(4)], axis=0
    )
    low = _packed(step & 15, 8)
    return np.hstack([third.reshape(-1, 32), _quarters(q & 3), low, high, _bytes(d)])


def _six_bits(fine: Floats) -> tuple[Floats, Bytes, Floats]:
    """Scales of groups as multiples of one a block: that one, the multiples with 32 more, both."""
    d = _half(fine.max(axis=1, keepdims=True) / 31)
    step = np.clip(np.round(_over(fine, d)), 0, 31).astype(np.uint8) + 32
    return d, step, d * (step.astype(np.float32) - 32)


def _quarters(q: Bytes) -> Bytes:
    """Four levels of 2 bits a byte: of each 128, the first 32 in the lowest ones."""
    parts = q.reshape(-1, 2, 4, 32)
    packed = np.bitwise_or.reduce([parts[:, :, i] << 2 * i for i in range(4)], axis=0)
    return np.ascontiguousarray(packed.reshape(-1, 64))


def _iq4_nl(x: Floats) -> Bytes:
    scale = _half(np.abs(x).max(axis=1, keepdims=True) / 113)
    return np.hstack([_bytes(scale), _packed(_nearest(_over(x, scale)))])


def _iq4_xs(x: Floats) -> Bytes:
    groups = x.reshape(-1, 8, 32)
    d, step, scale = _six_bits(np.abs(groups).max(axis=2) / 113)
    q = _nearest(_over(groups, scale[:, :, None])).reshape(-1, 32)
    high = np.bitwise_or.reduce([(step[:, i::4] >> 4) << 2 * i for i in range(4)], axis=0)
    low = step[:, ::2] & 15 | (step[:, 1::2] & 15) << 4
    return np.hstack([_bytes(d), high, low, _packed(q).reshape(len(x), 128)])


def _nearest(x: Floats) -> Bytes:
    """The places of the values of IQ4 that come nearest."""
    table = np.array(gguf.quants.IQ4_NL.kvalues, dtype=np.float32)
    return np.abs(x[..., None] - table).argmin(axis=-1).astype(np.uint8)


def _q4_k(x: Floats) -> Bytes:
    head, q = _super(x, 15)
    return np.hstack([head, _packed(q.reshape(-1, 32 * 2), 32).reshape(len(x), 128)])


def _q5_k(x: Floats) -> Bytes:
    head, q = _super(x, 31)
    shifts = np.arange(8, dtype=np.uint8)[:, None]
    high = np.bitwise_or.reduce((q.reshape(-1, 8, 32) >> 4) << shifts, axis=1)
    low = _packed(q.reshape(-1, 64) & 15, 32).reshape(len(x), 128)
    return np.hstack([head, high, low])


def _q6_k(x: Floats) -> Bytes:
    groups = x.reshape(-1, 16, 16)
    fine = np.abs(groups).max(axis=2) / 31
    scale = _half(fine.max(axis=1, keepdims=True) / 127)
    step = np.round(_over(fine, scale)).astype(np.int8)
    q = np.round(_over(groups, (scale * step)[:, :, None])) + 32
    q = np.clip(q, 0, 63).astype(np.uint8).reshape(-1, 2, 4, 32)
    low = np.concatenate([q[:, :, i] & 15 | (q[:, :, i + 2] & 15) << 4 for i in (0, 1)], axis=2)
    pairs = (0, 2, 4, 6)
    high = np.bitwise_or.reduce([q[:, :, i] >> 4 << pairs[i] for i in range(4)], axis=0)
    parts = [low.reshape(-1, 128), high.reshape(-1, 64), step.view(np.uint8), _bytes(scale)]
    return np.hstack(parts)


def _super(x: Floats, top: int) -> tuple[Bytes, Bytes]:
    """The two scales and eight finer pairs of a K block, and its values as levels up to `top`."""
    groups = x.reshape(-1, 8, 32)
    least = np.maximum(-groups.min(axis=2), 0)
    fine = (groups.max(axis=2) + least) / top
    d, dmin = (_half(each.max(axis=1, keepdims=True) / 63) for each in (fine, least))
    scale, minimum = (np.clip(np.round(_over(each, by)), 0, 63).astype(np.uint8)
                      for each, by in ((fine, d), (least, dmin)))  # fmt: skip
    shifted = groups + (dmin * minimum)[:, :, None]
    q = np.clip(np.round(_over(shifted, (d * scale)[:, :, None])), 0, top).astype(np.uint8)
    packed = np.hstack([
        scale[:, :4] | scale[:, 4:] >> 4 << 6,
        minimum[:, :4] | minimum[:, 4:] >> 4 << 6,
        scale[:, 4:] & 15 | (minimum[:, 4:] & 15) << 4,
    ])  # fmt: skip
    return np.hstack([_bytes(d), _bytes(dmin), packed]), q.reshape(len(x), 256)


def _packed(q: Bytes, half: int = 16) -> Bytes:
    """Two levels of 4 bits a byte, the first half of a row in the low ones."""
    return q[:, :half] | q[:, half:] << 4


def _fifth(q: Bytes, half: int) -> list[Bytes]:
    return [np.packbits(q >> 4, axis=1, bitorder="little")] if half == 16 else []


def _half(x: Floats) -> Floats:
    """Rounded to what float16 holds."""
    return x.astype(np.float16).astype(np.float32)


def _bytes(x: Floats) -> Bytes:
    return x.astype(np.float16).view(np.uint8)


def _over(x: Floats, scale: Floats) -> Floats:
    return np.divide(x, scale, out=np.zeros_like(x), where=np.broadcast_to(scale != 0, x.shape))
