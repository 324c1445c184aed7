"""A model's folder, part by part: what is there, how it is named, whether every key fits.

Headers and small JSON files are read, no weight; nothing here needs torch.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from sakuga.adapters.file import PEFT_FILE, is_adapter, read_adapter
from sakuga.adapters.kinds import BY_NAME
from sakuga.adapters.spec import AdapterSpec
from sakuga.checkpoint.contents import unbound
from sakuga.checkpoint.families.match import Explanation
from sakuga.checkpoint.folder import Component, code_in, open_checkpoint, open_component
from sakuga.checkpoint.hub import stored_digest
from sakuga.checkpoint.manifest import MANIFEST, read_manifest
from sakuga.checkpoint.parts import FOLDERS, SECOND, advice, archives_in, parts_in
from sakuga.commands.doctor.finding import (
    Diagnoses,
    Diagnosis,
    Examination,
    green,
    red,
    refused,
    trouble,
    yellow,
)
from sakuga.errors import LayoutError, SakugaError
from sakuga.model.inventory import weights_of
from sakuga.model.spec import TRANSFORMER
from sakuga.printable import readable
from sakuga.weights.formats import Shape, scale_key
from sakuga.weights.sha256 import hash_file
from sakuga.weights.shards import FROM_TORCH
from sakuga.weights.store import Store
from sakuga.weights.translated import told
from sakuga.weights.untrusted import confine

FIX = "Download or convert the file again."
DOWNLOAD = "Download what is missing, or name another folder."

PICKLES = (*FROM_TORCH, ".pkl", ".pickle")
MOST_ENTRIES = 10_000  # of a folder, in case it is somebody's home
SHOWN = 4
Components = Mapping[str, Component]


def digests(folder: Path, components: Components) -> Diagnoses:
    """Compare files with the manifest, or with what the cache of the hub calls them."""
    manifest = read_manifest(folder)
    promised = {} if manifest is None else {
        folder / name: promise.sha256 for name, promise in manifest.files.items()
    }  # fmt: skip
    weights = [file for component in components.values() for file in component.store.files]
    for file in (*weights, *_linked(folder)):
        if file not in promised and (digest := stored_digest(file)):
            promised[file] = digest
    right, size = 0, 0
    for file, digest in promised.items():
        name = file.relative_to(folder).as_posix()
        if not file.is_file():
            yield red("hashes", f"{name} is missing, which {MANIFEST} promises", FIX)
            continue
        confine(file, folder)
        got = hash_file(file) if len(digest) == 64 else _git_digest(file)
        if got != digest:
            yield red("hashes", f"{name} is {got[:16]}..., promised as {digest[:16]}...", FIX)
            continue
        right, size = right + 1, size + file.stat().st_size
    if right:
        yield green("hashes", f"{right} files are as promised, {readable(size)}")
    unknown = [file for file in weights if file not in promised]
    if unknown:
        found = some([f"{file.parent.name}/{file.name} {hash_file(file)}" for file in unknown])
        fix = f"Compare them by hand; `sakuga convert` writes a {MANIFEST} to compare with later."
        yield yellow("hashes", f"nothing says what to expect of {found}", fix)


def _linked(folder: Path) -> list[Path]:
    """The small files of a snapshot in the hub's cache."""
    return sorted(file for file in folder.glob("**/*.json") if file.is_symlink())


def _git_digest(file: Path) -> str:
    """The SHA-1 by which git, and the hub's cache, name a small file."""
    data = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def parts(folder: Path) -> Examination[Components]:
    """Every component that can be understood, by name; a finding for each, and for the rest."""
    found: dict[str, Component] = {}
    places = parts_in(folder)
    for name in FOLDERS:
        if name not in places:
            if name != SECOND or reads_second(found):
                yield absent(folder, name)
            continue
        try:
            component = open_component(places[name], name, folder)
            explanation = explained(component)
        except Exception as error:  # whatever a file does, the next one is looked at
            yield trouble(name, error)
            continue
        yield keys(component, explanation)
        if explanation.complete:
            found[name] = component
    return found


def reads_second(components: Components) -> bool:
    """Whether a second text encoder is read; a transformer that nobody understands may want it."""
    transformer = components.get(TRANSFORMER.name)
    return transformer is None or bool(transformer.spec.clip_text_dim)


