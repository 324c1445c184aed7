"""One component in another layout or dtype: decided from headers, then streamed.

Tensors go from file to file a part at a time, so that memory holds parts, whatever the size
of the model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sakuga.api.codec import unknown
from sakuga.checkpoint.bind import read_piece
from sakuga.checkpoint.contents import Report, Target, gathered, report, unbound
from sakuga.checkpoint.families.gemma import GEMMA_TRANSFORMERS
from sakuga.checkpoint.families.jina import JINA_OFFICIAL, JINA_SINGLE_FILE, JINA_TRANSFORMERS
from sakuga.checkpoint.families.layout import ALL_IN_ONE, KeyLayout
from sakuga.checkpoint.families.match import Match, TensorPiece, rewrite
from sakuga.checkpoint.families.nextdit import NEXTDIT_DIFFUSERS, NEXTDIT_ORIGINAL, lumina2_config
from sakuga.checkpoint.families.tables import config_of
from sakuga.checkpoint.families.vae import VAE_BFL, VAE_DIFFUSERS
from sakuga.checkpoint.folder import Component, config_key
from sakuga.checkpoint.quantising import COMPONENTS, WAYS, Quantising
from sakuga.checkpoint.save import bytes_of, write_json
from sakuga.checkpoint.tokenizer import TENSOR, carried_model
from sakuga.errors import CorruptFile, RequestError
from sakuga.model.inventory import weights_of
from sakuga.model.spec import NextDiTSpec
from sakuga.printable import listed, shown
from sakuga.weights.formats import (
    FLOATS,
    ITEMSIZE,
    KEEP,
    TORCH_NAMES,
    Shape,
    StoredTensor,
    choose_format,
    is_block_linear,
    plain_dtype,
)
from sakuga.weights.quantise import TORCH_DTYPES, all_finite, floats
from sakuga.weights.writer import Promised, write_tensors

PART = 1 << 22  # values read, cast and written at once
PIECES_FILES = {"text_encoder": "tokenizer.model", "text_encoder_2": "sentencepiece.bpe.model"}


@dataclass(frozen=True, slots=True)
class Goal:
    """How and where a layout keeps one component.

    `loose`: its config is in the file's metadata. `root`: what stands before the marker of
    quantised weights. `words`: what stands before its tokenizer where that is a tensor.
    """

    layout: KeyLayout
    file: str
    prefix: str = ""
    loose: bool = False
    root: str = ""
    words: str = ""


_DIFFUSERS_FILE = "diffusion_pytorch_model.safetensors"
_FOLDERS = {
    "text_encoder": Goal(GEMMA_TRANSFORMERS, "text_encoder/model.safetensors"),
    "vae": Goal(VAE_DIFFUSERS, f"vae/{_DIFFUSERS_FILE}"),
}
GOALS: Mapping[str, Mapping[str, Goal]] = {
    "diffusers": _FOLDERS
    | {
        "transformer": Goal(NEXTDIT_DIFFUSERS, f"transformer/{_DIFFUSERS_FILE}"),
        "text_encoder_2": Goal(JINA_TRANSFORMERS, "text_encoder_2/model.safetensors"),
    },
    "original": _FOLDERS
    | {
        "transformer": Goal(NEXTDIT_ORIGINAL, f"transformer/{_DIFFUSERS_FILE}"),
        "text_encoder_2": Goal(
            JINA_OFFICIAL, "clip_model/model.safetensors", "text_model.transformer.roberta."
        ),
    },
    "single-file": {
        "transformer": Goal(
            NEXTDIT_ORIGINAL, "diffusion_models/transformer.safetensors", loose=True
        ),
        "text_encoder": Goal(
            GEMMA_TRANSFORMERS, "text_encoders/gemma.safetensors", "model.", loose=True
        ),
        "text_encoder_2": Goal(
            JINA_SINGLE_FILE, "text_encoders/jina.safetensors", "model.", loose=True
        ),
        "vae": Goal(VAE_BFL, "vae/ae.safetensors", loose=True),
    },
}
JOINED = "all-in-one"  # the layout that keeps all components in one file
LAYOUT_NAMES = (*GOALS, JOINED)


def goals_of(layout: str, pooled: bool) -> Mapping[str, Goal]:
    """How a layout of LAYOUT_NAMES keeps each component; pooled: whether Jina is one of them."""
    return _joined(pooled) if layout == JOINED else GOALS[layout]


def _joined(pooled: bool) -> Mapping[str, Goal]:
    """One file for all, named as ComfyUI names them."""
    theirs = {name: prefixes[0] for name, prefixes in ALL_IN_ONE.items()}
    gemma = ALL_IN_ONE["text_encoder"][pooled]
    words = {"text_encoder": "text_encoders."}
    if pooled:
        words = {"text_encoder": "text_encoders.gemma.", "text_encoder_2": "text_encoders.jina."}
    prefixes = theirs | {"text_encoder": gemma}
    roots = {"transformer": theirs["transformer"], "text_encoder": gemma.removesuffix("model.")}
    return {
        name: Goal(
            goal.layout, "checkpoint.safetensors", prefixes[name], loose=True,
            root=roots.get(name, ""), words=words.get(name, ""),
        )
        for name, goal in GOALS["single-file"].items()
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Written:
    """One file of weights that was written: where, what, and what became of every key.

    `provisional`: names in it that no published file confirms. `beside`: what else the source
    held, with the reason why it was left out.
    """

    component: str
    layout: str
    file: str
    bytes: int
    sha256: str
    report: Report
    provisional: tuple[str, ...]
    beside: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"{self.component} -> {self.file}: {self.layout}, {self.bytes:,} bytes"]
        if self.provisional:
            names = ", ".join(self.provisional)
            lines.append(f"  note: no published file confirms the names of {names}")
        lines += f"  from {self.report}".splitlines()
        lines += [f"  left out: {line}" for line in gathered(self.beside)]
        return "\n".join(map(shown, lines))


@dataclass(frozen=True, slots=True)
class Conversion:
    """One component to write: its tensors by their new names, made of ours, made of the file's."""

    part: Component
    goal: Goal
    theirs: Mapping[str, TensorPiece]
    promised: Mapping[str, Promised]
    report: Report
    quantising: Quantising | None = None

    def read(self, name: str) -> Iterator[Tensor]:
        """The values of a new tensor, rows by rows."""
        if self.quantising and (name in self.quantising.weights or name not in self.theirs):
            return self.quantising.read(name, lambda weight: self.rows(weight, torch.float32))
        return self.rows(name, TORCH_DTYPES[self.promised[name].dtype])

    def rows(self, name: str, dtype: torch.dtype) -> Iterator[Tensor]:
        """The values of what a new tensor is made of, rows by rows."""
        piece = self.theirs[name]
        count = piece.shape[0] if piece.shape else 1
        step = max(1, PART // max(1, math.prod(piece.shape[1:])))
        offset = piece.rows[0] if piece.rows else 0
        for first in range(offset, offset + count, step):
            yield self._rows(piece, first, min(first + step, offset + count), dtype)

    @property
    def config(self) -> dict[str, Any]:
        """What says of the component what it is, as programs that read this layout have it."""
        published = self.goal.layout is NEXTDIT_DIFFUSERS
        return lumina2_config(self.part.spec) if published else config_of(self.part.spec)

    @property
    def unconfirmed(self) -> tuple[str, ...]:
        """Names of new tensors that no published file confirms."""
        every = (self.goal.prefix + name for name in self.goal.layout.provisional)
        return tuple(name for name in every if name in self.promised)

    def sources(self, name: str) -> tuple[str, ...]:
        """The names in the file of what a new tensor is made of."""
        pieces = self.part.pieces
        name = self.quantising.weight_of(name) if self.quantising else name
        return tuple(key for ours in self.theirs[name].sources for key in pieces[ours].sources)

    def _rows(self, piece: TensorPiece, first: int, last: int, dtype: torch.dtype) -> Tensor:
        """Rows of tensors of ours laid end to end."""
        store, parts, start = self.part.store, [], 0
        for key in piece.sources:
            ours = self.part.pieces[key]
            rows = ours.shape[0] if ours.shape else 1
            window = max(first - start, 0), min(last - start, rows)
            if window[0] < window[1]:
                parts.append(read_piece(store, ours, self.part.stored, dtype, window))
            start += rows
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def plan_conversion(part: Component, goal: Goal, dtype: str) -> Conversion:
    """Decide what becomes of every key of a component.

    dtype: float32, bfloat16, float16, KEEP, or one of WAYS, which keeps all that it does not
    quantise. Raises BindError where a key is missing or unexplained, RequestError on a dtype
    that is not written.
    """
    if dtype not in (KEEP, *FLOATS, *WAYS):
        raise unknown("the dtype of a written file", dtype, (KEEP, *FLOATS, *WAYS))
    form = choose_format(dtype, part.name) if dtype in FLOATS else None
    way = WAYS.get(dtype) if part.name in COMPONENTS else None
    store = part.store
    stored, ours = part.stored, part.pieces
    shapes = {key: piece.shape for key, piece in ours.items()}
    pieces, nameless = rewrite(Match(goal.layout.inverse), shapes, _split_rows(part.spec))
    needed = {weight.key: weight.shape for weight in weights_of(part.spec)}
    named = {key: shape for key, shape in shapes.items() if key not in nameless}
    explanation = part.explain(named | needed)
    if not explanation.complete:
        raise unbound(explanation, store.path)
    kinds = {
        key: form.dtype if form else _kept(piece, store.dtypes(), stored)
        for key, piece in ours.items()
    }
    theirs = {goal.prefix + piece.target: piece for piece in pieces}
    promised = {
        name: Promised(max((kinds[key] for key in piece.sources), key=_width), piece.shape)
        for name, piece in theirs.items()
    }
    targets = {
        key: Target(TORCH_NAMES[kind], way.form if way and is_block_linear(key) else None)
        for key, kind in kinds.items()
    }
    fates = report(explanation, part.shapes, store.dtypes(), stored, targets)
    if way is None:
        return Conversion(part, goal, theirs, promised, fates)
    matrices = {
        name: promised[name]
        for name, piece in theirs.items()
        if all(map(is_block_linear, piece.sources))
    }
    quantising = Quantising(way, matrices, goal.root)
    return Conversion(part, goal, theirs, promised | quantising.promised(), fates, quantising)


def _kept(piece: TensorPiece, dtypes: Mapping[str, str], stored: Mapping[str, StoredTensor]) -> str:
    """The dtype that keeps a tensor as it is: of a baked one its weight's, float32 if quantised."""
    sources = piece.sources[:1] if piece.adapter else piece.sources
    kinds = ["F32" if key in stored else plain_dtype(dtypes[key]) for key in sources]
    return max(kinds, key=_width)


def _width(dtype: str) -> int:
    return ITEMSIZE[dtype]


def _split_rows(spec: Any) -> dict[str, Shape]:
    """The shapes of query, key and value where a layout keeps apart what we keep fused."""
    if not isinstance(spec, NextDiTSpec):
        return {}
    queries, keys = spec.n_heads * spec.head_dim, spec.n_kv_heads * spec.head_dim
    stacks = {"layers": spec.n_layers} | dict.fromkeys(
        ("noise_refiner", "context_refiner"), spec.n_refiner_layers
    )
    return {
        f"{stack}.{number}.attn.to_{name}.weight": (rows, spec.dim)
        for stack, count in stacks.items()
        for number in range(count)
        for name, rows in (("q", queries), ("k", keys), ("v", keys))
    }


def write_conversions(
    jobs: Sequence[Conversion],
    staging: Path,
    place: str,
    lone: bool,
    words: Mapping[str, bytes] | None = None,
) -> tuple[Written, ...]:
    """Write the weights of components into one file, their configs, and what tokenizes for them.

    place: the path of the weights within `staging`. lone: whether nothing may lie beside them,
    so that configs go into their metadata. words: by component, SentencePiece models that lie
    apart from its weights. Raises CorruptFile where weights are not finite, RequestError where
    the new dtype cannot hold them, OSError.
    """
    file = staging / place
    file.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"format": "pt"} | _unconfirmed(jobs)
    pieces: dict[str, bytes] = {}
    makers: dict[str, Conversion] = {}
    for job in jobs:
        part, goal = job.part, job.goal
        makers |= dict.fromkeys(job.promised, job)
        if goal.loose or lone:
            metadata[config_key(part.name, alone=len(jobs) == 1)] = json.dumps(job.config)
        else:
            write_json(file.parent / "config.json", job.config)
        model = _words_of(part, words or {})
        if model and goal.loose:
            pieces[goal.words + TENSOR] = model
        elif model and not lone:
            (file.parent / PIECES_FILES[part.name]).write_bytes(model)
    promised = {name: job.promised[name] for name, job in makers.items()}
    promised |= {name: Promised("U8", (len(model),)) for name, model in pieces.items()}
    unsound: list[str] = []

    def read(name: str) -> Iterator[memoryview]:
        if name in pieces:
            yield memoryview(pieces[name])
            return
        sound = True
        for values in makers[name].read(name):
            sound = sound and _finite(values)
            yield bytes_of(values)
            makers[name].part.store.maps.release()
        if not sound:
            unsound.append(name)

    digest = write_tensors(file, promised, metadata, read)
    if unsound:
        job = makers[unsound[0]]
        raise _not_finite(job, [name for name in unsound if makers[name] is job])
    size = file.stat().st_size
    return tuple(
        Written(
            job.part.name, job.goal.layout.name, place, size, digest, job.report, job.unconfirmed,
            job.part.store.dropped,
        )
        for job in jobs
    )  # fmt: skip


