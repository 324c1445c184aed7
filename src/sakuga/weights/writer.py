"""Writes a safetensors file as its tensors come, holding no more than a part of one.

The format is that of `weights.header`. Tensors of wide values lie first, so that each starts
where its values are aligned, and those of one width by name, as the format's own library lays
them: what holds the same tensors is the same file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sakuga.weights.formats import BITS

ALIGNMENT = 8  # of the first tensor


@dataclass(frozen=True, slots=True)
class Promised:
    """The dtype, by its safetensors name, and the shape of a tensor to come."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.shape) * BITS[self.dtype] // 8


def write_tensors(
    file: Path,
    tensors: Mapping[str, Promised],
    metadata: Mapping[str, str],
    read: Callable[[str], Iterable[memoryview]],
) -> str:
    """Write a new file and give its SHA-256 in hex.

    read: the bytes of one tensor, part by part. Raises OSError, FileExistsError among them,
    and whatever `read` raises; the file is then not whole.
    """
    names = sorted(tensors, key=lambda name: (-BITS[tensors[name].dtype], name))
    digest = hashlib.sha256()
    with file.open("xb") as stream:
        header = _header(tensors, names, metadata)
        digest.update(header)
        stream.write(header)
        for name in names:
            start = stream.tell()
            for part in read(name):
                digest.update(part)
                stream.write(part)
            assert stream.tell() - start == tensors[name].nbytes, name
        stream.flush()
        os.fsync(stream.fileno())
    return digest.hexdigest()


def _header(
    tensors: Mapping[str, Promised], names: Iterable[str], metadata: Mapping[str, str]
) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in names:
        start, end = end, end + tensors[name].nbytes
        entries[name] = {
            "dtype": tensors[name].dtype,
            "shape": list(tensors[name].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
