"""Weights that other programs quantised to floats, some rows at a time.

    rows    q · scale of the row, or of all
    turned  q · scale, then each group of a row times a Hadamard matrix, which is its own inverse
    groups  q · scale of a group of the row, with a zero point, a product of low rank, and turned
    nvfp4   e2m1 · e4m3 scale of 16 values · scale of all; the first value in a byte's high half
    mxfp8   e4m3 · 2^(byte - 127) of 32 values
    table   what a table says of 4 bits, the high half first · scale of a block of all values

The scales of nvfp4 and mxfp8 lie as cuBLAS reads them: in tiles of 128 rows and 4 columns, in
which row r of a tile begins at 16 · (r mod 32) + 4 · (r div 32). Source: "Block Scaling Factors
Layout" of https://docs.nvidia.com/cuda/cublas. All else is what the programs' own code computes;
`make test-wild` holds it against them. Everything is computed in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from sakuga.errors import CorruptFile
from sakuga.weights.quantise import all_finite, floats
from sakuga.weights.schemes import Quantised
from sakuga.weights.untrusted import AGAIN

CHUNK = 2**19  # values at once: a few megabytes of float32 stay in a cache
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
TILE = 128, 4  # rows and columns of scales
BASES = {  # whose Kronecker powers turn: those of 4 where the size of a group is one, else of 2
    4: ((1, 1, 1, -1), (1, 1, -1, 1), (1, -1, 1, 1), (-1, 1, 1, 1)),
    2: ((1, 1), (1, -1)),
}


@dataclass(frozen=True, slots=True)
class Unfolding:
    """A weight (R, W) that another program quantised, its parts as tensors by their roles.

    where: the weight and its file, for errors.
    """

    weight: Quantised
    parts: Mapping[str, Tensor]
    where: str

    @property
    def kind(self) -> str:
        """The name of its scheme."""
        return self.weight.scheme.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Its own shape."""
        return self.weight.shape

    def rows(self, first: int, last: int, dtype: torch.dtype) -> Tensor:
        """Rows `first` to `last` in `dtype`. Raises CorruptFile where a scale is not finite."""
        width = self.shape[1]
        values = torch.empty(last - first, width, dtype=dtype)
        rule, step = RULES[self.weight.scheme.rule], max(1, CHUNK // max(1, width))
        for start in range(first, last, step):
            end = min(start + step, last)
            values[start - first : end - first] = rule(self, start, end)[:, :width]
        return values

    def picked(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """The rows (..., W) at some places (...)."""
        rows = [self.rows(place, place + 1, dtype) for place in ids.flatten().tolist()]
        return torch.cat(rows).view(*ids.shape, self.shape[1])

    def scale(self, scale: Tensor) -> Tensor:
        """Scales in float32. Raises CorruptFile where one is not finite."""
        scale = floats(scale)
        if not all_finite(scale):
            rule = "scales are finite numbers"
            raise CorruptFile(rule, f"NaN or infinity beside {self.where}", AGAIN)
        return scale


def _rows(of: Unfolding, first: int, last: int) -> Tensor:
    scale = of.scale(of.parts["scale"].reshape(-1, 1))
    return of.parts["values"][first:last].float() * (
        scale if len(scale) == 1 else scale[first:last]
    )


def _turned(of: Unfolding, first: int, last: int) -> Tensor:
    return _turn(_rows(of, first, last), int(of.weight.said["turned"]))


def _groups(of: Unfolding, first: int, last: int) -> Tensor:
    said, parts, width = of.weight.said, of.parts, of.shape[1]
    values, groups = parts["values"], int(said["groups"])
    if "least" in said:
        q = _halves(values, first * width, last * width, int(said["least"]))
    else:
        q = floats(values[first:last])
    q = q.view(last - first, groups, -1)

    def of_groups(part: str) -> Tensor:
        tensor = parts[part].reshape(-1, groups)
        return of.scale(tensor if len(tensor) == 1 else tensor[first:last])[:, :, None]

    if "less" in parts:
        q.sub_(of_groups("less"))
    q.mul_(of_groups("scale"))
    if "zero" in parts:
        q.add_(of_groups("zero"))
    rows = q.flatten(1)
    if "up" in parts:
        rows.addmm_(of.scale(parts["up"][first:last]), of.scale(parts["down"]))
    return _turn(rows, int(said["turned"])) if "turned" in said else rows


def _nvfp4(of: Unfolding, first: int, last: int) -> Tensor:
    values = _looked_up(of.parts["values"][first:last], _e2m1_pairs())
    scale = of.scale(_tiled(of.parts["scale"], first, last, values.shape[1] // 16))
    return _scaled(values, of.scale(of.parts["whole"]).view(()) * scale)


def _mxfp8(of: Unfolding, first: int, last: int) -> Tensor:
    values = floats(of.parts["values"][first:last])
    exponents = _tiled(of.parts["scale"], first, last, values.shape[1] // 32)
    # As the exponent of a float32: byte 0 is zero then, and 255 no number.
    scale = of.scale((exponents.int() << 23).view(torch.float32))
    return _scaled(values, scale)


def _table(of: Unfolding, first: int, last: int) -> Tensor:
    said, parts, width = of.weight.said, of.parts, of.shape[1]
    block = int(said["block"])
    start, end = first * width, last * width
    low, high = start // block, -(-end // block)  # blocks that hold these values
    packed = parts["values"].flatten()[low * block // 2 : high * block // 2]
    values = _looked_up(packed, _pairs(of.scale(parts["map"]))).flatten()
    if missing := (high - low) * block - len(values):  # of the last block
        values = F.pad(values, (0, missing))
    values = values.view(-1, block)
    scale = parts["scale"][low:high]
    if "inner_scale" in parts:
        at = torch.arange(low, high) // int(said["inner"])
        inner = of.scale(parts["inner_map"])[scale.int()]
        scale = inner * of.scale(parts["inner_scale"])[at] + said["offset"]
    values = values.mul_(of.scale(scale)[:, None]).flatten()
    return values[start - low * block : end - low * block].view(-1, width)


def _scaled(values: Tensor, scale: Tensor) -> Tensor:
    """(R, W) times one scale for each block of a row."""
    return values.view(*scale.shape, -1).mul_(scale[:, :, None]).flatten(1)


def _tiled(scale: Tensor, first: int, last: int, blocks: int) -> Tensor:
    """Rows of scales that lie in tiles, as many as a row has blocks; what fills tiles is left."""
    rows, columns = TILE
    start, end = first // rows, -(-last // rows)  # tiles that hold these rows
    tiles = scale.view(-1, scale.shape[1] // columns, 32, rows // 32, columns)[start:end]
    plain = tiles.permute(0, 3, 2, 1, 4).reshape(-1, scale.shape[1])
    return plain[first - start * rows : last - start * rows, :blocks]


def _looked_up(packed: Tensor, pairs: Tensor) -> Tensor:
    """What a table of all bytes says of both halves of each: (..., N) to (..., 2 N)."""
    found = pairs.index_select(0, packed.flatten().int()).view(torch.float32)
    return found.view(*packed.shape[:-1], -1)


def _pairs(table: Tensor, *, low_first: bool = False) -> Tensor:
    """What a table of 16 says of the halves of a byte, for every byte.

    A pair of float32 is moved as if it were one float64, which is several times as fast.
    """
    pairs = torch.cartesian_prod(table, table)
    return (pairs.flip(1) if low_first else pairs).contiguous().view(torch.float64).flatten()


@cache
def _e2m1_pairs() -> Tensor:
    return _pairs(torch.tensor((*E2M1, *(-value for value in E2M1)), dtype=torch.float32))


@cache
def _integer_pairs(least: int) -> Tensor:
    return _pairs(torch.arange(least, least + 16, dtype=torch.float32), low_first=True)


def _halves(packed: Tensor, start: int, end: int, least: int) -> Tensor:
    """The numbers `start` to `end` of those in the halves of bytes, low first, from `least` on."""
    some = _looked_up(packed[start // 2 : -(-end // 2)], _integer_pairs(least))
    return some[start % 2 : start % 2 + end - start]


def _turn(rows: Tensor, size: int) -> Tensor:
    """Each group of `size` values of a row times a Hadamard matrix of that size.

    The matrix is a Kronecker product of two smaller ones, which take less than it would.
    """
    base = 4 if size.bit_length() % 2 else 2
    count = size.bit_length() // (2 if base == 4 else 1) - (base == 2)
    one, two = _power(base, count // 2), _power(base, count - count // 2)
    turned: Tensor = one @ (rows.reshape(-1, len(one), len(two)) @ two)
    return turned.view(rows.shape)


@cache
def _power(base: int, count: int) -> Tensor:
    """The Kronecker power of a base, of which a row is as long as one."""
    made, matrix = torch.ones(1, 1), torch.tensor(BASES[base]) / math.sqrt(base)
    for _ in range(count):
        made = torch.kron(made, matrix)
    return made


RULES: Mapping[str, Callable[[Unfolding, int, int], Tensor]] = {
    "rows": _rows,
    "turned": _turned,
    "groups": _groups,
    "nvfp4": _nvfp4,
    "mxfp8": _mxfp8,
    "table": _table,
}
