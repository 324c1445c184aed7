"""Adapters folded into a transformer's file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from sakuga.errors import BindError, OutputExists
from sakuga.weights.adapter_fit import WEIGHT, Change, Fit, fit_adapters, record, targets_of
from sakuga.weights.adapter_spec import AdapterSpec
from sakuga.weights.bind import read_piece, read_tensor
from sakuga.weights.checkpoint import Component, pieces_of
from sakuga.weights.formats import Stored, read_storage_metadata, scale_key
from sakuga.weights.layouts import Piece
from sakuga.weights.lora import read_delta, read_norm_delta
from sakuga.weights.quantise import DTYPES, dequantise, quantise
from sakuga.weights.save import write_atomically
from sakuga.weights.specs import config_of
from sakuga.weights.store import Store

MERGED_KEY = "sakuga.adapters"


@dataclass(frozen=True, slots=True)
class Base:
    """A transformer's file, understood: its pieces by our names, and what it stores quantised."""

    component: Component
    pieces: Mapping[str, Piece]
    stored: Mapping[str, Stored]

    @classmethod
    def of(cls, component: Component) -> Base:
        """Understand an opened component. Reads no tensor."""
        stored = read_storage_metadata(component.store.metadata)
        return cls(component, pieces_of(component), stored)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor by our name with its shape."""
        return {name: piece.shape for name, piece in self.pieces.items()}

    def read(self, name: str) -> Tensor:
        """One tensor, by our name, in float32."""
        return read_piece(self.component.store, self.pieces[name], self.stored, torch.float32)


def merge(
    component: Component,
    specs: Sequence[AdapterSpec],
    out: Path,
    *,
    partial: bool = False,
    force: bool = False,
) -> tuple[Fit, ...]:
    """Write a transformer's file anew with adapters folded in; give how they fit it.

    Names, order, dtypes and storage formats stay those of the file, shards become one. Sums
    are made in float32, one tensor at a time, and rounded once. The metadata holds the
    config, and names the adapters with their digests. Raises what `fit_adapters` raises,
    OutputExists, and BindError for a norm's bias, which has no place in the file.
    """
    refuse_existing(out, force=force)
    base = Base.of(component)
    fits = fit_adapters(specs, targets_of(base.shapes), partial=partial)
    names = [asdict(record(each, each.adapter.store.sha256())) for each in fits]
    config = {"config": json.dumps(config_of(component.spec))}
    metadata = config | component.store.metadata | {MERGED_KEY: json.dumps(names)}
    changed = Changed(base, fits)
    write_atomically(out, lambda file: _write(file, component.store, changed, metadata))
    return fits


class Changed:
    """The tensors of a file that adapters change, as they then are."""

    def __init__(self, base: Base, fits: Sequence[Fit]) -> None:
        self._base = base
        self._changes: dict[str, list[tuple[Change, Store]]] = {}
        for each in fits:
            for change in each.active:
                pair = (change, each.adapter.store)
                self._changes.setdefault(change.module + WEIGHT, []).append(pair)
        self._targets = {key: name for name in self._changes for key in base.pieces[name].sources}
        self._sources = {key: key for key in self._targets}
        self._sources |= {scale_key(key): key for key in self._targets if key in base.stored}
        self._waiting: dict[str, Tensor] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._sources

    def take(self, key: str) -> Tensor:
        """A changed tensor as the file stores it; of values and scales one brings the other."""
        if key in self._waiting:
            return self._waiting.pop(key)
        source = self._sources[key]
        values = self._summed(source)
        if source not in self._base.stored:
            return values.to(DTYPES[self._base.component.store.info(source).dtype])
        stored, scale = quantise(values, self._base.stored[source].form)
        assert scale is not None
        made = {source: stored, scale_key(source): scale}
        wanted = made.pop(key)
        self._waiting |= made
        return wanted

    def _summed(self, source: str) -> Tensor:
        """One tensor of the file in float32 with its share of the adapters' deltas."""
        store, name = self._base.component.store, self._targets[source]
        piece = self._base.pieces[name]
        values = read_tensor(store, source)
        if source in self._base.stored:
            each = self._base.stored[source]
            scale = read_tensor(store, scale_key(source))
            shape = each.shape or tuple(values.shape)
            values = dequantise(values, scale, each.form, shape, torch.float32)
        values = values.to(torch.float32, copy=True)
        start = sum(_rows(self._base, key) for key in piece.sources[: piece.sources.index(source)])
        values += self._delta(name)[start : start + len(values)].view(values.shape)
        return values

    def _delta(self, name: str) -> Tensor:
        """All that adapters add to one tensor of ours, in float32."""
        total = torch.zeros(self._base.pieces[name].shape)
        for change, store in self._changes[name]:
            if change.part.kind == "norm":
                delta = read_norm_delta(store, change)
                if delta.bias is not None:
                    raise BindError(
                        "a norm of a transformer's file has a weight alone",
                        f"a trained bias for {change.module!r} in {store.path}",
                        "Apply this adapter with --lora while drawing",
                    )
                total += delta.weight.float() * delta.scale
            else:
                total[slice(*(change.rows or (None, None)))] += read_delta(store, change).matrix()
        return total


def _rows(base: Base, key: str) -> int:
    """How many rows a tensor of the file has, as a tensor."""
    shape = base.stored[key].shape if key in base.stored else None
    return (shape or base.component.store.info(key).shape)[0]


def _write(file: Path, store: Store, changed: Changed, metadata: Mapping[str, str]) -> None:
    """Write a store again tensor by tensor, with some changed in value but not in form."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for key in store:
        info = store.info(key)
        offsets = [end, end := end + info.nbytes]
        header[key] = {"dtype": info.dtype, "shape": info.shape, "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that tensors lie aligned
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for key in store:
            if key in changed:
                stream.write(changed.take(key).contiguous().view(torch.uint8).numpy())
            else:
                stream.write(store.view(key))


def refuse_existing(path: Path, *, force: bool) -> None:
    """Refuse to write over a file unless told to, with OutputExists."""
    if path.exists() and not force:
        raise OutputExists(
            "a file is never overwritten unasked", str(path), "Use --force, or another name."
        )
