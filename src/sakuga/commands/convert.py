"""The `convert` command behind its flags: a model or a component, whole or not at all.

Everything is written beside its place and moved there when it is whole. A folder that is to be
replaced is moved aside first. If the process is killed between the two moves, nothing is at the
place, and both the old and the new folder lie beside it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from sakuga.adapters.convert import WrittenAdapter, convert_adapter
from sakuga.adapters.file import is_adapter, read_adapter
from sakuga.adapters.spec import AdapterSpec
from sakuga.api.codec import unknown
from sakuga.checkpoint.convert import (
    JOINED,
    LAYOUT_NAMES,
    PIECES_FILES,
    Conversion,
    Goal,
    Written,
    goals_of,
    plan_conversion,
    write_conversions,
)
from sakuga.checkpoint.folder import ENCODERS, Checkpoint, Component, open_checkpoint, understand
from sakuga.checkpoint.manifest import MANIFEST, write_manifest
from sakuga.checkpoint.model_index import INDEX
from sakuga.checkpoint.parts import (
    ARCHIVES,
    FOLDERS,
    KINDS,
    Opener,
    components_of,
    is_model,
)
from sakuga.checkpoint.save import refuse_itself, write_json, writing
from sakuga.checkpoint.tokenizer_file import FILES
from sakuga.checkpoint.vocabulary import VOCABULARY
from sakuga.engine.texts import check_tokenizer
from sakuga.errors import ModelNotFound, OutputExists, RequestError
from sakuga.model.spec import OURS, GemmaSpec, JinaSpec, preset_of
from sakuga.tokenizer.tokens import Tokenizer
from sakuga.weights.formats import KEEP
from sakuga.weights.sources import open_source
from sakuga.weights.store import Store
from sakuga.weights.untrusted import confine, read_json

ALL_KINDS = (*KINDS, *ARCHIVES)  # of files that may hold a part of what is converted
# What a pipeline of these components is called, by whether it reads pooled text.
PIPELINES = {True: "NewbiePipeline", False: "Lumina2Pipeline"}
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
) -> tuple[Written | WrittenAdapter, ...]:
    """Write a model, a component or an adapter at `out`, and tell of each file that is there then.

    source: as `open_checkpoint` or `open_component` take it, or torch archives in its place.
    state: of several state dicts in an archive, the one that is meant. out: a folder, or the
    .safetensors file of one component, or of all as JOINED. layout: one of LAYOUT_NAMES; of an
    adapter, which keeps its names and its dtypes, it makes no difference. dtype: as
    `plan_conversion` takes it; keep unfolds quantised tensors to float32. A manifest.json holds
    the SHA-256 of every file. Equal tensors give equal files, however the source spelled them.

    Raises OutputExists unless `force`, RequestError on an unknown layout or dtype, or a dtype
    that some value is too large for, CorruptFile where weights are not finite, SpecMismatch
    where a tokenizer is not its encoder's, SakugaError where the system cannot write there, and
    whatever opening the source raises. Nothing but what is whole is ever at `out`; what else
    a folder holds stays in it.
    """
    if layout is not None and layout not in LAYOUT_NAMES:
        raise unknown("layout", layout, LAYOUT_NAMES)
    opens = partial(open_source, state=state)
    store = None if is_model(source, opens, ALL_KINDS) else opens(source, None)
    if store is not None and is_adapter(store):
        return (_convert_adapter(source, out, dtype, opens, force),)
    if layout is None:
        raise RequestError(
            "a model is written in a layout", "none", f"Give --layout: {', '.join(LAYOUT_NAMES)}."
        )
    model, parts = _understood(source, store, opens)
    goals = goals_of(layout, pooled=len(parts) == len(FOLDERS))
    jobs = [plan_conversion(part, goals[part.name], dtype) for part in parts]
    lone = out.suffix == ".safetensors"
    _check_shape(model, parts, layout, out)
    files: dict[str, list[Conversion]] = {}
    for job in jobs:
        files.setdefault(_place(job, out, model), []).append(job)
    words = _words(model, lone) if model and layout == JOINED else {}
    with writing(out):
        _refuse(out, lone, force, files)
        targets = [(out.parent if lone else out) / place for place in files]
        refuse_itself(targets, [job.part.store for job in jobs])
        return _write(files, words, out, model, goals)


def _check_shape(
    model: Checkpoint | None, parts: tuple[Component, ...], layout: str, out: Path
) -> None:
    """Refuse a model in one file of a component, and a component in a file of all."""
    if layout == JOINED and model is None:
        names = ", ".join(part.name for part in parts)
        raise RequestError(
            f"{JOINED} is a whole model in one file", f"{names} alone",
            "Name the folder of a model, or write a component as single-file.",
        )  # fmt: skip
    if layout != JOINED and model and out.suffix == ".safetensors":
        raise RequestError(
            "a model is written to a folder", f"{out}", f"Name a folder, or give --layout {JOINED}."
        )


def _words(model: Checkpoint, lone: bool) -> dict[str, bytes]:
    """The SentencePiece models that lie beside weights, by encoder.

    lone: whether nothing may lie beside what is written. Raises RequestError where one that has
    no such model is needed then.
    """
    words: dict[str, bytes] = {}
    for name, component in ENCODERS.items():
        if component not in {part.name for part in model.components}:
            continue
        found = model.tokenizer(name)
        home = found.parent if isinstance(found, Path) else None
        files = [home / each for each in FILES if each.endswith(".model")] if home else []
        file = next((each for each in files if each.is_file()), None)
        if file is not None:
            confine(file, file.parent)
            words[component] = file.read_bytes()
        elif home is not None and lone:
            raise RequestError(
                f"a lone file carries the tokenizer.model of its {component}", f"none in {home}",
                "Name a folder: the tokenizer is written beside the file there.",
            )  # fmt: skip
    return words


def _write(
    files: Mapping[str, list[Conversion]],
    words: Mapping[str, bytes],
    out: Path,
    model: Checkpoint | None,
    goals: Mapping[str, Goal],
) -> tuple[Written, ...]:
    """Write everything beside `out`, and install it."""
    lone = out.suffix == ".safetensors"
    out = out if lone else out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    _check_room(out.parent, [job for jobs in files.values() for job in jobs])
    staging = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        written = tuple(
            each
            for place, jobs in files.items()
            for each in write_conversions(jobs, staging, place, lone, words)
        )
        if model and not lone:
            _write_beside_weights(model, staging, goals)
        whole = (path for path in staging.rglob("*") if path.is_file())
        digests = {each.file: each.sha256 for each in written}
        write_manifest(staging, whole, digests, f"{out.stem}.{MANIFEST}" if lone else MANIFEST)
        os.chmod(staging, 0o755)
        if lone:
            _install_files(staging, out.parent)
        else:
            _install_folder(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return written


def _convert_adapter(
    source: Path, out: Path, dtype: str, opens: Opener, force: bool
) -> WrittenAdapter:
    if dtype != KEEP:
        raise RequestError("an adapter keeps its dtypes", f"{dtype}", "Leave out --dtype.")
    return convert_adapter(read_adapter(AdapterSpec(source), opens), out, force=force)


def _understood(
    source: Path, store: Store | None, opens: Opener
) -> tuple[Checkpoint | None, tuple[Component, ...]]:
    """A model and its components, or the one component that a store is."""
    found = () if store is None else components_of(store)
    if store is not None and len(found) == 1:
        return None, (understand(store, None, source),)
    # Of an all-in-one file every part is a part from elsewhere.
    model = _open_model(None if found else source, dict.fromkeys(found, source), opens)
    return model, model.components


def _open_model(path: Path | None, parts: Mapping[str, Path], opens: Opener) -> Checkpoint:
    """A model whose vocabulary and tokenizers are in order too, before anything is written."""
    model = open_checkpoint(path, parts, opens, ALL_KINDS)
    model.vocabulary()
    specs: tuple[GemmaSpec | JinaSpec | None, ...] = (model.spec.gemma, model.spec.jina)
    for name, spec in zip(ENCODERS, specs, strict=True):
        if spec is None:
            continue
        with contextlib.suppress(ModelNotFound):  # an encoder may go without
            check_tokenizer(Tokenizer.open(model.tokenizer(name)), spec)
    return model


def _place(job: Conversion, out: Path, model: Checkpoint | None) -> str:
    """The path of a component's file within what is written."""
    if out.suffix == ".safetensors":
        return out.name
    return job.goal.file if model else Path(job.goal.file).name


