"""Reads what a file of weights says of its tensors, and holds it against the file's size.

The format is GGUF, which `weights.gguf` reads, or safetensors: eight bytes of little-endian
header length, a JSON header that maps each name to dtype, shape and byte range, then the
tensors laid end to end. Nothing in it can run, but everything in it can lie. Source:
https://huggingface.co/docs/safetensors, "Format".
"""

from __future__ import annotations

import math
from codecs import getincrementaldecoder
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sakuga.errors import CorruptFile
from sakuga.weights.formats import BITS
from sakuga.weights.garbage import nothing_collected
from sakuga.weights.gguf import MAGIC as GGUF_MAGIC
from sakuga.weights.gguf import open_gguf
from sakuga.weights.llama_cpp import metadata_of
from sakuga.weights.untrusted import corrupt, parse_json, short
from sakuga.weights.zips import MAGIC as ZIP

MAX_HEADER = 100_000_000
MAX_RANK = 16
MAX_KEY = 1000
ENTRY = {"dtype", "shape", "data_offsets"}
CONVERT = "Convert it once: sakuga convert FILE OUT.safetensors --layout original"
# What people rename to .safetensors; the first bytes give it away. Those of a zip file also are
# the length of a header, but of one that is only written to be two files in one.
IMPOSTORS = {
    b"PK": ("a zip archive, as torch.save writes", CONVERT),
    b"\x80": (
        "a pickle, which runs code as it is read",
        "Look for a safetensors release of these weights",
    ),
    b"version ": (
        "a Git LFS pointer, not the file it stands for",
        "Fetch the file itself: git lfs pull, or sakuga fetch",
    ),
}


class TensorInfo(NamedTuple):
    """Where a tensor lies: `nbytes` bytes of `file`, from the absolute offset `start`.

    dtype: the safetensors name of one, or the name of a block format of `weights.gguf`, or of a
    scheme of `weights.schemes`, where the shape is that of the values that are packed.
    """

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    file: Path
    start: int


@dataclass(frozen=True, slots=True)
class Header:
    """A header that agrees with its file."""

    infos: dict[str, TensorInfo]
    metadata: dict[str, str]


@nothing_collected()
def read_header(file: Path) -> Header:
    """Read and check the header of one file, safetensors or GGUF by its first bytes.

    Raises CorruptFile with the rule broken; of safetensors: length at most 100 MB and within
    the file, a JSON object without double keys, known dtypes, byte ranges that match the
    shapes and cover the rest of the file exactly once.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        if start.startswith(GGUF_MAGIC):
            return _gguf_header(file)
        length = int.from_bytes(start, "little")
        if size < 8 or length > min(size - 8, MAX_HEADER) or start.startswith(ZIP):
            for magic, (what, fix) in IMPOSTORS.items():
                if start.startswith(magic):
                    raise CorruptFile("weights are safetensors or GGUF", f"{what}: {file}", fix)
            if _is_text(start + stream.read(504)):
                fix = "Give the file of the weights themselves; `sakuga lint` reads prompts."
                raise CorruptFile("weights are safetensors or GGUF", f"a text: {file}", fix)
            rule = f"a header has at most {MAX_HEADER} bytes and lies within its file"
            raise corrupt(file, rule, f"a header of {length} bytes among {size}")
        text = stream.read(length)
    if not text.startswith(b"{"):
        raise corrupt(file, "a header starts with '{'", repr(text[:8]))
    entries = parse_json(text, f"the header of {file}")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise corrupt(file, "__metadata__ maps names to strings", short(metadata))
    infos = {key: _info(file, key, entry, 8 + length) for key, entry in entries.items()}
    _check_cover(file, infos, 8 + length, size)
    return Header(infos, metadata)


def _is_text(start: bytes) -> bool:
    """Whether a file that begins so is a text."""
    try:
        text = getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return bool(text) and all(one.isprintable() or one.isspace() for one in text)


def _gguf_header(file: Path) -> Header:
    gguf = open_gguf(file)
    infos = {
        name: TensorInfo(each.type, each.shape, each.nbytes, file, each.start)
        for name, each in gguf.tensors.items()
    }
    return Header(infos, metadata_of(gguf))


def _info(file: Path, key: str, entry: Any, base: int) -> TensorInfo:
    if len(key) > MAX_KEY:
        raise corrupt(file, f"a tensor's name has at most {MAX_KEY} letters", short(key))
    if not isinstance(entry, dict) or entry.keys() != ENTRY:
        raise corrupt(
            file, "a tensor has dtype, shape and data_offsets", f"{short(entry)} for {short(key)}"
        )
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise corrupt(
            file, "a dtype is one of " + ", ".join(BITS), f"{short(dtype)} for {short(key)}"
        )
    if not _sizes(shape) or len(shape) > MAX_RANK:
        raise corrupt(
            file,
            f"a shape is at most {MAX_RANK} whole numbers",
            f"{short(shape)} for {short(key)}",
        )
    if not _sizes(offsets) or len(offsets) != 2:
        raise corrupt(
            file, "data_offsets are a first and a last byte", f"{short(offsets)} for {short(key)}"
        )
    first, last = offsets
    nbytes, within = divmod(math.prod(shape) * BITS[dtype], 8)
    if within:
        rule = "the values of a tensor fill whole bytes"
        raise corrupt(file, rule, f"{dtype} {short(shape)} for {short(key)}")
    if last - first != nbytes:
        raise corrupt(
            file,
            "a byte range is as long as dtype and shape say",
            f"{last - first} bytes for {dtype} {short(shape)} ({nbytes} bytes) of {short(key)}",
        )
    return TensorInfo(dtype, tuple(shape), nbytes, file, base + first)


def _sizes(value: Any) -> bool:
    """Whether a value is a list of whole numbers that an address can hold."""
    return isinstance(value, list) and not [
        n for n in value if type(n) is not int or not 0 <= n < 2**63
    ]


def _check_cover(file: Path, infos: Mapping[str, TensorInfo], base: int, size: int) -> None:
    """Byte ranges must follow each other without gap or overlap, up to the last byte."""
    end = base
    for key, info in sorted(infos.items(), key=lambda item: (item[1].start, item[1].nbytes)):
        if info.start != end:
            what = "overlap" if info.start < end else "leave a gap"
            raise corrupt(file, "tensors lie end to end", f"ranges that {what} before {short(key)}")
        end += info.nbytes
        if end > size:
            raise corrupt(
                file,
                "tensors lie within the file",
                f"{short(key)} ending at byte {end} of {size}: the file is cut short",
            )
    if end != size:
        raise corrupt(file, "tensors fill the file", f"{size - end} bytes after the last one")
