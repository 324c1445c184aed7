"""The tensors of a file of weights by name: memory-mapped views behind a checked header."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sakuga.weights.header import Header, TensorInfo, read_header
from sakuga.weights.sha256 import file_sha256
from sakuga.weights.shards import INDEX, check_index, locate_file, read_index, weights_in
from sakuga.weights.untrusted import corrupt, reading


class FileMaps:
    """The bytes of files, mapped when they are first asked for, private to this process.

    What is written to them is changed for this process alone, never in the file.
    """

    def __init__(self) -> None:
        self._maps: dict[Path, memoryview] = {}

    def of(self, file: Path) -> memoryview:
        """All bytes of a file. They stay valid as long as they are referenced."""
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


def _map(file: Path) -> memoryview:
    with file.open("rb") as stream:
        # Copy on write: torch wants writable memory, and the file must stay untouched.
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY))


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
        self.maps = FileMaps()
        for file, header in shards.items():
            self.metadata.update(header.metadata)
            for key, info in header.infos.items():
                if key in self._infos:
                    first = self._infos[key].file.name
                    raise corrupt(file, "a tensor lies in one shard", f"{key!r} also in {first}")
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
            file = locate_file(path, root, weights_in)
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
        return self.maps.of(info.file)[info.start : info.start + info.nbytes]

    def sha256(self, digest: Callable[[Path], str] | None = None) -> str:
        """The digest of the file, or of the list of shard digests by file name.

        digest: how one file is hashed, if not by `file_sha256`.
        """
        digests = {file.name: (digest or file_sha256)(file) for file in self.files}
        if len(digests) == 1:
            return next(iter(digests.values()))
        lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
        return hashlib.sha256(lines.encode()).hexdigest()
