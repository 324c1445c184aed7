"""The block formats of GGUF files to floats, a few blocks at a time.

A block holds its values in a few bits each beside one or two scales in float16; a K block of
256 values has eight or sixteen finer scales within; the bits of IQ4 are places in a table. Every
formula is that of its dequantize_row in ggml-quants.c (https://github.com/ggml-org/ggml), in
float32 and in the same order, so the values are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import Tensor

from sakuga.weights.gguf import BLOCKS

CHUNK = 2**19  # values at once: a few megabytes of float32 stay in a cache
# What the four bits of IQ4_NL and IQ4_XS stand for: kvalues_iq4nl in ggml-common.h.
IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


def dequantise_blocks(raw: Tensor, kind: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Values of a shape in `dtype`, from the bytes (N,) of their blocks.

    kind: a name of `gguf.BLOCKS`. Beside the result no more than a chunk is ever in float32.
    """
    block, kernel = BLOCKS[kind], KERNELS[kind]
    blocks = raw.view(-1, block.nbytes)
    values = torch.empty(blocks.shape[0], block.values, dtype=dtype)
    step = CHUNK // block.values
    for part, into in zip(torch.split(blocks, step), torch.split(values, step), strict=True):
        into.copy_(kernel(part))
    return values.view(shape)


def _q4_0(blocks: Tensor) -> Tensor:
    return _nibbles(blocks[:, 2:]).float().sub_(8).mul_(_half(blocks, 0))


def _q4_1(blocks: Tensor) -> Tensor:
    return _nibbles(blocks[:, 4:]).float().mul_(_half(blocks, 0)).add_(_half(blocks, 2))


def _q5_0(blocks: Tensor) -> Tensor:
    q = _nibbles(blocks[:, 6:]).bitwise_or_(_bits(blocks[:, 2:6], 16))
    return q.float().sub_(16).mul_(_half(blocks, 0))


def _q5_1(blocks: Tensor) -> Tensor:
    q = _nibbles(blocks[:, 8:]).bitwise_or_(_bits(blocks[:, 4:8], 16))
    return q.float().mul_(_half(blocks, 0)).add_(_half(blocks, 2))


def _q8_0(blocks: Tensor) -> Tensor:
    return blocks[:, 2:].view(torch.int8).float().mul_(_half(blocks, 0))


def _q2_k(blocks: Tensor) -> Tensor:
    # Sixteen bytes of a scale and a least value of 4 bits each, then four values a byte.
    scales, q = blocks[:, :16, None], _planes(blocks[:, 16:80], 2).view(-1, 16, 16)
    scale = _half(blocks, 80)[:, :, None] * (scales & 15).float()
    least = _half(blocks, 82)[:, :, None] * (scales >> 4).float()
    return q.float().mul_(scale).sub_(least).flatten(1)


def _q3_k(blocks: Tensor) -> Tensor:
    # The third bit of a value, where it is 0, takes 4 from it: 32 bytes of them lie first.
    q = _planes(blocks[:, 32:96], 2).bitwise_or_(_planes(blocks[:, :32], 1, 4))
    fine = _nibbles(blocks[:, 96:104]) | _planes(blocks[:, 104:108], 2, 16, width=4)
    scale = _half(blocks, 108) * (fine.float() - 32)
    return q.view(-1, 16, 16).float().sub_(4).mul_(scale[:, :, None]).flatten(1)


def _iq4_nl(blocks: Tensor) -> Tensor:
    return _iq4(blocks[:, 2:]).mul_(_half(blocks, 0))


def _iq4_xs(blocks: Tensor) -> Tensor:
    # Eight scales of 6 bits: their high pairs in bytes 2 and 3, their low halves in four more.
    pairs = torch.arange(0, 8, 2, dtype=torch.uint8)
    high = (blocks[:, 2:4, None] >> pairs & 3).flatten(1)
    low = torch.stack((blocks[:, 4:8] & 15, blocks[:, 4:8] >> 4), dim=2).flatten(1)
    scale = _half(blocks, 0) * ((low | high << 4).float() - 32)
    q = _iq4(blocks[:, 8:].reshape(-1, 16)).view(-1, 8, 32)
    return q.mul_(scale[:, :, None]).flatten(1)


