"""Reads the header of GGUF files as untrusted bytes: named values, then where tensors lie.

The format: "GGUF", a version, two counts, named values, for each tensor a name, its sizes
(fastest first), a type and an offset, then the data from the next multiple of an alignment
on. Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.

The gguf package reads it too, and the tests compare with it; but it trusts every count and
offset, and takes 10 seconds for the 262,144 words of a Gemma where this takes a fraction of one.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sakuga.errors import CorruptFile
from sakuga.weights.untrusted import corrupt, short

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
MAX_HEADER = 100_000_000
MAX_ENTRIES = 65_536  # tensors, and named values; real files have hundreds
_LENGTH = struct.Struct("<Q")  # of a string, before it
MAX_STRINGS = 600_000  # of all lists together; the largest vocabularies have 262,144
MAX_NUMBERS = 2_000_000  # the same
LARGEST_FLOAT32 = 3.4028235e38
MAX_RANK = 4  # ggml's own limit

Value = int | float | bool | str | list[Any]


@dataclass(frozen=True, slots=True)
class BlockFormat:
    """How ggml stores values: `values` of them share `nbytes` bytes."""

    values: int
    nbytes: int


# Sizes as in ggml-common.h. Q4_1, Q5_0, Q5_1 and IQ4_NL take the place of the others where a row
# is no multiple of 256, so real files of K blocks hold them.
PLAIN = {"F32": BlockFormat(1, 4), "F16": BlockFormat(1, 2), "BF16": BlockFormat(1, 2)}
BLOCKS = {
    "Q4_0": BlockFormat(32, 18),
    "Q4_1": BlockFormat(32, 20),
    "Q5_0": BlockFormat(32, 22),
    "Q5_1": BlockFormat(32, 24),
    "Q8_0": BlockFormat(32, 34),
    "Q2_K": BlockFormat(256, 84),
    "Q3_K": BlockFormat(256, 110),
    "Q4_K": BlockFormat(256, 144),
    "Q5_K": BlockFormat(256, 176),
    "Q6_K": BlockFormat(256, 210),
    "IQ4_NL": BlockFormat(32, 18),
    "IQ4_XS": BlockFormat(256, 136),
}
TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0",
    10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 20: "IQ4_NL", 23: "IQ4_XS",
    30: "BF16",
}  # fmt: skip
UNREAD = {
    9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S",
    22: "IQ2_S", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0",
    35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0",
}  # fmt: skip


# Numbers of the value types, and how struct spells the fixed ones.
_STRING, _ARRAY = 8, 9
_FIXED = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_FLOAT32 = 6


@dataclass(frozen=True, slots=True)
class Placed:
    """One tensor: its type (a name of PLAIN or BLOCKS), its shape (slowest first), its bytes."""

    type: str
    shape: tuple[int, ...]
    nbytes: int
    start: int


@dataclass(frozen=True, slots=True)
class GGUF:
    """A header that agrees with its file."""

    path: Path
    values: dict[str, Value]
    tensors: dict[str, Placed]


def open_gguf(path: Path) -> GGUF:
    """Read and check the header of one GGUF file; no tensor is read.

    Raises CorruptFile with the rule broken: counts and lengths within the file, known types,
    names told once, tensors that follow each other without overlap up to the end of the file.
    """
    size = path.stat().st_size
    if size < 24:
        raise corrupt(path, "a GGUF file starts with 24 bytes of counts", f"{size} bytes")
    with path.open("rb") as stream:
        data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    with data:
        return _read(path, _Cursor(path, data), size)


class _Cursor:
    """Walks through a header, never past its end."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data = path, data
        self.at, self.listed = 0, Counter[str]()

    def fixed(self, code: str) -> Any:
        """One number of a fixed width."""
        (value,) = struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))
        return value

    def take(self, count: int) -> bytes:
        """The next bytes."""
        end = self.at + count
        if end > min(len(self.data), MAX_HEADER):
            raise self._past_the_end()
        self.at, start = end, self.at
        return self.data[start:end]

    def text(self) -> str:
        """A string, with its length before it."""
        return self.texts(1)[0]

    def texts(self, count: int) -> list[str]:
        """Strings, one after the other."""
        found: list[str] = []
        data, at, end = self.data, self.at, min(len(self.data), MAX_HEADER)
        if at + _LENGTH.size * count > end:  # which even empty ones would take
            raise self._past_the_end()
        length_at, keep = _LENGTH.unpack_from, found.append  # a list may be of very many
        try:
            for _ in range(count):
                start = at + _LENGTH.size
                if start > end:
                    raise self._past_the_end()
                at = start + length_at(data, at)[0]
                if at > end:
                    raise self._past_the_end()
                keep(str(data[start:at], "utf-8"))
        except UnicodeDecodeError:
            got = repr(data[start:at][:40])
            raise corrupt(self.path, "strings are UTF-8", got) from None
        self.at = at
        return found

    def value(self, kind: int) -> Value:
        """A named value of a type, by the type's number."""
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._list(self.fixed("I"), self.fixed("Q"))
        (value,) = self._numbers(kind, 1)
        return _shortest(value) if kind == _FLOAT32 else value

    def _list(self, kind: int, count: int) -> list[Any]:
        most, what = (MAX_STRINGS, "strings") if kind == _STRING else (MAX_NUMBERS, "numbers")
        self.listed[what] += count
        if self.listed[what] > most:
            rule = f"the lists of a header have at most {most} {what}"
            raise corrupt(self.path, rule, str(self.listed[what]))
        return self.texts(count) if kind == _STRING else list(self._numbers(kind, count))

    def _numbers(self, kind: int, count: int) -> tuple[Any, ...]:
        if kind not in _FIXED:
            known = "a number, a string or a list of either"
            raise corrupt(self.path, f"a value is {known}", f"type {kind}")
        raw = self.take(count * struct.calcsize("<" + _FIXED[kind]))
        return struct.unpack(f"<{count}{_FIXED[kind]}", raw)

    def _past_the_end(self) -> CorruptFile:
        rule = f"a header has at most {MAX_HEADER} bytes and lies within its file"
        return corrupt(self.path, rule, f"one that goes on past byte {len(self.data)}")


