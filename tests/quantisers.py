"""Weights as other programs keep them: any bits a scheme allows, and the floats they stand for.

Each value is computed by itself, from the definition of its scheme, in float64.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

Floats = NDArray[np.float64]
Shape = tuple[int, int]


@dataclass(frozen=True)
class Kept:
    """One weight: tensors by what follows the name of its linear, and what they stand for.

    metadata: of the file, where it speaks of this weight; `{name}` stands for the linear's name.
    config: the quantization_config that belongs to it.
    """

    tensors: Mapping[str, Tensor]
    want: Floats
    metadata: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    layer: Mapping[str, Any] = field(default_factory=dict)


def e4m3(byte: int) -> float:
    """A float of 4 bits of exponent and 3 of fraction."""
    sign, exponent, fraction = -1 if byte & 128 else 1, byte >> 3 & 15, byte & 7
    return sign * (
        fraction / 8 * 2**-6 if not exponent else (1 + fraction / 8) * 2 ** (exponent - 7)
    )


def e5m2(byte: int) -> float:
    """A float of 5 bits of exponent and 2 of fraction."""
    return float(struct.unpack("<e", bytes((0, byte)))[0])


def e2m1(bits: int) -> float:
    """A float of 2 bits of exponent and 1 of fraction."""
    sign, exponent, fraction = -1 if bits & 8 else 1, bits >> 1 & 3, bits & 1
    return sign * (fraction / 2 if not exponent else (1 + fraction / 2) * 2 ** (exponent - 1))


def looked_up(raw: NDArray[np.uint8], value: Callable[[int], float]) -> Floats:
    return np.array([value(byte) for byte in range(256)])[raw]


def some(rng: Generator, *sizes: int) -> Tensor:
    """Scales of any size but zero."""
    return torch.tensor(rng.uniform(0.5, 2, sizes) * 0.01, dtype=torch.float32)


def integers(rng: Generator, shape: Shape) -> Tensor:
    return torch.tensor(rng.integers(-127, 128, shape), dtype=torch.int8)


def float8(rng: Generator, shape: Shape, dtype: torch.dtype) -> tuple[Tensor, Floats]:
    """Bytes that are no NaN and no infinity, as that dtype and as numbers."""
    raw = (
        rng.integers(0, 123, shape, dtype=np.uint8) | rng.integers(0, 2, shape, dtype=np.uint8) << 7
    )
    return torch.tensor(raw).view(dtype), looked_up(raw, e4m3 if dtype == E4M3 else e5m2)


E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2


def said(**words: Any) -> Tensor:
    """JSON as ComfyUI keeps it in a tensor."""
    return torch.tensor(list(json.dumps(words).encode()), dtype=torch.uint8)


def fp8_scaled(rng: Generator, shape: Shape, dtype: torch.dtype = E4M3) -> Kept:
    values, numbers = float8(rng, shape, dtype)
    scale = some(rng, 1)
    more = {"scale_input": torch.ones(())}
    return Kept({"weight": values, "scale_weight": scale, **more}, numbers * scale.double().numpy())


def comfy_float8(rng: Generator, shape: Shape, dtype: torch.dtype = E4M3) -> Kept:
    values, numbers = float8(rng, shape, dtype)
    scale, name = some(rng)[()], "float8_e4m3fn" if dtype == E4M3 else "float8_e5m2"
    tensors = {"weight": values, "weight_scale": scale, "comfy_quant": said(format=name)}
    return Kept(tensors | {"input_scale": torch.ones(())}, numbers * scale.item())


def listed_float8(rng: Generator, shape: Shape) -> Kept:
    kept = comfy_float8(rng, shape)
    tensors = {name: value for name, value in kept.tensors.items() if name != "comfy_quant"}
    return Kept(tensors, kept.want, layer={"format": "float8_e4m3fn"})


def bare_float8(rng: Generator, shape: Shape) -> Kept:
    kept = listed_float8(rng, shape)
    return Kept(kept.tensors, kept.want)


def comfy_int8(rng: Generator, shape: Shape) -> Kept:
    values, scale = integers(rng, shape), some(rng, shape[0], 1)
    want = values.double().numpy() * scale.double().numpy()
    tensors = {"weight": values, "weight_scale": scale}
    return Kept(tensors | {"comfy_quant": said(format="int8_tensorwise")}, want)


def regular(size: int) -> Floats:
    """A Hadamard matrix of a power of 4: a sign for each pair of digits that add up to 3."""
    digits = (size.bit_length() - 1) // 2

    def sign(i: int, j: int) -> float:
        pairs = [(i >> 2 * at & 3) + (j >> 2 * at & 3) for at in range(digits)]
        return -1.0 if pairs.count(3) % 2 else 1.0

    return np.array([[sign(i, j) for j in range(size)] for i in range(size)]) / np.sqrt(size)


def walsh(size: int) -> Floats:
    """A Hadamard matrix of a power of 2: a sign for each bit that two places share."""
    signs = [[-1.0 if (i & j).bit_count() % 2 else 1.0 for j in range(size)] for i in range(size)]
    return np.array(signs) / np.sqrt(size)


def turned(rows: Floats, matrix: Floats) -> Floats:
    size = len(matrix)
    return np.hstack([rows[:, at : at + size] @ matrix for at in range(0, rows.shape[1], size)])


def convrot(rng: Generator, shape: Shape) -> Kept:
    group = next(size for size in (64, 16, 4) if shape[1] % size == 0)
    kept = comfy_int8(rng, shape)
    words = said(format="int8_tensorwise", convrot=True, convrot_groupsize=group)
    return Kept({**kept.tensors, "comfy_quant": words}, turned(kept.want, regular(group)))


def swizzled(plain: NDArray[np.uint8], fill: int) -> NDArray[np.uint8]:
    """Scales in tiles of 128 rows and 4 columns, each value put where it belongs."""
    rows, columns = -(-plain.shape[0] // 128) * 128, -(-plain.shape[1] // 4) * 4
    made = np.full(rows * columns, fill, np.uint8)
    for (row, column), value in np.ndenumerate(plain):
        tile = row // 128 * (columns // 4) + column // 4
        made[tile * 512 + row % 32 * 16 + row % 128 // 32 * 4 + column % 4] = value
    return made.reshape(rows, columns)


def made_up(shape: Shape, whole: int) -> Shape:
    return -(-shape[0] // whole) * whole, -(-shape[1] // whole) * whole


def nvfp4(rng: Generator, shape: Shape) -> Kept:
    rows, columns = made_up(shape, 16)
    bits = rng.integers(0, 16, (rows, columns), dtype=np.uint8)
    scale = rng.integers(40, 100, (rows, columns // 16), dtype=np.uint8)
    whole = some(rng)[()]
    want = looked_up(bits, e2m1) * np.repeat(looked_up(scale, e4m3), 16, axis=1) * whole.item()
    tensors = {
        "weight": torch.tensor(bits[:, ::2] << 4 | bits[:, 1::2]),
        "weight_scale": torch.tensor(swizzled(scale, 255)).view(E4M3),  # no number where none is
        "weight_scale_2": whole, "comfy_quant": said(format="nvfp4"),
    }  # fmt: skip
    return Kept(tensors, want[: shape[0], : shape[1]])


def mxfp8(rng: Generator, shape: Shape) -> Kept:
    rows, columns = made_up(shape, 32)
    values, numbers = float8(rng, (rows, columns), E4M3)
    scale = rng.integers(110, 130, (rows, columns // 32), dtype=np.uint8)
    want = numbers * np.repeat(2.0 ** (scale.astype(np.float64) - 127), 32, axis=1)
    tensors = {
        "weight": values, "comfy_quant": said(format="mxfp8"),
        "weight_scale": torch.tensor(swizzled(scale, 255)).view(torch.float8_e8m0fnu),
    }  # fmt: skip
    return Kept(tensors, want[: shape[0], : shape[1]])


def nf4(rng: Generator, shape: Shape, nested: bool = False) -> Kept:
    count, block, inner = shape[0] * shape[1], 64, 256
    blocks = -(-count // block)
    bits = rng.integers(0, 16, count + count % 2, dtype=np.uint8)
    table = torch.tensor(np.sort(rng.uniform(-1, 1, 16)), dtype=torch.float32)
    state = {"quant_type": "nf4", "blocksize": block, "dtype": "float32", "shape": list(shape)}
    tensors = {"weight": torch.tensor(bits[::2] << 4 | bits[1::2])[:, None],
               "weight.quant_map": table}  # fmt: skip
    if nested:
        state |= {"nested_blocksize": inner, "nested_offset": 0.25, "nested_dtype": "float32"}
        raw = rng.integers(0, 256, blocks, dtype=np.uint8)
        names, scale = torch.tensor(rng.uniform(-1, 1, 256), dtype=torch.float32), some(
            rng, -(-blocks // inner))  # fmt: skip
        tensors |= {"weight.absmax": torch.tensor(raw), "weight.nested_quant_map": names,
                    "weight.nested_absmax": scale}  # fmt: skip
        largest = names.double().numpy()[raw] * np.repeat(scale.double().numpy(), inner)[:blocks]
        largest = largest + 0.25
    else:
        tensors["weight.absmax"] = some(rng, blocks)
        largest = tensors["weight.absmax"].double().numpy()
    tensors["weight.quant_state.bitsandbytes__nf4"] = said(**state)
    want = table.double().numpy()[bits[:count]] * np.repeat(largest, block)[:count]
    return Kept(tensors, want.reshape(shape))


def bnb_int8(rng: Generator, shape: Shape) -> Kept:
    values, scale = integers(rng, shape), some(rng, shape[0])
    tensors = {"weight": values, "SCB": scale, "weight_format": torch.tensor(0, dtype=torch.uint8)}
    return Kept(tensors, values.double().numpy() * scale.double().numpy()[:, None] / 127)


def config(**words: Any) -> dict[str, Any]:
    return {"quant_method": "sdnq", "weights_dtype": "uint4", "hadamard_group_size": 256, **words}


def sdnq_uint4(rng: Generator, shape: Shape, low: bool = False, turn: int = 0) -> Kept:
    group = next(size for size in (8, 4, 2, 1) if shape[1] % size == 0)
    groups = shape[1] // group
    bits = rng.integers(0, 16, shape, dtype=np.uint8)
    flat = np.append(bits.flatten(), np.zeros(bits.size % 2, np.uint8))
    scale, zero = some(rng, shape[0], groups, 1), some(rng, shape[0], groups, 1)
    tensors = {"weight": torch.tensor(flat[::2] | flat[1::2] << 4), "scale": scale,
               "zero_point": zero}  # fmt: skip
    want = bits * np.repeat(scale.double().numpy()[:, :, 0], group, axis=1)
    want = want + np.repeat(zero.double().numpy()[:, :, 0], group, axis=1)
    if low:
        tensors |= {"svd_up": some(rng, shape[0], 3), "svd_down": some(rng, 3, shape[1])}
        want = want + tensors["svd_up"].double().numpy() @ tensors["svd_down"].double().numpy()
    if turn:
        size = turn
        while shape[1] % size:
            size //= 2
        power_of_4 = size.bit_length() % 2 == 1
        if size >= 4:
            want = turned(want, regular(size) if power_of_4 else walsh(size))
    return Kept(
        tensors, want, config=config(use_hadamard=bool(turn), hadamard_group_size=turn or 256)
    )


def sdnq_int8(rng: Generator, shape: Shape) -> Kept:
    values, scale = integers(rng, shape), some(rng, shape[0], 1)
    want = values.double().numpy() * scale.double().numpy()
    return Kept({"weight": values, "scale": scale}, want, config=config(weights_dtype="int8"))


def torchao(rng: Generator, shape: Shape, offset: bool = False) -> Kept:
    group = next(size for size in (4, 2, 1) if shape[1] % size == 0)
    columns = shape[1] // group if offset else 1
    values, scale = integers(rng, shape), some(rng, shape[0], columns)
    low, high = (-8, 8) if offset else (0, 1)
    zero = torch.tensor(rng.integers(low, high, (shape[0], columns)), dtype=torch.int8)
    width = shape[1] // columns
    want = values.double().numpy() - np.repeat(zero.double().numpy(), width, axis=1)
    want = want * np.repeat(scale.double().numpy(), width, axis=1)
    kind = {"_type": "IntxUnpackedToInt8Tensor" if offset else "Int8Tensor", "_data": {}}
    tensors = {"_weight_qdata": values, "_weight_scale": scale, "_weight_zero_point": zero}
    return Kept(tensors, want, metadata={"{name}.weight": json.dumps(kind)})


def quanto(rng: Generator, shape: Shape) -> Kept:
    values, scale = integers(rng, shape), some(rng, shape[0], 1)
    tensors = {"weight._data": values, "weight._scale": scale, "input_scale": torch.ones(()),
               "output_scale": torch.ones(())}  # fmt: skip
    return Kept(tensors, values.double().numpy() * scale.double().numpy())


Maker = Callable[[Generator, Shape], Kept]
# By what `inspect` calls them, and what tells two of one scheme apart.
IN_FORM: Mapping[str, Maker] = {
    "fp8_scaled": fp8_scaled,
    "comfy_float8": comfy_float8,
    "comfy_float8 in the metadata": listed_float8,
    "float8_scale": bare_float8,
    "comfy_int8": comfy_int8,
    "bnb_int8": bnb_int8,
    "sdnq int8": sdnq_int8,
    "torchao": torchao,
    "quanto": quanto,
}  # what a storage format of ours holds
PACKED: Mapping[str, Maker] = {
    "fp8_scaled e5m2": lambda rng, shape: fp8_scaled(rng, shape, E5M2),
    "comfy_float8 e5m2": lambda rng, shape: comfy_float8(rng, shape, E5M2),
    "comfy_int8_convrot": convrot,
    "nvfp4": nvfp4,
    "mxfp8": mxfp8,
    "bnb_4bit": nf4,
    "bnb_4bit nested": lambda rng, shape: nf4(rng, shape, nested=True),
    "sdnq": sdnq_uint4,
    "sdnq svd": lambda rng, shape: sdnq_uint4(rng, shape, low=True),
    "sdnq turned": lambda rng, shape: sdnq_uint4(rng, shape, turn=256),
    "sdnq svd turned by 32": lambda rng, shape: sdnq_uint4(rng, shape, low=True, turn=32),
    "torchao groups": lambda rng, shape: torchao(rng, shape, offset=True),
}
EVERY = IN_FORM | PACKED


def write(
    file: Path,
    weights: Mapping[str, Kept],
    others: Mapping[str, Tensor] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """A file of linears, by their names, and of other tensors."""
    tensors, layers, told = dict(others or {}), {}, dict(metadata or {})
    for name, kept in weights.items():
        tensors |= {f"{name}.{part}": value for part, value in kept.tensors.items()}
        told |= {key.format(name=name): text for key, text in kept.metadata.items()}
        layers |= {name: kept.layer} if kept.layer else {}
    if layers:
        told["_quantization_metadata"] = json.dumps({"format_version": "1.0", "layers": layers})
    if any("scale_weight" in kept.tensors for kept in weights.values()):
        tensors["scaled_fp8"] = torch.empty(0, dtype=E4M3)
    save_file({key: value.contiguous() for key, value in tensors.items()}, file, told or None)
    return file
