"""Reads the tensors of a torch archive, as torch.save writes .pt, .pth, .bin and .ckpt files.

Such a file is a zip of one pickle, `data.pkl`, and of the bytes of each storage, `data/0`
and so on. Nothing is unpickled: `zips` finds the entries, `pickles` reads the pickle as a
description, and here each described tensor is held against the bytes that are there. Then
it is a store like any other: names, shapes, and mapped bytes. Source:
https://docs.pytorch.org/docs/stable/notes/serialization.html, "Serialized file format".
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sakuga.errors import CorruptFile, ModelNotFound, UnsafeFile
from sakuga.weights.pickles import MAX_BYTES, TensorRef, kind_of, read_pickle
from sakuga.weights.store import ITEMSIZE, MAX_RANK, Header, Store, TensorInfo
from sakuga.weights.zips import MAGIC, Entry, read_entries

PICKLE = "data.pkl"
METADATA = "__metadata__"  # a name that safetensors keeps for itself
WRAPPERS = ("state_dict", "model")  # what people put a state dict under, beside other things
MAX_DEPTH = 32
MAX_NODES = 200_000
MAX_NAME = 500
# Views may overlap, as tied weights do. Together they are at most so many times their file,
# and a little more, or a file of a few bytes could fill a disk.
MAX_GROWTH = 4
SMALL = 1 << 26
AGAIN = "Download the file again, or save it again with torch.save"
RESAVE = (
    "If you trust who made it: on another machine, {how}, and torch.save its state dict, "
    "which gives an archive that can be read here"
)
LEGACY = RESAVE.format(how="open it with torch.load(FILE, weights_only=True)")
SCRIPT = RESAVE.format(how="open it with torch.jit.load(FILE)")


@dataclass(frozen=True, slots=True)
class View:
    """A tensor in the bytes of its entry: `offset` and `strides` count values."""

    entry: Entry
    offset: int
    strides: tuple[int, ...]
    contiguous: bool


class Archive(Store):
    """The tensors of one torch archive, by name.

    A store whose views are checked: the first view into a storage compares its checksum.
    A tensor whose values do not lie side by side is copied on each view.
    """

    def __init__(
        self, path: Path, header: Header, views: Mapping[str, View], dropped: Mapping[str, str]
    ) -> None:
        super().__init__(path, {path: header})
        self.dropped.update(dropped)
        self._views = views
        self._whole: set[Entry] = set()

    def view(self, key: str) -> memoryview:
        """The raw little-endian bytes of one tensor, mapped where they lie side by side.

        Raises CorruptFile where its storage does not have its checksum.
        """
        info, place = self.info(key), self._views[key]
        if not info.nbytes:
            return memoryview(b"")
        entry, size = place.entry, ITEMSIZE[info.dtype]
        data = self.mapped(self.path)[entry.start : entry.start + entry.size]
        if entry not in self._whole:
            entry.check(self.path, data)
            self._whole.add(entry)
        first = place.offset * size
        if place.contiguous:
            return data[first : first + info.nbytes]
        return _side_by_side(data[first:], info.shape, place.strides, size)


def is_from_torch(path: Path) -> bool:
    """Whether a file is a zip file or a bare pickle by its first bytes, as torch.save writes.

    A safetensors file may begin like a pickle, with the length of its header, but a brace
    follows. What is told apart here is for `open_archive` to read, or to refuse with a remedy.
    """
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        start = stream.read(9)
    return start.startswith(MAGIC) or (_is_pickle(start) and not start.endswith(b"{"))


def open_archive(path: str | os.PathLike[str]) -> Archive:
    """Open a torch archive: names, shapes and places of its tensors, no weight yet.

    A state dict may be wrapped in another dict under "state_dict" or "model"; dicts within
    it give dotted names. Raises ModelNotFound where there is no file; UnsafeFile, naming what
    was found and where, for a pickle that asks for anything but tensors, for a pickle that
    is in no archive, and for TorchScript; CorruptFile where the bytes contradict themselves.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelNotFound("a torch archive is a file", f"none at {path}", "Check the path")
    _refuse_others(path)
    entries = read_entries(path)
    root = _root(path, entries)
    if _read(path, entries.get(root + "byteorder"), 10) not in (b"", b"little"):
        raise _corrupt(path, "is of little-endian machines", "another byte order")
    program = _read(path, entries[root + PICKLE], MAX_BYTES)
    state, dropped = _unwrap(path, read_pickle(program, f"{root}{PICKLE} in {path}"))
    infos: dict[str, TensorInfo] = {}
    views: dict[str, View] = {}
    for name, value in _leaves(path, state):
        if not isinstance(value, TensorRef):
            dropped[name] = f"{kind_of(value)}, not a tensor"
        elif name in infos:
            raise _corrupt(path, "has a name for each tensor", f"two called {name!r}")
        else:
            entry = entries.get(f"{root}data/{value.storage.key}")
            infos[name], views[name] = _locate(path, name, value, entry)
    _check_growth(path, infos)
    return Archive(path, Header(infos, {}), views, dropped)


