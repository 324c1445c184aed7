"""Reads the tensors of a torch archive, as torch.save writes .pt, .pth, .bin and .ckpt files.

Such a file is a zip of one pickle, `data.pkl`, and of the bytes of each storage, `data/0`
and so on. Nothing is unpickled: `zips` finds the entries, `pickles` reads the pickle as a
description, and here each described tensor is held against the bytes that are there. Then
it is a store like any other: names, shapes, and mapped bytes. So are the shards of a folder
whose index is a pytorch_model.bin.index.json. Source:
https://docs.pytorch.org/docs/stable/notes/serialization.html, "Serialized file format".
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sakuga.errors import CorruptFile, LayoutError, ModelNotFound, UnsafeFile
from sakuga.weights.formats import ITEMSIZE
from sakuga.weights.header import MAX_RANK, Header, TensorInfo
from sakuga.weights.pickles import MAX_BYTES, MAX_STEPS, TensorRef, kind_of, read_pickle
from sakuga.weights.shards import FROM_TORCH, check_index, locate_file, read_index
from sakuga.weights.store import Store
from sakuga.weights.untrusted import SAVE_AGAIN, corrupt, reading
from sakuga.weights.zips import MAGIC, MAX_ENTRIES, ZipEntry, read_entries

INDEX = ".bin.index.json"
CONVENTIONAL = ("pytorch_model.bin", "diffusion_pytorch_model.bin")
OTHERS = (".safetensors", ".safetensors.index.json", ".gguf")  # which a folder is read from first
PICKLE = "data.pkl"
METADATA = "__metadata__"  # a name that safetensors keeps for itself
# What people put a state dict under, beside other things, or under each other. Where tensors lie
# beside it, such as the state of a random generator, only a name that says so is one.
WRAPPERS = (
    "state_dict", "model", "module", "ema", "model_state_dict", "ema_state_dict", "model_ema",
    "adapter_state_dict", "lora_state_dict",
)  # fmt: skip
# What people say of an adapter beside its tensors, in the words of a safetensors file's metadata.
METADATA_NAMES = ("adapter_type", "lora_rank", "lora_alpha", "network_alpha")
MAX_VALUE = 100  # letters of such a value
MAX_WRAPPERS = 3
FIRST = 1000  # values of a dict, of which one is a tensor if it is a state dict
MAX_SHARDS = 100  # each of which may have its part of what one archive may
MAX_DEPTH = 32
MAX_NODES = 200_000
MAX_NAME = 500
# Views may overlap, as tied weights do. Together they are at most so many times their file,
# and a little more, or a file of a few bytes could fill a disk.
MAX_GROWTH = 4
SMALL = 1 << 26
RESAVE = (
    "If you trust who made it: on another machine, {how}, and torch.save its state dict, "
    "which gives an archive that can be read here"
)
LEGACY = RESAVE.format(how="open it with torch.load(FILE, weights_only=True)")
SCRIPT = RESAVE.format(how="open it with torch.jit.load(FILE)")


@dataclass(frozen=True, slots=True)
class View:
    """A tensor in the bytes of its entry: `offset` and `strides` count values."""

    entry: ZipEntry
    offset: int
    strides: tuple[int, ...]
    contiguous: bool


@dataclass(frozen=True, slots=True)
class Opened:
    """What one archive holds: its tensors, where each lies, and what else, with the reason."""

    header: Header
    views: Mapping[str, View]
    dropped: Mapping[str, str]


class Archive(Store):
    """The tensors of a torch archive, or of the shards of one folder, by name.

    A store whose views are checked: the first view into a storage compares its checksum.
    A tensor whose values do not lie side by side is copied on each view.
    """

    def __init__(self, path: Path, opened: Mapping[Path, Opened]) -> None:
        super().__init__(path, {file: each.header for file, each in opened.items()})
        self._views: dict[str, View] = {}
        for each in opened.values():
            self.dropped.update(each.dropped)
            self._views.update(each.views)
        self._whole: set[tuple[Path, ZipEntry]] = set()

    def view(self, key: str) -> memoryview:
        """The raw little-endian bytes of one tensor, mapped where they lie side by side.

        Raises CorruptFile where its storage does not have its checksum.
        """
        info, place = self.info(key), self._views[key]
        if not info.nbytes:
            return memoryview(b"")
        entry, size = place.entry, ITEMSIZE[info.dtype]
        data = self.maps.of(info.file)[entry.start : entry.start + entry.size]
        if (info.file, entry) not in self._whole:
            entry.check(info.file, data)
            self._whole.add((info.file, entry))
        first = place.offset * size
        if place.contiguous:
            return data[first : first + info.nbytes]
        return _side_by_side(data[first:], info.shape, place.strides, size)


def is_from_torch(path: Path) -> bool:
    """Whether a file is a zip file or a bare pickle by its first bytes, as torch.save writes.

    A safetensors file may begin like a pickle, with the length of its header, but a brace
    follows. An index is told by its name, a folder by those of its files. What is found
    here is for `open_archive` to read, or to refuse with a remedy.
    """
    if path.is_dir():
        return bool(_archives_in(path))
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        start = stream.read(9)
    archive = start.startswith(MAGIC) or (_is_pickle(start) and not start.endswith(b"{"))
    return archive or path.name.endswith(INDEX)


def is_zip(path: Path) -> bool:
    """Whether a file is a zip file by its first bytes, as all are that are read here."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def open_archive(
    path: str | os.PathLike[str], root: Path | None = None, state: str | None = None
) -> Archive:
    """Open a torch archive: names, shapes and places of its tensors, no weight yet.

    path: a file, an index of shards, or a folder that holds either. root: as `Store.open` takes
    it. state: of several state dicts in a file, the name of the one that is meant.

    A state dict may be wrapped in another dict, under one of WRAPPERS; dicts within it give
    dotted names. Raises ModelNotFound where there is no file; UnsafeFile, naming what was
    found and where, for a pickle that asks for anything but tensors, for a pickle that is in no
    archive, and for TorchScript; CorruptFile where the bytes contradict themselves; LayoutError
    where there is no such state dict, or several and none is named.
    """
    path = Path(path)
    with reading(path):
        file = locate_file(path, root, _archive_in)
        if not file.name.endswith(INDEX):
            return Archive(path, {file: _open(file, state, 1)})
        weight_map, shards = read_index(file, root or file.parent, FROM_TORCH)
        if len(shards) > MAX_SHARDS:
            raise _bad_archive(file, f"has at most {MAX_SHARDS} shards", str(len(shards)))
        opened = {shard: _open(shard, state, len(shards)) for shard in shards}
    check_index(file, weight_map, {shard: each.header for shard, each in opened.items()})
    return Archive(path, opened)


