"""The `inspect` command behind its flags: what a file or model holds, key by key, unloaded."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sakuga.api.codec import plain, unknown
from sakuga.checkpoint.contents import Target, gathered, read_shapes, report, unbound
from sakuga.checkpoint.families.detect import recognise
from sakuga.checkpoint.families.match import Match
from sakuga.checkpoint.folder import Component, code_in, understand
from sakuga.checkpoint.parts import find_parts, is_model
from sakuga.errors import WeightsError
from sakuga.model.inventory import weights_of
from sakuga.printable import readable, shown
from sakuga.weights.formats import FLOATS, KEEP, TORCH_NAMES, StoredTensor, plain_dtype
from sakuga.weights.sources import open_source
from sakuga.weights.store import Store
from sakuga.weights.translated import told, translated


@dataclass(frozen=True, slots=True)
class Key:
    """One tensor of a file and its fate; `into`: the tensors of ours that it fills.

    fate: as in `checkpoint.contents`, or unknown where the file is not understood.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    fate: str
    detail: str = ""
    into: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inspected:
    """What one component's file says; `problem` is why it cannot be used, None if it can.

    quantised: how other programs keep weights of the file, and what these are here.
    beside: what else the file holds, with the reason why it is no weight. unread: code in its
    folder, or that its config asks for, which nothing here reads or runs.
    """

    path: str
    component: str | None
    layout: str | None
    prefix: str
    bytes: int
    dtypes: dict[str, int]
    fates: dict[str, int]
    provisional: tuple[str, ...]
    spec: dict[str, Any] | None
    problem: str | None
    quantised: tuple[str, ...]
    beside: dict[str, str]
    unread: tuple[str, ...]
    keys: tuple[Key, ...]


def inspect(path: Path, dtype: str = KEEP, state: str | None = None) -> tuple[Inspected, ...]:
    """Look at a file, at a component's folder, or at every component of a model's.

    dtype: what floats would become; keep for what they are. state: as `open_archive` takes it.
    Reads headers and configs alone.
    Raises ModelNotFound where there is nothing, CorruptFile where a header cannot be trusted.
    """
    if dtype not in (KEEP, *FLOATS):
        raise unknown("dtype", dtype, (KEEP, *FLOATS))
    if not is_model(path):
        return (_inspect(open_source(path, state=state), None, path, path, dtype),)
    return tuple(
        _inspect(open_source(place, path, state), name, place, path, dtype)
        for name, place in find_parts(path).items()
    )


def _inspect(store: Store, name: str | None, place: Path, root: Path, dtype: str) -> Inspected:
    match, part, problem = None, None, None
    unread: tuple[str, ...] = ()
    keys = tuple(_key(store, key, "unknown") for key in store)
    try:
        part = understand(store, name, place, root if root.is_dir() else root.parent)
        match, store = part.match, part.store
        keys, problem = _fates(part, dtype)
        unread = code_in(place)
    except WeightsError as error:
        problem = str(error)
        with suppress(WeightsError):
            match = match or recognise(read_shapes(translated(store))[1], name)
    return Inspected(
        path=str(place),
        component=match.layout.component if match else None,
        layout=match.layout.name if match else None,
        prefix=match.prefix if match else "",
        bytes=sum(key.bytes for key in keys),
        dtypes=dict(Counter(key.dtype for key in keys)),
        fates=dict(Counter(key.fate for key in keys)),
        provisional=_provisional(match, store) if match else (),
        spec=asdict(part.spec) if part else None,
        problem=problem,
        quantised=tuple(told(store)),
        beside=store.dropped,
        unread=unread,
        keys=keys,
    )


def _provisional(match: Match, store: Store) -> tuple[str, ...]:
    """The names in a file that no published one confirms."""
    theirs = {ours: name for name, ours in match.aliases}
    names = (match.prefix + theirs.get(name, name) for name in match.layout.provisional)
    return tuple(name for name in names if name in store)


