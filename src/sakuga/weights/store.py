"""Reads weight files as untrusted bytes: a checked header, then memory-mapped views.

The format is GGUF, which `weights.gguf` reads, or safetensors: eight bytes of little-endian
header length, a JSON header that maps each name to dtype, shape and byte range, then the
tensors laid end to end. Nothing in it can run, but everything in it can lie, so the header
is compared with the file before anyone sees a byte. Source:
https://huggingface.co/docs/safetensors, "Format".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import mmap
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sakuga.errors import CorruptFile, ModelNotFound
from sakuga.weights.gguf import MAGIC as GGUF_MAGIC
from sakuga.weights.gguf import open_gguf
from sakuga.weights.llama_cpp import metadata_of

MAX_HEADER = 100_000_000
MAX_RANK = 16
MAX_DIGITS = 40
MAX_COMMAS = 100_000  # reading more would take seconds; real headers have thousands
MAX_KEY = 1000
MAX_NAME = 255  # bytes of a file name, as most file systems have it
INDEX = ".safetensors.index.json"
MAX_CONFIG = 16_000_000  # bytes
FROM_TORCH = (".bin", ".pt", ".pth", ".ckpt")  # how files of torch.save are called
CONVENTIONAL = ("model.safetensors", "diffusion_pytorch_model.safetensors")
AGAIN = "Download or convert the file again"
CONVERT = "Convert it once: sakuga convert FILE OUT.safetensors --layout original"

ITEMSIZE = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
}

# What people rename to .safetensors; the first bytes give it away.
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
# Also the length of a header, but of one that is only written to be two files in one.
ZIP = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies: `nbytes` bytes of `file`, from the absolute offset `start`.

    dtype: the safetensors name of one, or the name of a block format of `weights.gguf`, where
    the shape is that of the values the blocks hold.
    """

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    file: Path
    start: int


@dataclass(frozen=True, slots=True)
class FileState:
    """Size in bytes, times of the last write and the last change of any kind, and inode."""

    size: int
    modified_ns: int
    changed_ns: int
    inode: int


