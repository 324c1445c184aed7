"""Adapters folded into a transformer's file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from sakuga.errors import BindError, OutputExists
from sakuga.memory.adapted import transformer_targets
from sakuga.weights.adapter_fit import WEIGHT, Change, Fit, fit_adapters, record
from sakuga.weights.adapter_spec import AdapterSpec
from sakuga.weights.bind import read_piece, read_tensor
from sakuga.weights.checkpoint import Component, pieces_of
from sakuga.weights.formats import Stored, read_storage_metadata, scale_key
from sakuga.weights.gguf import BLOCKS, plain_dtype
from sakuga.weights.layouts import Piece
from sakuga.weights.lora import read_delta, read_norm_delta
from sakuga.weights.quantise import DTYPES, dequantise, quantise
from sakuga.weights.specs import config_of
from sakuga.weights.store import Store
from sakuga.weights.writer import Promised, write_tensors

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

    Names, dtypes and storage formats stay those of the file, but that GGUF's blocks become
    float32; shards become one. Sums are made in float32, one tensor at a time, and rounded
    once. The metadata holds the config, and names the adapters with their digests. Raises what
    `fit_adapters` raises, OutputExists, and BindError for a norm's bias, which has no place in
    the file.
    """
    refuse_existing(out, force=force)
    base = Base.of(component)
    fits = fit_adapters(specs, transformer_targets(component.spec), partial=partial)
    names = [asdict(record(each)) for each in fits]
    config = {"config": json.dumps(config_of(component.spec))}
    metadata = config | component.store.metadata | {MERGED_KEY: json.dumps(names)}
    changed = Changed(base, fits)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as staging:
        draft = Path(staging) / out.name
        write_tensors(draft, _promised(component.store), metadata, changed.read)
        os.replace(draft, out)
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

    def read(self, key: str) -> tuple[memoryview]:
        """The bytes of any tensor of the file, as they then are."""
        store = self._base.component.store
        if key not in self._sources and store.info(key).dtype not in BLOCKS:
            return (store.view(key),)
        if key not in self._sources:
            return (memoryview(read_tensor(store, key).view(torch.uint8).numpy()),)
        # Of a quantised tensor values and scales are asked for far apart: made twice, never kept.
        value = self._stored(self._sources[key])[key]
        return (memoryview(value.contiguous().view(torch.uint8).numpy()),)

    def _stored(self, source: str) -> dict[str, Tensor]:
        """A changed tensor as the file stores it; where it is quantised, with its scales."""
        values = self._summed(source)
        if source not in self._base.stored:
            dtype = plain_dtype(self._base.component.store.info(source).dtype)
            return {source: values.to(DTYPES[dtype])}
        stored, scale = quantise(values, self._base.stored[source].form)
        assert scale is not None
        return {source: stored, scale_key(source): scale}

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
        for change, adapter in self._changes[name]:
            first, last = change.rows or (0, piece.shape[0])
            low, high = max(start, first), min(start + len(values), last)
            if low < high:
                delta = _delta(change, adapter)[low - first : high - first]
                values[low - start : high - start] += delta
        return values


def _delta(change: Change, store: Store) -> Tensor:
    """What an adapter adds to the rows it changes, in float32."""
    if change.part.kind != "norm":
        return read_delta(store, change).matrix()
    delta = read_norm_delta(store, change)
    if delta.bias is not None:
        raise BindError(
            "a norm of a transformer's file has a weight alone",
            f"a trained bias for {change.module!r} in {store.path}",
            "Apply this adapter with --lora while drawing",
        )
    return delta.weight.float() * delta.scale


def _rows(base: Base, key: str) -> int:
    """How many rows a tensor of the file has, as a tensor."""
    shape = base.stored[key].shape if key in base.stored else None
    return (shape or base.component.store.info(key).shape)[0]


def _promised(store: Store) -> dict[str, Promised]:
    """The tensors of a store in form; GGUF's blocks in float32, which holds what they hold."""
    infos = {key: store.info(key) for key in store}
    return {key: Promised(plain_dtype(info.dtype), info.shape) for key, info in infos.items()}


def refuse_existing(path: Path, *, force: bool) -> None:
    """Refuse to write over a file unless told to, with OutputExists."""
    if path.exists() and not force:
        raise OutputExists(
            "a file is never overwritten unasked", str(path), "Use --force, or another name."
        )
