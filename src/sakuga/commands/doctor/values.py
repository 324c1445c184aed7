"""The numbers in weights: NaN, infinity, and matrices of nothing but zeros."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader

import torch
from torch import Tensor

from sakuga.commands.doctor.files import Components, some
from sakuga.commands.doctor.finding import Diagnoses, green, red, yellow
from sakuga.errors import CorruptFile
from sakuga.printable import readable
from sakuga.weights.ggml import dequantise_blocks
from sakuga.weights.gguf import BLOCKS
from sakuga.weights.header import TensorInfo
from sakuga.weights.quantise import TORCH_DTYPES
from sakuga.weights.store import Store
from sakuga.weights.translated import as_written

QUICK = 96 << 20  # bytes that are looked at unless all of them shall be
PROBES = 4  # places of a tensor that are looked at when not all of it is
CHUNK = 4 << 20
# Of integers only zero is asked; torch looks for the least and greatest of signed ones alone.
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, slots=True)
class Health:
    """What was seen of a file: bytes looked at, keys of matrices, of NaN or infinity, of zeros."""

    looked: int
    matrices: tuple[str, ...]
    broken: tuple[str, ...]
    empty: tuple[str, ...]


def values(components: Components, *, everything: bool) -> Diagnoses:
    """A finding for what is wrong in a component, and one that says how much was looked at."""
    stores = {name: as_written(part.store) for name, part in components.items()}
    total = sum(info.nbytes for store in stores.values() for info in infos(store))
    count = sum(map(len, stores.values()))
    most = None if everything or total <= QUICK else QUICK // count
    looked = 0
    for name, store in stores.items():
        health = examine_values(store, most)
        looked += health.looked
        if health.broken:
            fix = "Download or convert the file again: these weights draw noise or nothing."
            yield red(name, f"NaN or infinity in {some(health.broken)}", fix)
        if health.empty and health.empty == health.matrices:
            fix = "Download or convert the file again: the network computes nothing."
            yield red(name, f"nothing but zeros in all {len(health.matrices)} matrices", fix)
        elif health.empty:
            fix = "Compare with another copy of the file; a few may be so by design."
            yield yellow(name, f"nothing but zeros in {some(health.empty)}", fix)
    if most is None:
        yield green("values", f"all numbers of {count} tensors were looked at")
    else:
        share = f"{readable(looked)} of {readable(total)}"
        yield green("values", f"{share} were looked at, some of every tensor; --scan reads all")


def examine_values(store: Store, most: int | None = None) -> Health:
    """Read the numbers of a file piece by piece, at most about `most` bytes of each tensor."""
    looked, matrices, broken, empty = 0, [], [], []
    for key in store:
        info = store.info(key)
        finite, zero = True, True
        for low, high, count in _spans(info, most):
            looked += count
            finite = finite and math.isfinite(low) and math.isfinite(high)
            zero = zero and low == high == 0
        if not finite:
            broken.append(key)
        if len(info.shape) > 1 and info.nbytes:
            matrices.append(key)
            if zero:
                empty.append(key)
    return Health(looked, tuple(matrices), tuple(broken), tuple(empty))


def _spans(info: TensorInfo, most: int | None) -> Iterator[tuple[float, float, int]]:
    """The least and greatest number of each piece of a tensor, and the piece's bytes."""
    with info.file.open("rb") as stream:
        if most is not None:
            _expect_jumps(stream)
        for first, last in pieces(info, most):
            yield (*extremes(stream, info, first, last), last - first)


def extremes(
    stream: BufferedReader, info: TensorInfo, first: int, last: int
) -> tuple[float, float]:
    """The least and the greatest of some numbers; NaN if one of them is.

    first, last: bytes within the tensor. They are read, not mapped: a map would fetch much
    more of the disk around each place.
    """
    data = bytearray(last - first)
    stream.seek(info.start + first)
    if stream.readinto(data) < len(data):
        raise CorruptFile(
            "a file stays as it is while it is read", f"an end within {info.file}",
            "Wait until it is whole, then try again",
        )  # fmt: skip
    low, high = torch.aminmax(_numbers(data, info.dtype))
    return float(low), float(high)


def _numbers(data: bytearray, name: str) -> Tensor:
    """Stored bytes as numbers whose least and greatest torch can tell."""
    if name in BLOCKS:
        block, raw = BLOCKS[name], torch.frombuffer(data, dtype=torch.uint8)
        shape = (len(data) // block.nbytes * block.values,)
        return dequantise_blocks(raw, name, shape, torch.float32)
    numbers = torch.frombuffer(data, dtype=_readable(name))
    return numbers.float() if numbers.is_floating_point() and numbers.itemsize == 1 else numbers


def _readable(name: str) -> torch.dtype:
    """The dtype in which stored numbers are looked at."""
    dtype = TORCH_DTYPES.get(name, torch.uint8)  # of others it is only asked whether all is zero
    return dtype if dtype.is_floating_point else INTEGERS[dtype.itemsize]


def infos(store: Store) -> Iterator[TensorInfo]:
    """What the headers of a file say, tensor by tensor."""
    return (store.info(key) for key in store)


def pieces(info: TensorInfo, most: int | None) -> Iterator[tuple[int, int]]:
    """Ranges of bytes to look at: all in chunks, or a few that reach from first to last."""
    block = BLOCKS.get(info.dtype)
    width = block.nbytes if block else _readable(info.dtype).itemsize
    if most is None or info.nbytes <= most:
        step = max(width, CHUNK // width * width)
        for first in range(0, info.nbytes, step):
            yield first, min(first + step, info.nbytes)
        return
    size = max(width, most // PROBES // width * width)
    for probe in range(PROBES):
        first = (info.nbytes - size) * probe // (PROBES - 1) // width * width
        yield first, first + size


def _expect_jumps(stream: BufferedReader) -> None:
    """Keep the system from reading ahead, where it can be told: a tenth of the time on a disk."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