def _key(store: Store, key: str, fate: str, detail: str = "", into: tuple[str, ...] = ()) -> Key:
    info = store.info(key)
    return Key(key, info.dtype, info.shape, info.nbytes, fate, detail, into)


def _fates(part: Component, dtype: str) -> tuple[tuple[Key, ...], str | None]:
    """Every key with its fate, and what is wrong where the file does not fill its model."""
    store, stored = part.store, part.stored
    wanted = {weight.key: weight.shape for weight in weights_of(part.spec)}
    told = part.explain(wanted)
    into: dict[str, list[str]] = {}
    for piece in told.pieces:
        for key in piece.sources:
            into.setdefault(key, []).append(piece.target)
    if not told.complete:
        wrong = {target for target, *_ in told.wrong}
        fates = {key: ("dropped", reason) for key, reason in told.dropped}
        fates |= dict.fromkeys(told.unexpected, ("unexpected", ""))
        for key, filled in into.items():
            fates[key] = ("wrong shape", "") if wrong & set(filled) else ("fits", "")
        problem = str(unbound(told, store.path))
    else:
        targets = {
            piece.target: Target(_goal(piece.sources, store, stored, dtype))
            for piece in told.pieces
        }
        entries = report(told, part.shapes, store.dtypes(), stored, targets).entries
        fates = {entry.key: (entry.fate, entry.detail) for entry in entries}
        problem = None
    keys = tuple(
        _key(store, key, *fates.get(key, ("scale", "")), tuple(into.get(key, ()))) for key in store
    )
    return keys, problem


def _goal(
    sources: tuple[str, ...], store: Store, stored: Mapping[str, StoredTensor], dtype: str
) -> str:
    """The dtype that a tensor becomes; float32 where it has to be unfolded and none is given."""
    if dtype != KEEP:
        return dtype
    return TORCH_NAMES["F32" if sources[0] in stored else plain_dtype(store.info(sources[0]).dtype)]


def as_json(found: tuple[Inspected, ...]) -> str:
    """What was found, for programs."""
    return json.dumps([plain(each) for each in found], indent=2)


def describe_file(found: Inspected) -> Iterator[str]:
    """What one file says, for people; tensors that differ by a number share a line."""
    yield from map(shown, _lines(found))


def _lines(found: Inspected) -> Iterator[str]:
    what = found.component or "not understood"
    yield f"{found.path}: {what}, {len(found.keys)} tensors, {readable(found.bytes)}"
    if found.layout:
        under = f" under {found.prefix!r}" if found.prefix else ""
        yield f"  layout  {found.layout}{under}"
    if found.provisional:
        yield f"  note    no published file confirms the names of {', '.join(found.provisional)}"
    yield f"  dtypes  {_counted(found.dtypes)}"
    for line in found.quantised:
        yield f"  kept    {line}"
    if found.spec:
        yield "  spec    " + ", ".join(f"{name} {value}" for name, value in found.spec.items())
    yield f"  keys    {_counted(found.fates)}"
    yield from _table(found.keys)
    for line in gathered(found.beside):
        yield f"  beside  {line}"
    for name in found.unread:
        yield f"  unread  {name}: code, which is never read or run"
    if found.problem:
        yield f"  problem {found.problem}"


def _table(keys: tuple[Key, ...]) -> Iterator[str]:
    """A line for every key, or for those that differ by a number in their names alone."""
    groups: dict[tuple[str, ...], list[Key]] = {}
    for key in keys:
        pattern = re.sub(r"(?<=\.)\d+(?=\.)", "*", key.name)
        alike = pattern, key.fate, key.dtype, str(key.shape), key.detail
        groups.setdefault(alike, []).append(key)
    width = max((len(key.fate) for key in keys), default=0)
    for (pattern, *_), (first, *rest) in groups.items():
        name = f"{pattern} ({len(rest) + 1} such)" if rest else first.name
        shape = "x".join(map(str, first.shape)) or "scalar"
        why = f": {first.detail}" if first.detail else ""
        yield f"    {first.fate:{width}}  {first.dtype:4}  {shape:16}  {name}{why}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
