"""The `convert` command behind its flags: a model or a component, whole or not at all.

Everything is written beside its place and moved there when it is whole.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from sakuga.catalog import INDEX, VOCABULARY
from sakuga.codec import unknown
from sakuga.errors import ModelNotFound, OutputExists, RequestError
from sakuga.weights.adapter_convert import WrittenAdapter, convert_adapter
from sakuga.weights.adapter_file import is_adapter, read_adapter
from sakuga.weights.adapter_spec import AdapterSpec
from sakuga.weights.checkpoint import (
    ENCODERS,
    Checkpoint,
    Opener,
    is_model,
    open_checkpoint,
    open_component,
)
from sakuga.weights.convert import (
    GOALS,
    KEEP,
    PIECES_FILES,
    Goal,
    Job,
    Written,
    plan_job,
    write_job,
)
from sakuga.weights.manifest import MANIFEST, write_manifest
from sakuga.weights.save import write_json
from sakuga.weights.sources import open_source
from sakuga.weights.specs import OURS
from sakuga.weights.store import confine, read_json
from sakuga.weights.tokenizer import FILES

TOKENIZER_FILES = (
    *FILES, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip


def convert(
    source: Path,
    out: Path,
    layout: str | None,
    dtype: str = KEEP,
    *,
    force: bool = False,
    state: str | None = None,
) -> Iterator[Written | WrittenAdapter]:
    """Write a model, a component or an adapter at `out`, and tell of each file when it is done.

    source: as `open_checkpoint` or `open_component` take it, or torch archives in its place.
    state: of several state dicts in an archive, the one that is meant. out: a folder, or the
    .safetensors file of one component. layout: a key of GOALS; of an adapter, which keeps its
    names and its dtypes, it makes no difference. dtype: float32, bfloat16,
    float16, or keep, which unfolds quantised tensors to float32. A manifest.json holds the
    SHA-256 of every file.

    Raises OutputExists unless `force`, RequestError on an unknown layout or dtype, or a dtype
    that some value is too large for, CorruptFile where weights are not finite, and whatever
    opening the source raises. Nothing but what is whole is ever at `out`.
    """
    if layout is not None and layout not in GOALS:
        raise unknown("layout", layout, tuple(GOALS))
    opens = partial(open_source, state=state)
    if not is_model(source) and is_adapter(opens(source, None)):
        yield _convert_adapter(source, out, dtype, opens, force)
        return
    if layout is None:
        raise RequestError(
            "a model is written in a layout", "none", f"Give --layout: {', '.join(GOALS)}."
        )
    model = _open_model(source, opens) if is_model(source) else None
    parts = model.components if model else (open_component(source, opens=opens),)
    jobs = [plan_job(part, GOALS[layout][part.name], dtype) for part in parts]
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
            written = write_job(job, staging, place, lone)
            digests[written.file] = written.sha256
            yield written
        if model:
            _write_habits(model, staging, GOALS[layout])
        files = (path for path in staging.rglob("*") if path.is_file())
        write_manifest(staging, files, digests, f"{out.stem}.{MANIFEST}" if lone else MANIFEST)
        _install(staging, out.parent if lone else out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _convert_adapter(
    source: Path, out: Path, dtype: str, opens: Opener, force: bool
) -> WrittenAdapter:
    if dtype != KEEP:
        raise RequestError("an adapter keeps its dtypes", f"{dtype}", "Leave out --dtype.")
    return convert_adapter(read_adapter(AdapterSpec(source), opens), out, force=force)


def _open_model(source: Path, opens: Opener) -> Checkpoint:
    """A model whose vocabulary and tokenizers are in order too, before anything is written."""
    model = open_checkpoint(source, opens=opens)
    model.vocabulary()
    for name in ENCODERS:
        with contextlib.suppress(ModelNotFound):  # an encoder may go without
            model.tokenizer(name)
    return model


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
        (staging / name).mkdir()
        pieces = (staging / goals[component].file).parent / PIECES_FILES[component]
        if pieces.is_file():
            os.replace(pieces, staging / name / pieces.name)
        with contextlib.suppress(ModelNotFound):
            found = model.tokenizer(name)
            if isinstance(found, Path):  # what weights carry was written with them
                _copy_tokenizer(found.parent, staging / name)
        if not any((staging / name).iterdir()):
            (staging / name).rmdir()


def _copy_tokenizer(home: Path, folder: Path) -> None:
    """Copy what tokenizes for an encoder, and what others read beside it."""
    for file in (home / each for each in TOKENIZER_FILES):
        if file.is_file():
            confine(file, home)
            shutil.copyfile(file, folder / file.name)


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