def _refuse_others(path: Path) -> None:
    """Say what a file is that is no archive, where its first bytes tell."""
    with path.open("rb") as stream:
        start = stream.read(512)
    rule = "tensors are read from archives, as torch.save writes since version 1.6"
    if _is_pickle(start):
        raise UnsafeFile(rule, f"a bare pickle, which could run code: {path}", LEGACY)
    if start[257:262] == b"ustar":
        raise UnsafeFile(rule, f"a tar file of pickles, which could run code: {path}", LEGACY)
    if not start.startswith(MAGIC):
        raise _corrupt(path, "is a zip file", f"{start[:8]!r} at its start")


def _is_pickle(start: bytes) -> bool:
    """Whether bytes begin with the mark of a protocol, as all pickles of torch.save do."""
    return start[:1] == b"\x80" and start[1:2] <= b"\x05"


def _root(path: Path, entries: Mapping[str, Entry]) -> str:
    """The folder that all of an archive lies in, with its slash."""
    roots = [name.removesuffix(PICKLE) for name in entries if name.endswith("/" + PICKLE)]
    if len(roots) != 1 or roots[0].count("/") != 1:
        raise _corrupt(path, f"has one {PICKLE}", f"{len(roots)} among {len(entries)} entries")
    root = roots[0]
    if any(name.startswith((root + "constants.pkl", root + "code/")) for name in entries):
        rule = "an archive holds tensors, and no program"
        raise UnsafeFile(rule, f"TorchScript, which is code, in {path}", SCRIPT)
    for entry in entries.values():
        if entry.packed:
            raise _corrupt(path, "is neither compressed nor encrypted", entry.name)
    return root


def _read(path: Path, entry: Entry | None, limit: int) -> bytes:
    """The bytes of a small entry; none where there is no such entry."""
    if entry is None:
        return b""
    if entry.size > limit:
        raise _corrupt(path, f"has at most {limit} bytes of {entry.name}", f"{entry.size}")
    with path.open("rb") as stream:
        stream.seek(entry.start)
        data = stream.read(entry.size)
    entry.check(path, data)
    return data


def _unwrap(path: Path, tree: object) -> tuple[object, dict[str, str]]:
    """The state dict in what a pickle built, and what lies beside it, with the reason."""
    dropped: dict[str, str] = {}
    for _ in WRAPPERS:
        if not isinstance(tree, dict):
            raise _corrupt(path, "holds a dict of tensors", kind_of(tree))
        within = [name for name in WRAPPERS if _holds_tensors(path, tree.get(name))]
        if len(within) != 1 or any(isinstance(value, TensorRef) for value in tree.values()):
            break
        beside = f"lies beside {within[0]!r}"
        dropped |= {_shorten(str(name)): beside for name in tree if name != within[0]}
        tree = tree[within[0]]
    return tree, dropped


def _holds_tensors(path: Path, tree: object) -> bool:
    return isinstance(tree, dict) and any(
        isinstance(value, TensorRef) for _, value in _leaves(path, tree)
    )