class Store:
    """The tensors of one file, or of the shards of one folder, by name.

    Nothing but headers is read until `view` is called, and `view` only maps. A view
    stays valid as long as it is referenced, even after the store is gone. `dropped` names
    what else the files hold, with the reason why it is no weight; safetensors hold nothing else.
    """

    def __init__(self, path: Path, shards: Mapping[Path, Header]) -> None:
        self.path = path
        self.files = tuple(shards)
        self.metadata: dict[str, str] = {}
        self.dropped: dict[str, str] = {}
        self._infos: dict[str, TensorInfo] = {}
        self._maps: dict[Path, memoryview] = {}
        for file, header in shards.items():
            self.metadata.update(header.metadata)
            for key, info in header.infos.items():
                if key in self._infos:
                    first = self._infos[key].file.name
                    raise _corrupt(file, "a tensor lies in one shard", f"{key!r} also in {first}")
                self._infos[key] = info

    @classmethod
    def open(cls, path: str | os.PathLike[str], root: Path | None = None) -> Store:
        """Open a file, an index of shards, or a folder that holds either.

        Files found through a folder or an index must not lead out of `root`, by default
        that folder; a file named outright is opened wherever it is.

        Raises ModelNotFound where there is nothing to open, CorruptFile where the bytes
        contradict themselves.
        """
        path = Path(path)
        with reading(path):
            file = locate_file(path, root, _weights_in)
            if not file.name.endswith(INDEX):
                return cls(path, {file: read_header(file)})
            weight_map, files = read_index(file, root or file.parent, (".safetensors",))
            headers = {each: read_header(each) for each in files}
        check_index(file, weight_map, headers)
        return cls(path, headers)

    def keys(self) -> tuple[str, ...]:
        """Every tensor name, in file order."""
        return tuple(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __contains__(self, key: object) -> bool:
        return key in self._infos

    def info(self, key: str) -> TensorInfo:
        """What the header says of one tensor. Raises KeyError on an unknown name."""
        return self._infos[key]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every name with its shape."""
        return {key: info.shape for key, info in self._infos.items()}

    def dtypes(self) -> dict[str, str]:
        """Every name with its dtype, as `TensorInfo` names it."""
        return {key: info.dtype for key, info in self._infos.items()}

    def view(self, key: str) -> memoryview:
        """The raw little-endian bytes of one tensor, mapped, private to this process.

        Writing to a view changes it for this process alone, never the file.
        """
        info = self._infos[key]
        return self.mapped(info.file)[info.start : info.start + info.nbytes]

    def mapped(self, file: Path) -> memoryview:
        """All bytes of one of the files, mapped once."""
        if file not in self._maps:
            self._maps[file] = _map(file)
        return self._maps[file]

    def release(self) -> None:
        """Let go of the memory that read pages take; views stay valid, and read them again.

        What was written to a view is lost.
        """
        for view in self._maps.values():
            if isinstance(view.obj, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                view.obj.madvise(mmap.MADV_DONTNEED)

    def sha256(self, digest: Callable[[Path], str] | None = None) -> str:
        """The digest of the file, or of the list of shard digests by file name.

        digest: how one file is hashed, if not by `file_sha256`.
        """
        digests = {file.name: (digest or file_sha256)(file) for file in self.files}
        if len(digests) == 1:
            return next(iter(digests.values()))
        lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
        return hashlib.sha256(lines.encode()).hexdigest()


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise ModelNotFound where the system cannot look at `path`, or at what is in it."""
    try:
        yield
    except OSError as error:
        raise ModelNotFound(
            "weights are where the system can read them",
            f"{error.strerror or error} for {str(path)[:MAX_NAME]}",
            "Check the path, and who may read what is there",
        ) from None


@dataclass(frozen=True, slots=True)
class Header:
    """A header that agrees with its file."""

    infos: dict[str, TensorInfo]
    metadata: dict[str, str]


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
            rule = f"a header has at most {MAX_HEADER} bytes and lies within its file"
            raise _corrupt(file, rule, f"a header of {length} bytes among {size}")
        text = stream.read(length)
    if not text.startswith(b"{"):
        raise _corrupt(file, "a header starts with '{'", repr(text[:8]))
    entries = parse_json(text, f"the header of {file}")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _corrupt(file, "__metadata__ maps names to strings", _short(metadata))
    infos = {key: _info(file, key, entry, 8 + length) for key, entry in entries.items()}
    _check_cover(file, infos, 8 + length, size)
    return Header(infos, metadata)


def _gguf_header(file: Path) -> Header:
    gguf = open_gguf(file)
    infos = {
        name: TensorInfo(each.type, each.shape, each.nbytes, file, each.start)
        for name, each in gguf.tensors.items()
    }
    return Header(infos, metadata_of(gguf))


def parse_json(text: bytes, where: str) -> dict[str, Any]:
    """A JSON object from untrusted text. Raises CorruptFile on anything else, double keys too."""
    rule = "JSON from a checkpoint is one object without double keys"
    if text.count(b",") > MAX_COMMAS:
        raise CorruptFile(
            f"JSON from a checkpoint has at most {MAX_COMMAS} commas",
            f"{text.count(b',')} in {where}",
            "Split the file into shards",
        )
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(rule, f"{_short(error)} in {where}", AGAIN) from None
    if not isinstance(value, dict):
        raise CorruptFile(rule, f"a {type(value).__name__} in {where}", AGAIN)
    return value


def read_json(file: Path, root: Path) -> dict[str, Any]:
    """A JSON object from a file within `root`. Raises CorruptFile on anything else."""
    confine(file, root)
    with reading(file):
        size = file.stat().st_size
        text = file.read_bytes() if size <= MAX_CONFIG else b""
    if size > MAX_CONFIG:
        raise CorruptFile(
            f"a config has at most {MAX_CONFIG} bytes",
            f"{size} bytes in {file}",
            "Use the config that belongs to these weights",
        )
    return parse_json(text, str(file))


def confine(file: Path, root: Path) -> None:
    """Refuse a file whose links or dots lead out of `root`, with CorruptFile.

    The hub's download cache links each file of a snapshot to a blob of the same
    repository, or through it to the store of blobs that all repositories of the cache
    share; those links are followed.
    """
    real, home = file.resolve(), root.resolve()
    if real.is_relative_to(home):
        return
    for snapshot in (home, *home.parents):
        if snapshot.parent.name == "snapshots":
            repository = snapshot.parent.parent
            stores = (repository / "blobs", repository.parent / "blobs")
            if any(real.is_relative_to(store) for store in stores):
                return
            break
    raise CorruptFile(
        "the files of a checkpoint lie within its folder",
        f"{file} leads to {real}",
        "Copy the file in, or name it directly",
    )


def locate_file(path: Path, root: Path | None, choose: Callable[[Path], Path]) -> Path:
    """The file that a path is, or that `choose` finds in a folder, which leads nowhere else.

    root: as `Store.open` takes it. Raises ModelNotFound, CorruptFile.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        other = path.exists() or path.is_symlink()
        got = f"{path}, which is neither" if other else f"no such path {path}"
        raise ModelNotFound("weights are a file or a folder", got, "Check the path")
    confine(path, root or path)
    file = choose(path)
    if not file.is_file():
        raise _corrupt(file, "weights are a file", "a link to nowhere, or a device,")
    confine(file, root or path)
    return file


def read_index(
    index: Path, root: Path, endings: tuple[str, ...]
) -> tuple[dict[str, str], tuple[Path, ...]]:
    """What an index says of each tensor, the name of its shard, and the shards, within `root`.

    endings: of their names. Raises CorruptFile where a shard is missing, or lies elsewhere.
    """
    if index.stat().st_size > MAX_HEADER:
        got = f"{index.stat().st_size} bytes"
        raise _corrupt(index, f"an index has at most {MAX_HEADER} bytes", got)
    weight_map = parse_json(index.read_bytes(), str(index)).get("weight_map")
    if (
        not isinstance(weight_map, dict)
        or not weight_map
        or not all(isinstance(name, str) for name in weight_map.values())
    ):
        raise _corrupt(index, "weight_map maps tensor names to file names", _short(weight_map))
    names = sorted(set(weight_map.values()))
    for name in names:
        plain = name.isprintable() and "\\" not in name and len(name.encode()) <= MAX_NAME
        if not plain or not name.endswith(endings) or Path(name).name != name:
            rule = f"a shard is a {' or '.join(endings)} file beside its index"
            raise _corrupt(index, rule, _short(name))
        file = index.parent / name
        if not file.is_file():
            raise _corrupt(index, "every shard is there", f"no {name}")
        confine(file, root)
    return weight_map, tuple(index.parent / name for name in names)


def check_index(index: Path, weight_map: Mapping[str, str], headers: Mapping[Path, Header]) -> None:
    """Raise CorruptFile unless an index and its shards list the same tensors."""
    found = {(key, file.name) for file, header in headers.items() for key in header.infos}
    odd = sorted(found ^ set(weight_map.items()))
    if odd:
        key, name = odd[0]
        where = "the index" if (key, name) in found else name
        raise _corrupt(
            index,
            "index and shards list the same tensors",
            f"{_short(key)} of {name} missing from {where} ({len(odd)} such)",
        )


def hash_file(file: Path) -> str:
    """The SHA-256 of a file as it is now, in hex. Raises OSError."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_state(file: Path) -> FileState:
    """What tells a file that changed from one that did not. Raises OSError."""
    stat = file.stat()
    return FileState(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


@lru_cache(maxsize=64)
def _sha256(file: Path, state: FileState) -> str:
    """The digest; the state is there to notice a file that changed."""
    del state
    return hash_file(file)


def file_sha256(file: Path) -> str:
    """The digest of a file, computed once per process as long as the file stays the same."""
    return _sha256(file.resolve(), file_state(file))


def _whole(digits: str) -> int:
    """A whole number. Raises ValueError on one that no float could hold, let alone an address."""
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ValueError on a double key, and on one that is no text in UTF-8."""
    result = dict(pairs)
    "".join(result).encode()
    if len(result) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"the key {_short(max(counts, key=counts.__getitem__))} twice")
    return result


def _info(file: Path, key: str, entry: Any, base: int) -> TensorInfo:
    if len(key) > MAX_KEY:
        raise _corrupt(file, f"a tensor's name has at most {MAX_KEY} letters", _short(key))
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _corrupt(
            file, "a tensor has dtype, shape and data_offsets", f"{_short(entry)} for {_short(key)}"
        )
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEMSIZE:
        raise _corrupt(
            file, "a dtype is one of " + ", ".join(ITEMSIZE), f"{_short(dtype)} for {_short(key)}"
        )
    if not _sizes(shape) or len(shape) > MAX_RANK:
        raise _corrupt(
            file,
            f"a shape is at most {MAX_RANK} whole numbers",
            f"{_short(shape)} for {_short(key)}",
        )
    if not _sizes(offsets) or len(offsets) != 2:
        raise _corrupt(
            file, "data_offsets are a first and a last byte", f"{_short(offsets)} for {_short(key)}"
        )
    first, last = offsets
    nbytes = math.prod(shape) * ITEMSIZE[dtype]
    if last - first != nbytes:
        raise _corrupt(
            file,
            "a byte range is as long as dtype and shape say",
            f"{last - first} bytes for {dtype} {_short(shape)} ({nbytes} bytes) of {_short(key)}",
        )
    return TensorInfo(dtype, tuple(shape), nbytes, file, base + first)


def _sizes(value: Any) -> bool:
    """Whether a value is a list of whole numbers that an address can hold."""
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _check_cover(file: Path, infos: Mapping[str, TensorInfo], base: int, size: int) -> None:
    """Byte ranges must follow each other without gap or overlap, up to the last byte."""
    end = base
    for key, info in sorted(infos.items(), key=lambda item: (item[1].start, item[1].nbytes)):
        if info.start != end:
            what = "overlap" if info.start < end else "leave a gap"
            raise _corrupt(
                file, "tensors lie end to end", f"ranges that {what} before {_short(key)}"
            )
        end += info.nbytes
        if end > size:
            raise _corrupt(
                file,
                "tensors lie within the file",
                f"{_short(key)} ending at byte {end} of {size}: the file is cut short",
            )
    if end != size:
        raise _corrupt(file, "tensors fill the file", f"{size - end} bytes after the last one")


def _map(file: Path) -> memoryview:
    with file.open("rb") as stream:
        # Copy on write: torch wants writable memory, and the file must stay untouched.
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY))


def _weights_in(folder: Path) -> Path:
    """The one file or index of a folder."""
    names = sorted(entry.name for entry in folder.iterdir() if not entry.is_dir())
    choices = [name for name in names if name.endswith(INDEX)]
    choices = choices or [name for name in CONVENTIONAL if name in names]
    for kind in (".safetensors", ".gguf"):
        choices = choices or [name for name in names if name.endswith(kind)]
    if len(choices) == 1:
        return folder / choices[0]
    rule = "a folder of weights holds one .safetensors or .gguf file, or shards with one index"
    if choices:
        raise ModelNotFound(rule, f"{', '.join(choices)} in {folder}", "Keep the one you mean")
    found = ", ".join(names) or "nothing"
    fix = (
        CONVERT
        if any(n.endswith(FROM_TORCH) for n in names)
        else "Check the path, or download the weights"
    )
    raise ModelNotFound(rule, f"{found} in {folder}", fix)


def _corrupt(file: Path, rule: str, got: str) -> CorruptFile:
    return CorruptFile(rule, f"{got} in {file}", AGAIN)


def _short(value: object) -> str:
    """A value from a file, escaped and short enough for a message."""
    if isinstance(value, str):
        value = value[:80]
    text = str(value) if isinstance(value, Exception) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