def _refuse(out: Path, lone: bool, force: bool, files: Collection[str]) -> None:
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


def _check_room(folder: Path, jobs: list[Conversion]) -> None:
    needed = sum(each.nbytes for job in jobs for each in job.promised.values())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RequestError(
            "a conversion fits on the disk",
            f"{needed:,} bytes to write, {free:,} free in {folder}",
            "Make room, or write elsewhere.",
        )


def _write_beside_weights(model: Checkpoint, staging: Path, goals: Mapping[str, Goal]) -> None:
    """Write what a model has besides weights: its index, its vocabulary, its tokenizers."""
    write_json(staging / INDEX, _index(model))
    if (model.path / VOCABULARY).is_file():
        write_json(staging / VOCABULARY, read_json(model.path / VOCABULARY, model.path))
    there = {part.name for part in model.components}
    for name, component in ENCODERS.items():
        if component not in there:
            continue
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


def _index(model: Checkpoint) -> dict[str, Any]:
    """The model_index.json of a model: our entry, with the defaults that its folder's name gave."""
    pooled = model.text_encoder_2 is not None
    index: dict[str, Any] = {"_class_name": PIPELINES[pooled]}
    ours = dict(model.index.ours)
    if model.spec.drawing != preset_of("", pooled).drawing:
        ours.setdefault("drawing", asdict(model.spec.drawing))
    return index | ({OURS: ours} if ours else {})