def _unconfirmed(jobs: Iterable[Conversion]) -> dict[str, str]:
    names = [name for job in jobs for name in job.unconfirmed]
    return {"sakuga.provisional": " ".join(names)} if names else {}


def _words_of(part: Component, words: Mapping[str, bytes]) -> bytes | None:
    """The SentencePiece model of an encoder: within its weights, else as it is given."""
    if part.name not in PIECES_FILES:
        return None
    return carried_model(part.store, part.match.prefix) or words.get(part.name)


def _finite(values: Tensor) -> bool:
    if not values.is_floating_point():
        return True
    return all_finite(floats(values) if values.dtype.itemsize == 1 else values)


def _not_finite(job: Conversion, names: list[str]) -> CorruptFile | RequestError:
    """The error for tensors that hold NaN or infinity: as they came, or since they were cast."""
    broken = []
    plain = [job.quantising.weight_of(name) if job.quantising else name for name in names]
    for name in dict.fromkeys(plain):
        if not all(map(_finite, job.rows(name, torch.float32))):
            broken.append(name)
        job.part.store.maps.release()
    if broken:
        keys = [key for name in broken for key in job.sources(name)]
        return CorruptFile(
            "weights are finite numbers",
            f"NaN or infinity in {listed(list(dict.fromkeys(keys)))} of {job.part.store.path}",
            "Download the file again; what it holds draws nothing",
        )
    dtype = TORCH_NAMES[job.promised[names[0]].dtype]
    return RequestError(
        "weights are written in a dtype that holds them",
        f"values beyond {dtype} in {listed(names)}",
        "Choose bfloat16, which has the range of float32.",
    )