def _archives_in(folder: Path) -> list[str]:
    """The index or the archives of a folder that holds no weights of another kind."""
    names = sorted(entry.name for entry in folder.iterdir() if not entry.is_dir())
    if any(name.endswith(OTHERS) for name in names):
        return []
    found = [name for name in names if name.endswith(INDEX)]
    found = found or [name for name in CONVENTIONAL if name in names]
    return found or [name for name in names if name.endswith(FROM_TORCH)]


def _archive_in(folder: Path) -> Path:
    """The one archive or index of a folder."""
    found = _archives_in(folder)
    if len(found) != 1:
        raise ModelNotFound(
            "a folder of torch archives holds one, or shards with one index",
            f"{', '.join(found[:8]) or 'none'} in {folder}",
            "Name the one you mean",
        )
    return folder / found[0]


def _open(path: Path, state: str | None, shards: int) -> Opened:
    """One archive, of so many that are read together."""
    _refuse_others(path)
    entries = read_entries(path, MAX_ENTRIES // shards)
    root = _root(path, entries)
    if _read(path, entries.get(root + "byteorder"), 10) not in (b"", b"little"):
        raise _bad_archive(path, "is of little-endian machines", "another byte order")
    program = _read(path, entries[root + PICKLE], MAX_BYTES)
    tree = read_pickle(program, f"{root}{PICKLE} in {path}", MAX_STEPS // shards)
    tree, dropped, metadata = _unwrap(path, tree, state)
    infos: dict[str, TensorInfo] = {}
    views: dict[str, View] = {}
    for name, value in _leaves(path, tree):
        if name in metadata:
            continue
        if not isinstance(value, TensorRef):
            dropped[name] = f"{kind_of(value)}, not a tensor"
        elif name in infos:
            raise _bad_archive(path, "has a name for each tensor", f"two called {name!r}")
        else:
            entry = entries.get(f"{root}data/{value.storage.key}")
            infos[name], views[name] = _locate(path, name, value, entry)
    _check_growth(path, infos)
    return Opened(Header(infos, metadata), views, dropped)


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
        raise _bad_archive(path, "is a zip file", f"{start[:8]!r} at its start")


def _is_pickle(start: bytes) -> bool:
    """Whether bytes begin with the mark of a protocol, as all pickles of torch.save do."""
    return start[:1] == b"\x80" and start[1:2] <= b"\x05"


def _root(path: Path, entries: Mapping[str, ZipEntry]) -> str:
    """The folder that all of an archive lies in, with its slash."""
    roots = [name.removesuffix(PICKLE) for name in entries if name.endswith("/" + PICKLE)]
    if len(roots) != 1 or roots[0].count("/") != 1:
        raise _bad_archive(path, f"has one {PICKLE}", f"{len(roots)} among {len(entries)} entries")
    root = roots[0]
    if any(name.startswith((root + "constants.pkl", root + "code/")) for name in entries):
        rule = "an archive holds tensors, and no program"
        raise UnsafeFile(rule, f"TorchScript, which is code, in {path}", SCRIPT)
    for entry in entries.values():
        if entry.packed:
            raise _bad_archive(path, "is neither compressed nor encrypted", entry.name)
    return root


def _read(path: Path, entry: ZipEntry | None, limit: int) -> bytes:
    """The bytes of a small entry; none where there is no such entry."""
    if entry is None:
        return b""
    if entry.size > limit:
        raise _bad_archive(path, f"has at most {limit} bytes of {entry.name}", f"{entry.size}")
    with path.open("rb") as stream:
        stream.seek(entry.start)
        data = stream.read(entry.size)
    entry.check(path, data)
    return data


def _unwrap(
    path: Path, tree: object, state: str | None
) -> tuple[object, dict[str, str], dict[str, str]]:
    """The state dict in what a pickle built, what else lies there and why it is left, metadata.

    Metadata are what lies beside the state dict under METADATA_NAMES.
    """
    dropped: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for _ in range(MAX_WRAPPERS):
        if not isinstance(tree, dict):
            raise _bad_archive(path, "holds a dict of tensors", kind_of(tree))
        named = {name: tree.get(name) for name in METADATA_NAMES}
        metadata |= {name: str(value) for name, value in named.items() if _is_metadata(value)}
        bare = any(isinstance(value, TensorRef) for value in tree.values())
        likely = [name for name in WRAPPERS if not bare or name.endswith("state_dict")]
        names = [state] if state else likely
        within = [name for name in names if _holds_tensors(path, tree.get(name))]
        if state and not within:
            raise _unclear(path, f"no {_shorten(state, 40)!r} among", tree)
        if not within:
            break
        if len(within) > 1:
            raise _unclear(path, "several:", within)
        state = None
        beside = f"lies beside {within[0]!r}"
        others = (name for name in tree if name != within[0] and name not in metadata)
        dropped |= {_shorten(str(name)): beside for name in others}
        tree = tree[within[0]]
    return tree, dropped, metadata


def _is_metadata(value: object) -> bool:
    """Whether a value is one of metadata: a number or a short text."""
    return isinstance(value, str | int | float) and len(str(value)) <= MAX_VALUE


def _unclear(path: Path, what: str, names: Iterable[Any]) -> LayoutError:
    """The error where it cannot be told which state dict is meant."""
    shown = ", ".join(repr(_shorten(str(name), 40)) for name in islice(names, 8))
    return LayoutError(
        "of an archive one state dict is read",
        f"{what} {shown} in {path}",
        "Name the one you mean with --state, as in --state ema",
    )


def _holds_tensors(path: Path, tree: object) -> bool:
    """Whether something is a state dict, by the first of its values."""
    return isinstance(tree, dict) and any(
        isinstance(value, TensorRef) for _, value in islice(_leaves(path, tree), FIRST)
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
            raise _bad_archive(path, f"has dicts at most {MAX_DEPTH} deep", "deeper ones")
        else:
            levels.append(_children(path, name, value))
    raise _bad_archive(path, f"has at most {MAX_NODES} values", "more")


def _children(path: Path, name: str, tree: Any) -> Iterator[tuple[str, Any]]:
    """The members of a dict or list, one after the other: it may hold itself."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        text = str(key)
        if len(name) + len(text) >= MAX_NAME or text == METADATA:
            raise _bad_archive(path, f"has names of up to {MAX_NAME} letters", repr(text[:40]))
        yield (f"{name}.{text}" if name else text), value


def _locate(
    path: Path, name: str, tensor: TensorRef, entry: ZipEntry | None
) -> tuple[TensorInfo, View]:
    """Where a described tensor lies, once its storage is there and reaches as far."""
    storage, shape, strides = tensor.storage, tensor.shape, tensor.strides
    if entry is None:
        raise _bad_archive(path, "has the bytes of each tensor", f"none for {name!r}")
    if storage.count * ITEMSIZE[storage.dtype] != entry.size:
        got = f"{entry.size} bytes for {storage.count} values of {storage.dtype} ({name!r})"
        raise _bad_archive(path, "has storages of the stated size", got)
    if len(shape) > MAX_RANK or len(strides) != len(shape):
        got = f"{len(shape)} sizes and {len(strides)} strides for {name!r}"
        raise _bad_archive(path, f"has tensors of at most {MAX_RANK} dimensions", got)
    if not all(0 <= number < 2**63 for number in (tensor.offset, *shape, *strides)):
        raise _bad_archive(path, "has sizes that an address can hold", f"others for {name!r}")
    size, count = ITEMSIZE[tensor.dtype], math.prod(shape)
    last = tensor.offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if count and (last + 1) * size > entry.size:
        got = f"{name!r} up to byte {(last + 1) * size} of {entry.size}"
        raise _bad_archive(path, "has tensors that lie within their storage", got)
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
        raise _bad_archive(path, "holds tensors", "none")
    total, most = sum(info.nbytes for info in infos.values()), path.stat().st_size
    if total > MAX_GROWTH * most + SMALL:
        rule = f"has tensors of together at most {MAX_GROWTH} times the file and {SMALL} bytes"
        raise _bad_archive(path, rule, f"{total} bytes of tensors in {most}")


def _shorten(text: str, most: int = MAX_NAME) -> str:
    return text if len(text) <= most else text[:most] + "..."


def _bad_archive(path: Path, rule: str, got: str) -> CorruptFile:
    return corrupt(path, f"a torch archive {rule}", got, SAVE_AGAIN)
