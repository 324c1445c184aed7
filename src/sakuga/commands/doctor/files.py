"""A model's folder, part by part: what is there, how it is named, whether every key fits.

Headers and small JSON files are read, no weight; nothing here needs torch.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from sakuga.checkpoint.fates import unbound
from sakuga.checkpoint.folder import (
    FOLDERS,
    Component,
    code_in,
    open_checkpoint,
    open_component,
    parts_in,
)
from sakuga.checkpoint.layouts.explanation import Explanation
from sakuga.commands.doctor.finding import Diagnosis, Report, Stage, green, red, refused, trouble
from sakuga.model.inventory import weights_of
from sakuga.printable import readable
from sakuga.weights.formats import Shape, scale_key
from sakuga.weights.shards import FROM_TORCH

PICKLES = (*FROM_TORCH, ".pkl", ".pickle")
MOST_ENTRIES = 10_000  # of a folder, in case it is somebody's home
SHOWN = 4

Components = Mapping[str, Component]


def parts(folder: Path) -> Stage[Components]:
    """Every component that can be understood, by name; a finding for each, and for the rest."""
    found: dict[str, Component] = {}
    places = parts_in(folder)
    for name in FOLDERS:
        if name not in places:
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


def whole(folder: Path, components: Components) -> Report:
    """What else lies in the folder, and, if every part could be opened, whether they fit.

    Raises SpecMismatch or CorruptFile where they do not.
    """
    yield strangers(folder)
    if len(components) == len(FOLDERS):
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
    return green(
        name, f"{explanation.match}; {bound} tensors bound{dropped}; {dtypes(component)}; "
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
    return red(
        name, f"no folder {' or '.join(FOLDERS[name])}, and no file that holds one, among "
        f"{some(there)} in {folder}", "Download what is missing, or name another folder."
    )  # fmt: skip


def strangers(folder: Path) -> Diagnosis:
    """Code and pickles that lie in a folder: usual in releases, and never opened."""
    pickles = [file for file in _walk(folder) if file.endswith(PICKLES)]
    groups = {"code": code_in(folder), "pickles": pickles}
    there = [f"{what} ({some(names)})" for what, names in groups.items() if names]
    if not there:
        return green("other files", "neither code nor pickles in the folder")
    return green("other files", f"never opened, never run: {', '.join(there)}")


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