def _read(path: Path, cursor: _Cursor, size: int) -> GGUF:
    magic, version = cursor.take(4), cursor.fixed("I")
    if magic != MAGIC or version not in VERSIONS:
        rule = "a GGUF file is of version 2 or 3, little-endian"
        raise corrupt(path, rule, f"{magic!r}, version {version}")
    tensors, entries = cursor.fixed("Q"), cursor.fixed("Q")
    if max(tensors, entries) > MAX_ENTRIES:
        rule = f"a GGUF file has at most {MAX_ENTRIES} tensors and as many named values"
        raise corrupt(path, rule, f"{tensors} and {entries}")
    values = _unique(path, cursor, entries, lambda: cursor.value(cursor.fixed("I")))
    placed = _unique(path, cursor, tensors, lambda: _tensor(cursor))
    alignment = values.get("general.alignment", ALIGNMENT)
    if type(alignment) is not int or not 0 < alignment <= 2**20 or alignment & (alignment - 1):
        raise corrupt(path, "the alignment is a power of two", short(alignment))
    base = _aligned(cursor.at, alignment)
    found = {
        name: Placed(each.type, each.shape, each.nbytes, base + each.start)
        for name, each in placed.items()
    }
    _check_cover(path, found, alignment, (cursor.at, size))
    return GGUF(path, values, found)


def _unique(path: Path, cursor: _Cursor, count: int, read: Callable[[], Any]) -> dict[str, Any]:
    """As many names, each with what follows it."""
    found: dict[str, Any] = {}
    for _ in range(count):
        name = cursor.text()
        if name in found:
            raise corrupt(path, "a name is told once", f"{short(name)} twice")
        found[name] = read()
    return found


def _tensor(cursor: _Cursor) -> Placed:
    """One entry of the list of tensors, its start counted from that of the data."""
    rank = cursor.fixed("I")
    if rank > MAX_RANK:
        raise corrupt(cursor.path, f"a tensor has at most {MAX_RANK} dimensions", str(rank))
    sizes = [cursor.fixed("Q") for _ in range(rank)]
    if max(sizes, default=0) >= 2**63:
        raise corrupt(cursor.path, "a size is one that an address can hold", short(sizes))
    number, start = cursor.fixed("I"), cursor.fixed("Q")
    kind = TYPES.get(number)
    if kind is None:
        known = ", ".join(TYPES.values())
        raise corrupt(
            cursor.path, f"tensors are of the types {known}",
            UNREAD.get(number, f"type {number}"),
            "Take a file quantised to one of those",
        )  # fmt: skip
    block = (PLAIN | BLOCKS)[kind]
    width = sizes[0] if sizes else 1
    if width % block.values:
        rule = f"rows of {kind} are whole blocks of {block.values} values"
        raise corrupt(cursor.path, rule, f"rows of {width}")
    nbytes = math.prod(sizes) // block.values * block.nbytes
    return Placed(kind, tuple(reversed(sizes)), nbytes, start)


def _check_cover(
    path: Path, tensors: Mapping[str, Placed], alignment: int, span: tuple[int, int]
) -> None:
    """Tensors follow each other with nothing but padding between, up to the last byte."""
    end, size = span
    for name, each in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].nbytes)):
        if each.start != _aligned(end, alignment):
            rule = f"tensors lie end to end, each from a multiple of {alignment} on"
            raise corrupt(path, rule, f"{short(name)} at byte {each.start}, after byte {end}")
        end = each.start + each.nbytes
        if end > size:
            what = f"{short(name)} ending at byte {end} of {size}: the file is cut short"
            raise corrupt(path, "tensors lie within the file", what)
    if not end <= size <= _aligned(end, alignment):
        raise corrupt(path, "tensors fill the file", f"{size - end} bytes after the last one")


def _aligned(at: int, alignment: int) -> int:
    return -(-at // alignment) * alignment


def _shortest(value: float) -> float:
    """The float32 of a file as the decimal it was written from: 1e-06, not 9.99999997e-07."""
    for digits in range(6, 10):
        short = float(f"{value:.{digits}g}")
        if abs(short) <= LARGEST_FLOAT32 and _float32(short) == value:
            return short
    return value


def _float32(value: float) -> float:
    (rounded,) = struct.unpack("<f", struct.pack("<f", value))
    return float(rounded)
