"""What a file of weights holds under our names, and the fate of each of its keys."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sakuga.checkpoint.families.detect import nearest, recognise
from sakuga.checkpoint.families.match import Explanation, Match, TensorPiece, explain, rewrite
from sakuga.errors import BindError
from sakuga.printable import listed
from sakuga.weights.formats import (
    TORCH_NAMES,
    UNREAD,
    Shape,
    StorageFormat,
    StoredTensor,
    is_packed,
    logical_shapes,
    read_storage_metadata,
    scale_key,
)
from sakuga.weights.store import Store
from sakuga.weights.translated import translated


@dataclass(frozen=True, slots=True)
class KeyFate:
    """What is done with one key of a file, and from what to what, or why.

    fate: bound | cast | baked | shifted | dequantised | quantised | scale | dropped.
    """

    key: str
    fate: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Every key of a file with its fate; `str` gives the printable form."""

    match: Match
    entries: tuple[KeyFate, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many keys met each fate."""
        return dict(Counter(entry.fate for entry in self.entries))

    @property
    def dropped(self) -> dict[str, str]:
        """The keys left out, with the reason."""
        return {entry.key: entry.detail for entry in self.entries if entry.fate == "dropped"}

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {fate}" for fate, count in self.counts.items())
        details = Counter((e.fate, e.detail) for e in self.entries if e.detail)
        first = {(e.fate, e.detail): e.key for e in reversed(self.entries)}
        lines = [f"{self.match}: {len(self.entries)} keys, {counts}"]
        for (fate, detail), count in details.items():
            more = f" and {count - 1} more" if count > 1 else ""
            lines.append(f"  {fate}: {first[fate, detail]!r}{more}: {detail}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Target:
    """What a tensor of ours is to be: the name of its dtype, and `form` where it stays stored."""

    dtype: str
    form: StorageFormat | None = None


def report(
    explanation: Explanation,
    found: Mapping[str, Shape],
    dtypes: Mapping[str, str],
    stored: Mapping[str, StoredTensor],
    targets: Mapping[str, Target],
) -> Report:
    """The fate of every key of a file whose keys are all explained.

    found: its names and shapes, quantised tensors and their scales taken as one. dtypes: the
    safetensors names of its dtypes. targets: by our names. Raises BindError where numbers of
    one kind would become those of another.
    """
    reasons = dict(explanation.dropped)
    pieces = {key: piece for piece in explanation.pieces for key in piece.sources}
    entries = []
    for key in found:
        if key in reasons:
            entries.append(KeyFate(key, "dropped", reasons[key]))
            continue
        piece = pieces[key]
        entry = _entry(dtypes[key], key, stored.get(key), targets[piece.target])
        if piece.adapter is not None:
            entry = KeyFate(key, "baked", f"adapter at scale {piece.adapter.scale:g}")
        if piece.shift:
            entry = KeyFate(key, "shifted", f"{piece.shift:+g}")
        entries.append(entry)
    entries.extend(KeyFate(scale_key(key), "scale") for key in stored)
    return Report(explanation.match, tuple(entries))


def unbound(explanation: Explanation, source: Path) -> BindError:
    """The error for keys that are missing, left over, or of another shape."""
    names = [*explanation.missing, *(piece.target for piece in explanation.pieces)]
    problems = []
    if explanation.missing:
        problems.append(f"missing {listed(explanation.missing)}")
    if explanation.unexpected:
        hints = (_hint(explanation.match, key, names) for key in explanation.unexpected)
        problems.append(f"unexpected {listed(explanation.unexpected, hints)}")
    if explanation.wrong:
        hints = (f" is {got}, not {want}" for _, got, want in explanation.wrong)
        problems.append(f"wrong shapes: {listed([key for key, *_ in explanation.wrong], hints)}")
    return BindError(
        "every key of a file fills the model or is dropped for a stated reason",
        f"{'; '.join(problems)} in {source} ({explanation.match})",
        "Check that the file is complete and belongs to this model",
    )


def gathered(beside: Mapping[str, str]) -> Iterator[str]:
    """What else lies in a file, with the reason; names that differ by numbers share a line."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, reason in beside.items():
        groups.setdefault((re.sub("[0-9]+", "*", name), reason), []).append(name)
    for (pattern, reason), (first, *rest) in groups.items():
        name = f"{pattern} ({len(rest) + 1} such)" if rest else first
        yield f"{name}: {reason}"


def _entry(dtype: str, key: str, stored: StoredTensor | None, target: Target) -> KeyFate:
    """What becomes of one key that fills a tensor of ours."""
    keeps = target.form is not None and target.form.quantised
    goal = target.form.name if target.form is not None else target.dtype
    if is_packed(dtype):
        return KeyFate(key, "quantised" if keeps else "dequantised", f"{dtype} to {goal}")
    if stored is None and _is_float(TORCH_NAMES[dtype]) != (keeps or _is_float(target.dtype)):
        raise BindError(
            "only numbers of one kind are cast into each other",
            f"{dtype} for a tensor of {goal}: {key!r}",
            "Convert the file again; quantised weights need their scales named",
        )
    source = stored.form.name if stored is not None else TORCH_NAMES[dtype]
    if source == goal:
        return KeyFate(key, "bound", f"{goal} as stored" if keeps else "")
    fate = "quantised" if keeps else "cast" if stored is None else "dequantised"
    return KeyFate(key, fate, f"{source} to {goal}")


def _is_float(dtype: str) -> bool:
    return "float" in dtype


def _hint(match: Match, key: str, names: list[str]) -> str:
    near = nearest(key.removeprefix(match.prefix), names)
    return f" (nearest: {near!r})" if near else ""


@dataclass(frozen=True, slots=True)
class Contents:
    """A store whose tensors are understood.

    match: how it names them. stored: those that it keeps quantised, by its names. shapes: of all,
    by its names, a quantised tensor and its scales taken as one. pieces: how each tensor of ours
    is made of them, by our names.
    """

    store: Store
    match: Match
    stored: Mapping[str, StoredTensor]
    shapes: Mapping[str, Shape]
    pieces: Mapping[str, TensorPiece]

    @classmethod
    def of(cls, store: Store, match: Match | None = None) -> Contents:
        """Understand a store by its header. match: by default what its names and shapes tell.

        Raises LayoutError where the layout is unknown, CorruptFile where quantised tensors and
        their scales contradict each other.
        """
        store = translated(store)
        stored, shapes = read_shapes(store)
        match = match or recognise(shapes)
        return cls(store, match, stored, shapes, made_of(match, shapes))

    def explain(self, wanted: Mapping[str, Shape]) -> Explanation:
        """Account for every key against the tensors that a model wants, by our names.

        Raises BindError where one of them is of a dtype that nothing here reads.
        """
        told = explain(self.match, self.pieces.values(), self.shapes, wanted)
        sources = [key for piece in told.pieces for key in piece.sources]
        unread = {key: self.store.info(key).dtype for key in sources}
        unread = {key: dtype for key, dtype in unread.items() if dtype in UNREAD}
        if unread:
            raise BindError(
                f"{next(iter(unread.values()))} is not read",
                f"{listed(list(unread))} of {self.store.path}",
                "Take the model in another dtype, such as bfloat16",
            )
        return told


def read_shapes(store: Store) -> tuple[dict[str, StoredTensor], dict[str, Shape]]:
    """The quantised tensors of a store, and the shapes of all, by its names.

    Raises CorruptFile where quantised tensors and their scales contradict each other.
    """
    stored = read_storage_metadata(store.metadata)
    return stored, logical_shapes(store.shapes(), store.dtypes(), stored)


def made_of(match: Match, shapes: Mapping[str, Shape]) -> dict[str, TensorPiece]:
    """How each tensor of ours, by our names, is made of those of a file."""
    pieces, _ = rewrite(match, shapes)
    return {piece.target: piece for piece in pieces}
