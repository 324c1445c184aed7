"""What an encoder made of a text, kept on disk, so that an unchanged prompt runs no encoder.

A key names everything that decides the bits of an embedding. What is found under a key has
the bits of what would be computed; what is damaged, foreign or gone is simply not there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sakuga.files.shelf import Shelf

LIMIT = 256 << 20
FOLDER = "embeddings"


@dataclass(frozen=True, slots=True)
class EmbeddingKey:
    """Everything that decides the bits of one encoder's output for one text.

    encoder: gemma | jina. ids: `ids_digest` of the token ids that the encoder reads, after
    any cut. weights: SHA-256 of the encoder's files. storage: the format its weights are
    bound in. compute: the dtype it computes in. device: `device_kind`. mode: whatever else
    changes the output, such as what a config says. code: `code_version`.
    """

    encoder: str
    ids: str
    weights: str
    storage: str
    compute: str
    device: str
    mode: str
    code: str

    @classmethod
    def of(
        cls,
        encoder: str,
        ids: Sequence[int],
        *,
        weights: str,
        storage: str,
        compute: torch.dtype,
        device: torch.device,
        threads: int | None = None,
        mode: str = "",
    ) -> EmbeddingKey:
        """The key of token ids on a device of this machine, by the code that is running.

        threads: how many compute on a CPU, None for as many as torch has.
        """
        dtype = str(compute).removeprefix("torch.")
        kind = device_kind(device, threads)
        return cls(encoder, ids_digest(ids), weights, storage, dtype, kind, mode, code_version())

    @property
    def text(self) -> str:
        """The key as one line of JSON."""
        return json.dumps(asdict(self))

    @property
    def name(self) -> str:
        """The key as 64 hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()


class EmbeddingCache:
    """Embeddings by key, in a bounded folder that processes share.

    folder: the cache folder; embeddings lie in one of its own beneath. limit: bytes on disk.
    No method raises on account of the folder: a drawing goes on without it.
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self._shelf = Shelf(folder / FOLDER, ".safetensors", limit)
        self._complained = False

    def get(self, key: EmbeddingKey) -> tuple[Tensor, ...] | None:
        """The tensors kept under a key, on the CPU, bit for bit; None where there are none."""
        data = self._shelf.read(key.name)
        if data is None:
            return None
        tensors = _unpack(data, key)
        if tensors is None:
            self._shelf.drop(key.name)
        return tensors

    def put(self, key: EmbeddingKey, tensors: Sequence[Tensor]) -> str | None:
        """Keep tensors of any device under a key; values that are not finite are not kept.

        Returns a sentence to show where the folder cannot be written, once per cache.
        """
        if not _finite(tensors):
            return None
        try:
            self._shelf.write(key.name, _pack(key, tensors))
        except OSError as error:
            first, self._complained = not self._complained, True
            reason = error.strerror or str(error)
            return f"Nothing is kept in {self._shelf.folder}: {reason}." if first else None
        return None


def ids_digest(ids: Sequence[int]) -> str:
    """The SHA-256 of token ids, in hex."""
    return hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()


def device_kind(device: torch.device, threads: int | None = None) -> str:
    """What decides the kernels that run on a device, and so the last bits of their results.

    Cards of one compute capability choose different kernels by their number of processors,
    and matrix products on a CPU are split by its number of threads.
    """
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"cuda sm{major}{minor} {torch.cuda.get_device_name(device)}"
    if device.type == "cpu":
        count = threads or torch.get_num_threads()
        return f"cpu {torch.backends.cpu.get_cpu_capability()} {count} threads"
    return device.type


@lru_cache(maxsize=1)
def code_version() -> str:
    """The versions of what computes an embedding, with a digest of our own source.

    The digest is there for who works on sakuga: an edit must not find what older code made.
    """
    source = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        source.update(file.read_bytes())
    names = ("sakuga", "torch")
    return " ".join([*(f"{name} {version(name)}" for name in names), source.hexdigest()[:16]])


def _pack(key: EmbeddingKey, tensors: Sequence[Tensor]) -> bytes:
    """A safetensors file of the tensors in order, with the key and a digest in its metadata."""
    copies = [one.detach().cpu().clone(memory_format=torch.contiguous_format) for one in tensors]
    named = {str(index): copy for index, copy in enumerate(copies)}
    return save(named, _metadata(key, copies))


def _unpack(data: bytes, key: EmbeddingKey) -> tuple[Tensor, ...] | None:
    """The tensors of a file that `_pack` made for this key; None of any other bytes."""
    try:
        header = data[8 : 8 + int.from_bytes(data[:8], "little")]
        metadata = json.loads(header)["__metadata__"]
        named = load(data)
        tensors = tuple(named[str(index)] for index in range(len(named)))
        sound = metadata == _metadata(key, tensors) and _finite(tensors)
    except (SafetensorError, LookupError, TypeError, ValueError, RuntimeError):
        return None
    return tensors if sound else None


def _metadata(key: EmbeddingKey, tensors: Sequence[Tensor]) -> dict[str, str]:
    digest = hashlib.sha256()
    for one in tensors:
        digest.update(f"{one.dtype} {tuple(one.shape)}\n".encode())
        digest.update(one.reshape(-1).view(torch.uint8).numpy().data)
    return {"key": key.text, "sha256": digest.hexdigest()}


def _finite(tensors: Sequence[Tensor]) -> bool:
    return all(bool(torch.isfinite(one).all()) for one in tensors)