def _leaves(path: Path, tree: object) -> Iterator[tuple[str, Any]]:
    """All that lies in nested dicts and lists, by its dotted name, in order."""
    levels: list[Iterator[tuple[str, Any]]] = [iter([("", tree)])]
    for _ in range(MAX_NODES):
        name, value = next(levels[-1], (None, None))
        if name is None:
            levels.pop()
            if not levels:
                return
        elif not isinstance(value, dict | list | tuple):
            yield name, value
        elif len(levels) > MAX_DEPTH:
            raise _corrupt(path, f"has dicts at most {MAX_DEPTH} deep", "deeper ones")
        else:
            levels.append(_children(path, name, value))
    raise _corrupt(path, f"has at most {MAX_NODES} values", "more")


def _children(path: Path, name: str, tree: Any) -> Iterator[tuple[str, Any]]:
    """The members of a dict or list, one after the other: it may hold itself."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        text = str(key)
        if len(name) + len(text) >= MAX_NAME or text == METADATA:
            raise _corrupt(path, f"has names of up to {MAX_NAME} letters", repr(text[:40]))
        yield (f"{name}.{text}" if name else text), value


def _locate(
    path: Path, name: str, tensor: TensorRef, entry: Entry | None
) -> tuple[TensorInfo, View]:
    """Where a described tensor lies, once its storage is there and reaches as far."""
    storage, shape, strides = tensor.storage, tensor.shape, tensor.strides
    if entry is None:
        raise _corrupt(path, "has the bytes of each tensor", f"none for {name!r}")
    if storage.count * ITEMSIZE[storage.dtype] != entry.size:
        got = f"{entry.size} bytes for {storage.count} values of {storage.dtype} ({name!r})"
        raise _corrupt(path, "has storages of the stated size", got)
    if len(shape) > MAX_RANK or len(strides) != len(shape):
        got = f"{len(shape)} sizes and {len(strides)} strides for {name!r}"
        raise _corrupt(path, f"has tensors of at most {MAX_RANK} dimensions", got)
    if not all(0 <= number < 2**63 for number in (tensor.offset, *shape, *strides)):
        raise _corrupt(path, "has sizes that an address can hold", f"others for {name!r}")
    size, count = ITEMSIZE[tensor.dtype], math.prod(shape)
    last = tensor.offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if count and (last + 1) * size > entry.size:
        got = f"{name!r} up to byte {(last + 1) * size} of {entry.size}"
        raise _corrupt(path, "has tensors that lie within their storage", got)
    info = TensorInfo(tensor.dtype, shape, count * size, path, entry.start + tensor.offset * size)
    return info, View(entry, tensor.offset, strides, _contiguous(shape, strides))


def _contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether values lie side by side, row after row; the stride of a single one is idle."""
    step = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size > 1 and stride != step:
            return False
        step *= size
    return True


def _side_by_side(
    data: memoryview, shape: tuple[int, ...], strides: tuple[int, ...], size: int
) -> memoryview:
    """A copy of the values of `size` bytes that lie at these strides, row after row."""
    import numpy as np

    values = np.ndarray(shape, f"V{size}", data, 0, [size * stride for stride in strides])
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def _check_growth(path: Path, infos: Mapping[str, TensorInfo]) -> None:
    """Refuse a small file of views that would be vast tensors elsewhere, and an empty one."""
    if not infos:
        raise _corrupt(path, "holds tensors", "none")
    total, most = sum(info.nbytes for info in infos.values()), path.stat().st_size
    if total > MAX_GROWTH * most + SMALL:
        rule = f"has tensors of together at most {MAX_GROWTH} times the file and {SMALL} bytes"
        raise _corrupt(path, rule, f"{total} bytes of tensors in {most}")


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_NAME else text[:MAX_NAME] + "..."


def _corrupt(path: Path, rule: str, got: str) -> CorruptFile:
    return CorruptFile(f"a torch archive {rule}", f"{got} in {path}", AGAIN)
