"""Writes a model, or one component, in another layout or dtype.

Tensors stream from file to file a part at a time, so that memory holds parts, whatever the
size of the model. Everything is written beside its place and moved there when it is whole.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sakuga.codec import unknown
from sakuga.errors import CorruptFile, ModelNotFound, OutputExists, RequestError
from sakuga.memory.inventory import part_of
from sakuga.model.spec import NextDiTSpec
from sakuga.weights.bind import read_piece
from sakuga.weights.checkpoint import (
    ENCODERS,
    INDEX,
    VOCABULARY,
    Checkpoint,
    Component,
    is_model,
    open_checkpoint,
    read_json,
    understand,
)
from sakuga.weights.fates import NAMES, Report, Target, listed, report, unbound
from sakuga.weights.formats import (
    Stored,
    choose_format,
    logical_shapes,
    read_storage_metadata,
)
from sakuga.weights.layouts import (
    GEMMA,
    JINA_OFFICIAL,
    JINA_SINGLE_FILE,
    JINA_TRANSFORMERS,
    NEXTDIT_DIFFUSERS,
    NEXTDIT_ORIGINAL,
    VAE_BFL,
    VAE_DIFFUSERS,
    Layout,
    Match,
    Piece,
    Shape,
    explain,
    rewrite,
)
from sakuga.weights.quantise import DTYPES
from sakuga.weights.save import write_json
from sakuga.weights.sources import open_source
from sakuga.weights.specs import OURS, config_of, lumina2_config
from sakuga.weights.store import ITEMSIZE, confine, hash_file
from sakuga.weights.writer import Promised, write_tensors

KEEP = "keep"
PART = 1 << 22  # values read, cast and written at once
MANIFEST = "manifest.json"
PIECES = "spiece_model"  # a tensor that holds the tokenizer's file
PIECES_FILES = {"text_encoder": "tokenizer.model", "text_encoder_2": "sentencepiece.bpe.model"}
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    *PIECES_FILES.values(),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Goal:
    """How and where a layout keeps one component; `loose`: its config is in the file's metadata."""

    layout: Layout
    file: str
    prefix: str = ""
    loose: bool = False


_DIFFUSERS_FILE = "diffusion_pytorch_model.safetensors"
_FOLDERS = {
    "text_encoder": Goal(GEMMA, "text_encoder/model.safetensors"),
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
        "text_encoder": Goal(GEMMA, "text_encoders/gemma.safetensors", "model.", loose=True),
        "text_encoder_2": Goal(
            JINA_SINGLE_FILE, "text_encoders/jina.safetensors", "model.", loose=True
        ),
        "vae": Goal(VAE_BFL, "vae/ae.safetensors", loose=True),
    },
}


@dataclass(frozen=True, slots=True)
class Written:
    """One file of weights that was written: where, what, and what became of every key.

    `provisional`: names in it that no published file confirms.
    """

    component: str
    layout: str
    file: str
    bytes: int
    sha256: str
    report: Report
    provisional: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.component} -> {self.file}: {self.layout}, {self.bytes:,} bytes"]
        if self.provisional:
            names = ", ".join(self.provisional)
            lines.append(f"  note: no published file confirms the names of {names}")
        return "\n".join([*lines, f"  from {self.report}"])