def whole(folder: Path, components: Components) -> Diagnoses:
    """What else lies in the folder, and, if every part could be opened, whether they fit.

    Raises SpecMismatch or CorruptFile where they do not.
    """
    yield strangers(folder)
    yield from adapters(folder)
    if len(components) == len(FOLDERS) - (not reads_second(components)):
        checkpoint = open_checkpoint(folder)
        checkpoint.vocabulary()
        size = sum(file.stat().st_size for part in components.values() for file in part.store.files)
        yield green("model", f"{checkpoint.spec.name}: its parts fit together, {readable(size)}")


def explained(component: Component) -> Explanation:
    """Every key of a component's file against the tensors that its spec asks for."""
    return component.explain(wanted(component))


def wanted(component: Component) -> dict[str, Shape]:
    """Names and shapes of the tensors that a component's spec asks for."""
    return {weight.key: weight.shape for weight in weights_of(component.spec)}


def keys(component: Component, explanation: Explanation) -> Diagnosis:
    """The key report of one component, in a line."""
    store, name = component.store, component.name
    if not explanation.complete:
        return refused(name, unbound(explanation, store.path))
    bound = len(explanation.pieces)
    reasons = Counter(reason for _, reason in explanation.dropped)
    dropped = "".join(f", {count} left out ({why})" for why, count in reasons.items())
    size = sum(file.stat().st_size for file in store.files)
    kinds = ", ".join((dtypes(component), *told(store)))
    return green(
        name, f"{explanation.match}; {bound} tensors bound{dropped}; {kinds}; "
        f"{readable(size)} in {some([file.name for file in store.files])}",
    )  # fmt: skip


def dtypes(component: Component) -> str:
    """How the tensors of a file are stored: "39 bfloat16, 12 int8"."""
    stored = component.stored
    scales = {scale_key(key) for key in stored}
    counts = Counter(
        stored[key].form.name if key in stored else dtype
        for key, dtype in component.store.dtypes().items()
        if key not in scales
    )
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def absent(folder: Path, name: str) -> Diagnosis:
    """A component that is not there."""
    there = sorted(entry.name for entry in folder.iterdir()) or ["nothing"]
    fix = f"{advice(folder)}." if archives_in(folder) else DOWNLOAD
    return red(
        name, f"no folder {' or '.join(FOLDERS[name])}, and no file that holds one, among "
        f"{some(there)} in {folder}", fix
    )  # fmt: skip


def strangers(folder: Path) -> Diagnosis:
    """Code and pickles that lie in a folder: usual in releases, and never opened."""
    pickles = [file for file in _walk(folder) if file.endswith(PICKLES)]
    groups = {"code": code_in(folder), "pickles": pickles}
    there = [f"{what} ({some(names)})" for what, names in groups.items() if names]
    if not there:
        return green("other files", "neither code nor pickles in the folder")
    return green("other files", f"never opened, never run: {', '.join(there)}")


def adapters(folder: Path) -> Diagnoses:
    """Adapters that lie in a folder, and of which kinds they are; no finding for what is none."""
    for name in _walk(folder):
        file = folder / name
        try:
            confine(file, folder)
            if not name.endswith(".safetensors") or not is_adapter(Store.open(file)):
                continue
            known = file.parent if file.name == PEFT_FILE else file  # with the config beside it
            parts = read_adapter(AdapterSpec(known)).parts
        except LayoutError as error:
            yield yellow(f"adapter {name}", f"not read: {error.got}", error.fix)
        except (SakugaError, OSError):
            continue  # what is damaged says who opens it as what it should be
        else:
            kinds = Counter(BY_NAME[part.kind].title for part in parts)
            told = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            yield green(f"adapter {name}", told)


def some(names: Collection[str]) -> str:
    """The first of many names, and how many more there are."""
    shown = ", ".join(list(names)[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _walk(folder: Path) -> Iterator[str]:
    """Paths of files below a folder, relative to it; links to folders are not followed."""
    left = MOST_ENTRIES
    for place, _, names in os.walk(folder):
        for name in sorted(names)[:left]:
            yield (Path(place) / name).relative_to(folder).as_posix()
        left -= len(names)
        if left <= 0:
            return
