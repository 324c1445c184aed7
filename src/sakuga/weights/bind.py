"""Fills a module from a store, with every key of the file accounted for.

`plan` explains the keys from headers alone; `bind` does what the plan says. A key is
bound as it is, cast, dequantised, or dropped for a stated reason; anything else is a
BindError that lists it. There is no loose mode.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sakuga.errors import BindError
from sakuga.weights.formats import (
    StorageFormat,
    logical_shapes,
    read_storage_metadata,
    scale_key,
)
from sakuga.weights.int8 import dequantise
from sakuga.weights.layouts import Explanation, Match, Piece, detect, explain, nearest
from sakuga.weights.store import Store, TensorInfo

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "U16": torch.uint16,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "F32": torch.float32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F64": torch.float64,
}
SHOWN = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one key of the file: its fate, and the detail worth telling.

    fate: bound | cast | dequantised | scale | dropped.
    """

    key: str
    fate: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Every key of a file with its fate; `str` gives the printable form."""

    match: Match
    entries: tuple[Entry, ...]

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
class Plan:
    """How a module would be filled, decided from headers alone."""

    explanation: Explanation
    formats: Mapping[str, StorageFormat]
    report: Report


def plan(
    module: nn.Module,
    store: Store,
    *,
    match: Match | None = None,
    dtype: torch.dtype | None = None,
) -> Plan:
    """Explain every key of `store` against `module`, without reading a weight.

    match: the layout, by default the one the keys tell. dtype: what floats become, by
    default what the module has. Raises BindError listing what is missing, left over or of
    another shape, LayoutError where the layout is unknown.
    """
    formats = read_storage_metadata(store.metadata)
    found = logical_shapes(store.shapes(), store.dtypes(), formats)
    match = match or detect(found)
    wanted = module.state_dict()
    explanation = explain(match, found, {key: tuple(value.shape) for key, value in wanted.items()})
    if not explanation.complete:
        raise _unbound(explanation, store)
    reasons = dict(explanation.dropped)
    targets = {key: piece.target for piece in explanation.pieces for key in piece.sources}
    entries = []
    for key in found:
        if key in reasons:
            entries.append(Entry(key, "dropped", reasons[key]))
        else:
            to = dtype_of(wanted[targets[key]], dtype)
            entries.append(_entry(store.info(key), key, formats.get(key), to))
    entries.extend(Entry(scale_key(key), "scale") for key in formats)
    return Plan(explanation, formats, Report(match, tuple(entries)))


def bind(
    module: nn.Module,
    store: Store,
    *,
    match: Match | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> Report:
    """Fill `module`, usually built on the meta device, and say what became of every key.

    dtype: what floats become, by default what the module has. On the CPU, weights that
    need no change stay views of the mapped file: read when first touched, shared between
    processes, never written back. Buffers outside the state dict must be real already.
    Raises as `plan` does, before any weight is read.
    """
    _refuse_empty_buffers(module)
    todo = plan(module, store, match=match, dtype=dtype)
    wanted = module.state_dict()
    filled = {
        piece.target: read_piece(
            store, piece, todo.formats, dtype_of(wanted[piece.target], dtype)
        ).to(device)
        for piece in todo.explanation.pieces
    }
    module.load_state_dict(filled, strict=True, assign=True)
    return todo.report


def read_tensor(store: Store, key: str) -> Tensor:
    """One tensor as stored: a view of the mapped file where memory alignment allows."""
    info = store.info(key)
    dtype = DTYPES[info.dtype]
    if not info.nbytes:
        return torch.empty(info.shape, dtype=dtype)
    view: memoryview | bytearray = store.view(key)
    if info.start % dtype.itemsize:
        view = bytearray(view)
    return torch.frombuffer(view, dtype=dtype).view(info.shape)


def read_piece(
    store: Store, piece: Piece, formats: Mapping[str, StorageFormat], dtype: torch.dtype
) -> Tensor:
    """One tensor of ours, in `dtype`, from the file's: joined, cut, dequantised, cast."""
    parts = []
    for key in piece.sources:
        part = read_tensor(store, key)
        if key in formats:
            part = dequantise(part, read_tensor(store, scale_key(key)), dtype)
        parts.append(part.to(dtype))
    whole = parts[0] if len(parts) == 1 else torch.cat(parts)
    return whole if piece.rows is None else whole[slice(*piece.rows)]


def dtype_of(wanted: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    """What a tensor of the module becomes: `dtype` for floats, its own for the rest."""
    return dtype if dtype is not None and wanted.is_floating_point() else wanted.dtype


def _entry(info: TensorInfo, key: str, form: StorageFormat | None, to: torch.dtype) -> Entry:
    target = str(to).removeprefix("torch.")
    if form is not None:
        return Entry(key, "dequantised", f"{form.name} to {target}")
    stored = DTYPES[info.dtype]
    if stored == to:
        return Entry(key, "bound")
    if stored.is_floating_point != to.is_floating_point:
        raise BindError(
            "only numbers of one kind are cast into each other",
            f"{info.dtype} for a tensor of {target}: {key!r}",
            "Convert the file again; quantised weights need their scales named",
        )
    return Entry(key, "cast", f"{str(stored).removeprefix('torch.')} to {target}")


def _refuse_empty_buffers(module: nn.Module) -> None:
    """Whatever no file holds must have been computed when the module was built."""
    stored = module.state_dict().keys()
    empty = [key for key, value in module.named_buffers() if value.is_meta and key not in stored]
    if empty:
        raise BindError(
            "buffers that no file holds are computed when a module is built",
            f"empty ones: {_list(empty)}",
            "Build the module so that these buffers are real, or are none",
        )


def _unbound(explanation: Explanation, store: Store) -> BindError:
    names = [*explanation.missing, *(piece.target for piece in explanation.pieces)]
    problems = []
    if explanation.missing:
        problems.append(f"missing {_list(explanation.missing)}")
    if explanation.unexpected:
        hints = [_hint(explanation.match, key, names) for key in explanation.unexpected[:SHOWN]]
        problems.append(f"unexpected {_list(explanation.unexpected, hints)}")
    if explanation.wrong:
        hints = [f" is {got}, not {want}" for _, got, want in explanation.wrong[:SHOWN]]
        problems.append(f"wrong shapes: {_list([key for key, *_ in explanation.wrong], hints)}")
    return BindError(
        "every key of a file fills the model or is dropped for a stated reason",
        f"{'; '.join(problems)} in {store.path} ({explanation.match})",
        "Check that the file is complete and belongs to this model",
    )


def _hint(match: Match, key: str, names: list[str]) -> str:
    near = nearest(key.removeprefix(match.prefix), names)
    return f" (nearest: {near!r})" if near else ""


def _list(keys: tuple[str, ...] | list[str], hints: list[str] | None = None) -> str:
    shown = keys[:SHOWN]
    texts = [repr(key) + hint for key, hint in zip(shown, hints or [""] * len(shown), strict=True)]
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(texts) + more