def convert(
    source: Path, out: Path, layout: str, dtype: str = KEEP, *, force: bool = False
) -> Iterator[Written]:
    """Write a model or a component at `out`, and tell of each file of weights when it is done.

    source: as `open_checkpoint` or `open_component` take it. out: a folder, or the .safetensors
    file of one component. layout: a key of GOALS. dtype: float32, bfloat16, float16, or keep,
    which unfolds quantised tensors to float32. A manifest.json holds the SHA-256 of every file.

    Raises OutputExists unless `force`, RequestError on an unknown layout or dtype, or a dtype
    that some value is too large for, CorruptFile where weights are not finite, and whatever
    opening the source raises. Nothing but what is whole is ever at `out`.
    """
    if layout not in GOALS:
        raise unknown("layout", layout, tuple(GOALS))
    model = open_checkpoint(source) if is_model(source) else None
    parts = model.components if model else (understand(open_source(source), None, source),)
    jobs = [_plan(part, GOALS[layout][part.name], dtype) for part in parts]
    lone = out.suffix == ".safetensors"
    if lone and model:
        raise RequestError("a model is written to a folder", f"{out}", "Name a folder.")
    places = [_place(job, out, model) for job in jobs]
    _refuse(out, lone, force, places)
    _refuse_itself([(out.parent if lone else out) / place for place in places], jobs)
    out.parent.mkdir(parents=True, exist_ok=True)
    _check_room(out.parent, jobs)
    staging = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        digests = {}
        for job, place in zip(jobs, places, strict=True):
            written = _write(job, staging, place, lone)
            digests[written.file] = written.sha256
            yield written
        if model:
            _write_habits(model, staging, GOALS[layout])
        _write_manifest(staging, f"{out.stem}.{MANIFEST}" if lone else MANIFEST, digests)
        _install(staging, out.parent if lone else out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Job:
    """One component to write: its tensors by their new names, made of ours, made of the file's."""

    part: Component
    goal: Goal
    stored: Mapping[str, Stored]
    ours: Mapping[str, Piece]
    theirs: Mapping[str, Piece]
    promised: Mapping[str, Promised]
    report: Report

    def read(self, name: str) -> Iterator[Tensor]:
        """The values of a new tensor, rows by rows."""
        piece = self.theirs[name]
        dtype = DTYPES[self.promised[name].dtype]
        count = piece.shape[0] if piece.shape else 1
        step = max(1, PART // max(1, math.prod(piece.shape[1:])))
        offset = piece.rows[0] if piece.rows else 0
        for first in range(offset, offset + count, step):
            yield self._rows(piece, first, min(first + step, offset + count), dtype)

    def sources(self, name: str) -> tuple[str, ...]:
        """The names in the file of what a new tensor is made of."""
        return tuple(key for ours in self.theirs[name].sources for key in self.ours[ours].sources)

    def _rows(self, piece: Piece, first: int, last: int, dtype: torch.dtype) -> Tensor:
        """Rows of tensors of ours laid end to end."""
        store, parts, start = self.part.store, [], 0
        for key in piece.sources:
            ours = self.ours[key]
            rows = ours.shape[0] if ours.shape else 1
            window = max(first - start, 0), min(last - start, rows)
            if window[0] < window[1]:
                parts.append(read_piece(store, ours, self.stored, dtype, window))
            start += rows
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _plan(part: Component, goal: Goal, dtype: str) -> Job:
    """Decide what becomes of every key. Raises BindError where one is missing or unexplained."""
    form = None if dtype == KEEP else choose_format(dtype, part.name)
    if form is not None and form.quantised:
        raise RequestError("files are written in a float format", repr(dtype), "Choose bfloat16.")
    store = part.store
    stored = read_storage_metadata(store.metadata)
    found = logical_shapes(store.shapes(), store.dtypes(), stored)
    made, _ = rewrite(part.match, found)
    ours = {piece.target: piece for piece in made}
    shapes = {key: piece.shape for key, piece in ours.items()}
    pieces, nameless = rewrite(Match(goal.layout.inverse), shapes, _split_rows(part.spec))
    needed = {weight.key: weight.shape for weight in part_of(part.spec)}
    named = {key: shape for key, shape in shapes.items() if key not in nameless}
    explanation = explain(part.match, found, named | needed)
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
    targets = {key: Target(NAMES[kind]) for key, kind in kinds.items()}
    fates = report(explanation, found, store.dtypes(), stored, targets)
    return Job(part, goal, stored, ours, theirs, promised, fates)


def _kept(piece: Piece, dtypes: Mapping[str, str], stored: Mapping[str, Stored]) -> str:
    """The dtype that keeps a tensor as it is: of a baked one its weight's, float32 if quantised."""
    sources = piece.sources[:1] if piece.adapter else piece.sources
    kinds = ["F32" if key in stored else dtypes[key] for key in sources]
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


def _place(job: Job, out: Path, model: Checkpoint | None) -> str:
    """The path of a component's file within what is written."""
    if model:
        return job.goal.file
    return out.name if out.suffix == ".safetensors" else Path(job.goal.file).name


def _refuse(out: Path, lone: bool, force: bool, files: list[str]) -> None:
    """Refuse to overwrite, and to leave weights beside new ones that nobody could tell apart."""
    if not force and (out.exists() or out.is_symlink()):
        raise OutputExists("what is there stays unless --force is given", f"{out}", "Give --force.")
    if out.is_dir() and lone:
        raise OutputExists("a .safetensors name is a file", f"the folder {out}", "Choose another.")
    if out.exists() and not lone:
        if not out.is_dir():
            raise OutputExists("a layout is written to a folder", f"the file {out}", "Choose one.")
        there = {*out.glob("*.safetensors*"), *out.glob("*/*.safetensors*")}
        if odd := sorted(there - {out / file for file in files}):
            raise OutputExists(
                "a folder keeps one model in one layout", f"{odd[0]}", "Move it away first."
            )


def _refuse_itself(targets: list[Path], jobs: list[Job]) -> None:
    """Refuse to replace what is being read."""
    sources = {file.resolve() for job in jobs for file in job.part.store.files}
    if both := sorted(sources & {target.resolve() for target in targets}):
        raise RequestError("a model is not written over itself", f"{both[0]}", "Write elsewhere.")


def _check_room(folder: Path, jobs: list[Job]) -> None:
    needed = sum(each.nbytes for job in jobs for each in job.promised.values())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RequestError(
            "a conversion fits on the disk",
            f"{needed:,} bytes to write, {free:,} free in {folder}",
            "Make room, or write elsewhere.",
        )


def _write(job: Job, staging: Path, place: str, lone: bool) -> Written:
    """Write one component's weights, its config, and its tokenizer where a tensor holds that."""
    file = staging / place
    file.parent.mkdir(parents=True, exist_ok=True)
    config = lumina2_config(job.part.spec) if job.goal.layout is NEXTDIT_DIFFUSERS else config_of(
        job.part.spec
    )  # fmt: skip
    names = tuple(job.goal.prefix + name for name in job.goal.layout.provisional)
    metadata = {"format": "pt"}
    if names:
        metadata["sakuga.provisional"] = " ".join(names)
    if job.goal.loose or lone:
        metadata["config"] = json.dumps(config)
    else:
        write_json(file.parent / "config.json", config)
    pieces = _tokenizer_tensor(job.part)
    promised = dict(job.promised)
    if pieces and job.goal.loose:
        promised[PIECES] = Promised("U8", (len(pieces),))
    elif pieces and not lone:
        (file.parent / PIECES_FILES[job.part.name]).write_bytes(pieces)
    strange: list[str] = []

    def read(name: str) -> Iterator[memoryview]:
        if name == PIECES:
            yield pieces
            return
        sound = True
        for values in job.read(name):
            sound = sound and _finite(values)
            yield memoryview(values.contiguous().view(-1).view(torch.uint8).numpy())
            job.part.store.release()
        if not sound:
            strange.append(name)

    digest = write_tensors(file, promised, metadata, read)
    if strange:
        raise _not_finite(job, strange)
    return Written(
        job.part.name, job.goal.layout.name, place, file.stat().st_size, digest, job.report, names
    )


def _finite(values: Tensor) -> bool:
    if not values.is_floating_point():
        return True
    narrow = values.dtype.itemsize == 1  # torch cannot ask them
    return bool((values.float() if narrow else values).isfinite().all())


def _not_finite(job: Job, names: list[str]) -> CorruptFile | RequestError:
    """The error for tensors that hold NaN or infinity: as they came, or since they were cast."""
    broken = []
    for name in names:
        promised = {name: replace(job.promised[name], dtype="F32")}
        if not all(_finite(values) for values in replace(job, promised=promised).read(name)):
            broken.append(name)
        job.part.store.release()
    if broken:
        keys = [key for name in broken for key in job.sources(name)]
        return CorruptFile(
            "weights are finite numbers",
            f"NaN or infinity in {listed(list(dict.fromkeys(keys)))} of {job.part.store.path}",
            "Download the file again; what it holds draws nothing",
        )
    dtype = NAMES[job.promised[names[0]].dtype]
    return RequestError(
        "weights are written in a dtype that holds them",
        f"values beyond {dtype} in {listed(names)}",
        "Choose bfloat16, which has the range of float32.",
    )


def _tokenizer_tensor(part: Component) -> memoryview | None:
    """The tokenizer's file, where the weights carry it as a tensor of bytes."""
    for key, dtype in part.store.dtypes().items():
        if key.endswith(PIECES) and ITEMSIZE[dtype] == 1 and part.name in PIECES_FILES:
            return part.store.view(key)
    return None


def _write_habits(model: Checkpoint, staging: Path, goals: Mapping[str, Goal]) -> None:
    """Write what a model has besides weights: its index, its vocabulary, its tokenizers."""
    index: dict[str, Any] = {"_class_name": "NewbiePipeline"}
    if (model.path / INDEX).is_file():
        ours = read_json(model.path / INDEX, model.path).get(OURS)
        index |= {} if ours is None else {OURS: ours}
    write_json(staging / INDEX, index)
    if (model.path / VOCABULARY).is_file():
        write_json(staging / VOCABULARY, read_json(model.path / VOCABULARY, model.path))
    for name, component in ENCODERS.items():
        with contextlib.suppress(ModelNotFound):
            home = model.tokenizer(name).parent
            for file in (home / each for each in TOKENIZER_FILES):
                if file.is_file():
                    confine(file, home)
                    (staging / name).mkdir(exist_ok=True)
                    shutil.copyfile(file, staging / name / file.name)
        pieces = (staging / goals[component].file).parent / PIECES_FILES[component]
        if pieces.is_file():
            (staging / name).mkdir(exist_ok=True)
            os.replace(pieces, staging / name / pieces.name)


def _write_manifest(staging: Path, name: str, digests: Mapping[str, str]) -> None:
    """Write down what every file should be."""
    files = {}
    for file in sorted(path for path in staging.rglob("*") if path.is_file()):
        place = file.relative_to(staging).as_posix()
        digest = digests.get(place) or hash_file(file)
        files[place] = {"sha256": digest, "bytes": file.stat().st_size}
    write_json(staging / name, {"files": files})


def _install(staging: Path, out: Path) -> None:
    """Move what was written to its place: a new folder at once, else file by file."""
    os.chmod(staging, 0o755)
    if not out.exists():
        os.rename(staging, out)
        return
    for file in sorted(path for path in staging.rglob("*") if path.is_file()):
        place = out / file.relative_to(staging)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, place)
