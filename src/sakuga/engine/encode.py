"""From texts to conditioning: found in a cache on disk, or made by running both encoders.

A key names everything that decides the bits of an embedding. What is found under a key has
the bits of what would be computed; what is damaged, foreign or gone is simply not there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sakuga.api.events import Encoded, Warned
from sakuga.api.receipt import StagePlan
from sakuga.engine.networks import Networks
from sakuga.engine.readings import Ids, Parts, Reading
from sakuga.engine.run import Events, Run
from sakuga.engine.runner import Runner, check_finite
from sakuga.files.shelf import Shelf
from sakuga.memory.device import DTYPES, Device
from sakuga.memory.stages import GEMMA, JINA, Stage
from sakuga.model.text import Conditioning, GemmaEncoder, JinaEncoder

LIMIT = 256 << 20
FOLDER = "embeddings"

# Looked up on the host, or passed through the device layer by layer.
NOT_LENT = frozenset({"embed_tokens", "word_embeddings", "layers"})


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
        return self._told(lambda: self._shelf.write(key.name, _pack(key, tensors)))

    def prove(self) -> str | None:
        """As `put`, before there is anything to keep."""
        return self._told(self._shelf.prove)

    def _told(self, act: Callable[[], None]) -> str | None:
        try:
            act()
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


@dataclass(frozen=True, slots=True)
class EncodeInputs:
    """An encoder, the texts it reads, (1, L) each, and how many of its layers stay."""

    run: Run
    stage: Stage
    encoder: GemmaEncoder | JinaEncoder
    ids: list[Tensor]
    resident: int


def prepare(
    networks: Networks, run: Run, stage: Stage, texts: Sequence[tuple[int, ...]], how: StagePlan
) -> EncodeInputs:
    """On the host: the network as planned, and what it reads."""
    encoder = networks.of(stage, how.weights, how.dtype)
    return EncodeInputs(run, stage, encoder, [torch.tensor([one]) for one in texts], how.resident)


def encode(inputs: EncodeInputs, device: Device) -> Events[list[Tensor]]:
    """Features of each text, on the host; each unpadded, so that none depends on another."""
    encoder = inputs.encoder
    with (
        device.lend(encoder.model, NOT_LENT),
        device.stream(list(encoder.model.layers), inputs.resident) as layers,
    ):
        features = [one[0] for one in encoder.encode(inputs.ids, layers, device.where)]
    check_finite(inputs.run, inputs.stage.name, *features)
    yield from ()  # nothing happens meanwhile
    return [device.to_host(one) for one in features]


Features = Mapping[Ids, Tensor]  # of each text by its tokens
Join = Callable[[Parts, Features], Tensor]


def joined(parts: Parts, features: Features) -> Tensor:
    """The features of all tokens in order; of what stands around every part, once."""
    found = [features[text] for text in parts.texts]
    if len(found) == 1:
        return found[0]
    found[1:] = (one[parts.before :] for one in found[1:])
    found[:-1] = (one[: len(one) - parts.behind] for one in found[:-1])
    return torch.cat(found)


def mean_of(parts: Parts, features: Features) -> Tensor:
    """The mean over the tokens of all parts, each of which is one over its own."""
    first, *others = (features[text] for text in parts.texts)
    if not others:
        return first
    lengths = torch.tensor([float(len(text)) for text in parts.texts])
    stacked = torch.stack((first, *others)).float()
    return ((lengths / lengths.sum()) @ stacked).to(first.dtype)


def weighed(reading: Reading, features: Features, join: Join) -> Tensor:
    """What a text is drawn with: its features, moved from those it is held against."""
    own = join(reading.parts, features)
    if not reading.contrasts:
        return own
    moved = own.float()
    for one in reading.contrasts:
        other = join(one.parts, features).float()
        if own.dim() == 1:
            moved = moved + one.share * (own.float() - other)
        else:
            shares = torch.tensor(one.shares)[:, None]
            moved = moved + shares * (own.float() - other[list(one.places)])
    return moved.to(own.dtype)


class TextEncoders:
    """Runs the encoders of a model over what is not in `cache`; digest: how a file is hashed."""

    def __init__(
        self,
        networks: Networks,
        runner: Runner,
        cache: EmbeddingCache | None,
        digest: Callable[[Path], str],
    ) -> None:
        self.networks, self.runner, self.cache, self.digest = networks, runner, cache, digest

    def read(self, run: Run) -> Events[list[Conditioning]]:
        """Both sides of the guidance; no negative where guidance does not need one."""
        tokens: list[Tensor] = yield from self._features(run, GEMMA)
        pooled: list[Tensor | None] = [None] * len(tokens)
        if JINA.name in run.stages:
            pooled = list((yield from self._features(run, JINA)))
            if run.request.uncond == "keep-pooled":
                pooled = pooled * len(tokens)
        yield Encoded(run.texts.counts)
        return [Conditioning(*side) for side in zip(tokens, pooled, strict=True)]

    def read_ahead(self, run: Run) -> Events[None]:
        """Read the texts of a run into the cache, for drawings to come."""
        for stage in (GEMMA, JINA):
            if stage.name in run.stages:
                yield from self._features(run, stage)

    def _features(self, run: Run, stage: Stage) -> Events[list[Tensor]]:
        """What an encoder makes of each text, on the host; it reads only what is not kept."""
        readings = run.texts.readings[stage.name]
        texts = dict.fromkeys(text for one in readings for text in one.texts)
        found = {ids: self._kept(stage, ids, run.stages[stage.name]) for ids in texts}
        missing = [ids for ids, features in found.items() if features is None]
        if missing:
            if self.cache is not None and (trouble := self.cache.prove()):
                yield Warned("cache", trouble)
            prepared = partial(prepare, self.networks, run, stage, missing)
            made = yield from self.runner.run(run, stage, prepared, encode)
            for ids, features in zip(missing, made, strict=True):
                found[ids] = features
                trouble = self._keep(stage, ids, run.stages[stage.name], features)
                if trouble:
                    yield Warned("cache", trouble)
        known = {ids: kept for ids, kept in found.items() if kept is not None}
        join = mean_of if stage is JINA else joined
        return [weighed(one, known, join) for one in readings]

    def _kept(self, stage: Stage, ids: tuple[int, ...], how: StagePlan) -> Tensor | None:
        """What the cache has for a text."""
        if self.cache is None:
            return None
        found = self.cache.get(self._key(stage, ids, how))
        return None if found is None else found[0]

    def _keep(
        self, stage: Stage, ids: tuple[int, ...], how: StagePlan, features: Tensor
    ) -> str | None:
        """Keep what was made of a text; what to say where that is not possible."""
        if self.cache is None:
            return None
        return self.cache.put(self._key(stage, ids, how), (features,))

    def _key(self, stage: Stage, ids: tuple[int, ...], how: StagePlan) -> EmbeddingKey:
        part = getattr(self.networks.checkpoint, stage.component.name)
        return EmbeddingKey.of(
            stage.name, ids, weights=part.store.sha256(self.digest), storage=how.weights,
            compute=DTYPES[how.dtype], device=self.runner.device.where,
            threads=self.runner.device.threads,
            mode=f"{part.spec} {part.match}",
        )  # fmt: skip