def _copy_tokenizer(home: Path, folder: Path) -> None:
    """Copy what tokenizes for an encoder, and what others read beside it."""
    for file in (home / each for each in TOKENIZER_FILES):
        if file.is_file():
            confine(file, home)
            shutil.copyfile(file, folder / file.name)


def _install_files(staging: Path, folder: Path) -> None:
    """Move files to their places, each at once; the manifest, which tells of the rest, last."""
    for file in sorted(staging.iterdir(), key=lambda file: file.name.endswith(MANIFEST)):
        os.replace(file, folder / file.name)


def _install_folder(staging: Path, out: Path) -> None:
    """Move a folder to its place, in one piece; what it replaces is there until then."""
    if not out.exists():
        os.rename(staging, out)
        return
    _carry_over(out, staging)
    old = staging.with_name(f"{staging.name}.old")
    os.rename(out, old)
    try:
        os.rename(staging, out)
    except BaseException:  # Ctrl-C too
        os.rename(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _carry_over(old: Path, new: Path) -> None:
    """Link what an old folder holds into the new one too, unless that has something of the name."""

    def taken(folder: str, names: list[str]) -> list[str]:
        there = new / Path(folder).relative_to(old)
        both = [name for name in names if os.path.lexists(there / name)]
        return [name for name in both if not _is_folder(Path(folder, name), there / name)]

    shutil.copytree(old, new, symlinks=True, ignore=taken, copy_function=_link, dirs_exist_ok=True)


def _is_folder(*places: Path) -> bool:
    return all(place.is_dir() and not place.is_symlink() for place in places)


def _link(source: str, target: str) -> None:
    """The same file under another name, or a copy where the disk has no such thing."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