def _q4_k(blocks: Tensor) -> Tensor:
    scale, least = _scales_k(blocks)
    q = _planes(blocks[:, 16:], 4).view(-1, 8, 32)
    return q.float().mul_(scale).sub_(least).flatten(1)


def _q5_k(blocks: Tensor) -> Tensor:
    scale, least = _scales_k(blocks)
    # Bit j of byte l is the fifth bit of value l in the j-th 32.
    q = _planes(blocks[:, 48:], 4).bitwise_or_(_planes(blocks[:, 16:48], 1, 16))
    return q.view(-1, 8, 32).float().mul_(scale).sub_(least).flatten(1)


def _q6_k(blocks: Tensor) -> Tensor:
    # Twice 128 values: 64 bytes of low nibbles, 32 of four high pairs of bits each.
    low = _planes(blocks[:, :128], 4, width=64)
    q = low.bitwise_or_(_planes(blocks[:, 128:192], 2, 16))
    scale = _half(blocks, 208) * blocks[:, 192:208].view(torch.int8).float()
    return q.view(-1, 16, 16).float().sub_(32).mul_(scale[:, :, None]).flatten(1)


def _scales_k(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and least value of each 32 values of Q4_K and Q5_K blocks: (blocks, 8, 1) both.

    Twelve bytes hold eight scales and eight minima of 6 bits: get_scale_min_k4 in ggml-quants.c.
    """
    first, second, third = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scale = torch.cat((first & 63, third & 15 | first >> 6 << 4), dim=1)
    least = torch.cat((second & 63, third >> 4 | second >> 6 << 4), dim=1)
    return (
        (_half(blocks, 0) * scale.float())[:, :, None],
        (_half(blocks, 2) * least.float())[:, :, None],
    )


def _half(blocks: Tensor, at: int) -> Tensor:
    """The float16 at a byte of each block, in float32: (blocks, 1)."""
    return blocks[:, at : at + 2].contiguous().view(torch.float16).float()


def _nibbles(packed: Tensor) -> Tensor:
    """Low halves of all bytes, then high halves: (N, bytes) to (N, 2 * bytes)."""
    return torch.cat((packed & 15, packed >> 4), dim=1)


def _iq4(packed: Tensor) -> Tensor:
    """What the halves of bytes stand for, as `_nibbles` orders them."""
    table = torch.tensor(IQ4, dtype=torch.float32)
    return table.index_select(0, _nibbles(packed).int().flatten()).view(len(packed), -1)


def _planes(packed: Tensor, bits: int, unit: int = 1, width: int = 32) -> Tensor:
    """Fields of a few bits of bytes, of each `width` bytes the lowest first: (N, B · 8 / bits).

    unit: what the lowest bit of a field counts for. Four bytes are shifted as one.
    """
    words = packed.clone(memory_format=torch.contiguous_format)  # which lies where words may
    words = words.view(torch.int32).view(-1, width // 4)
    made = torch.empty(len(words), 8 // bits, width // 4, dtype=torch.int32)
    mask, left = (1 << bits) - 1, unit.bit_length() - 1
    for place in range(8 // bits):
        right = place * bits - left
        moved = words >> right if right > 0 else words << -right if right else words
        torch.bitwise_and(moved, mask * unit * 0x01010101, out=made[:, place])
    return made.view(torch.uint8).view(len(packed), packed.shape[1] * 8 // bits)


def _bits(packed: Tensor, unit: int) -> Tensor:
    """The bits of bytes, lowest first, each as a unit or zero: (N, bytes) to (N, 8 * bytes)."""
    found = _bit_table(unit).index_select(0, packed.flatten().int())
    return found.view(torch.uint8).view(len(packed), -1)


@cache
def _bit_table(unit: int) -> Tensor:
    """What `_bits` makes of each byte, moved as one number of eight bytes."""
    places = torch.arange(8, dtype=torch.uint8)
    table = (torch.arange(256, dtype=torch.uint8)[:, None] >> places & 1) * unit
    return table.view(torch.int64).flatten()


KERNELS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "IQ4_NL": _iq4_nl,
    "IQ4_XS": _iq4_xs,
}
