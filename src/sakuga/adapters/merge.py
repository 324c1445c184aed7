"""Adapters folded into a transformer's file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from sakuga.adapters.apply import read_change, read_norm_change
from sakuga.adapters.fit import BIAS, WEIGHT, Change, Fit, fit_adapters, record, transformer_targets
from sakuga.adapters.spec import AdapterSpec
from sakuga.checkpoint.bind import read_piece, read_tensor
from sakuga.checkpoint.families.match import TensorPiece
from sakuga.checkpoint.families.tables import config_of
from sakuga.checkpoint.folder import Component
from sakuga.checkpoint.save import bytes_of, refuse_itself, write_weights, writing
from sakuga.errors import BindError, RequestError
from sakuga.files.atomic import refuse_existing
from sakuga.weights.formats import (
    FLOAT_DTYPES,
    ITEMSIZE,
    STORAGE_KEY,
    TORCH_NAMES,
    StoredTensor,
    is_packed,
    plain_dtype,
    scale_key,
    storage_metadata,
)
from sakuga.weights.quantise import TORCH_DTYPES, dequantise
from sakuga.weights.store import Store
from sakuga.weights.writer import Promised, write_tensors

MERGED_KEY = "sakuga.adapters"
# Those that hold a sum as well as they hold its terms.
WIDE_FLOATS = frozenset(name for name in FLOAT_DTYPES if ITEMSIZE[name] > 1)


@dataclass(frozen=True, slots=True)
class Base:
    """A transformer's file, read by our names as well as by its own."""

    component: Component

    @property
    def pieces(self) -> Mapping[str, TensorPiece]:
        """How each tensor of ours, by our names, is made of the file's."""
        return self.component.pieces

    @property
    def stored(self) -> Mapping[str, StoredTensor]:
        """What the file keeps quantised, by its names."""
        return self.component.stored

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor by our name with its shape."""
        return {name: piece.shape for name, piece in self.pieces.items()}

    @property
    def wide(self) -> str:
        """The widest dtype of the floats that the file does not quantise, by its header's name."""
        quantised = {*self.stored, *map(scale_key, self.stored)}
        dtypes = self.component.store.dtypes()
        found = {dtype for key, dtype in dtypes.items() if key not in quantised}
        return max(sorted(found.intersection(WIDE_FLOATS)), key=ITEMSIZE.__getitem__, default="F32")

    def shape_of(self, key: str) -> tuple[int, ...]:
        """The shape of a tensor of the file, as a tensor."""
        shape = self.stored[key].shape if key in self.stored else None
        return shape or self.component.store.info(key).shape

    def spans(self, name: str) -> Iterator[tuple[str, int, int]]:
        """The tensors of the file that make up one of ours, with the rows that each of them is."""
        start = 0
        for key in self.pieces[name].sources:
            end = start + self.shape_of(key)[0]
            yield key, start, end
            start = end

    def read(self, name: str) -> Tensor:
        """One tensor, by our name, in float32."""
        return read_piece(self.component.store, self.pieces[name], self.stored, torch.float32)


@dataclass(frozen=True, slots=True)
class Merged:
    """A transformer's file that adapters were folded into.

    kept, changed: of the tensors that adapters leave alone, and of those they change, how many
    are stored as what, by the name it had in the base and the one it has now.
    """

    fits: tuple[Fit, ...]
    file: str
    bytes: int
    kept: Mapping[tuple[str, str], int]
    changed: Mapping[tuple[str, str], int]

    def __str__(self) -> str:
        lines = [*map(str, self.fits), f"{self.file}: {self.bytes:,} bytes"]
        lines += [f"  changed: {_counted(self.changed)}"] * bool(self.changed)
        lines += [f"  as they were: {_counted(self.kept)}"] * bool(self.kept)
        return "\n".join(lines)


def merge(
    component: Component,
    specs: Sequence[AdapterSpec],
    out: Path,
    *,
    partial: bool = False,
    force: bool = False,
) -> Merged:
    """Write a transformer's file anew with adapters folded in; say how, and as what.

    Sums are made in float32, one tensor at a time, and rounded once, to the dtype the tensor
    has. A quantised tensor that changes becomes a plain float, of the widest dtype that the
    file's own floats have: quantised again, it would lose more than the adapter adds. All else
    stays as it is, but that GGUF's blocks become float32, and shards one file. The metadata
    holds the config, and names the adapters with their digests.

    Raises what `fit_adapters` raises, OutputExists, RequestError where the file would replace
    what it is made of, or cannot hold a sum, BindError for a norm's bias, which has no place in
    the file, and SakugaError where the system cannot write it.
    """
    with writing(out):
        refuse_existing(out, replace=force)
    base = Base(component)
    fits = fit_adapters(specs, transformer_targets(component.spec), partial=partial)
    refuse_itself([out], [component.store, *(each.adapter.store for each in fits)])
    changed = Changed(base, fits)
    names = [asdict(record(each)) for each in fits]
    metadata = {"config": json.dumps(config_of(component.spec))} | component.store.metadata
    metadata.pop(STORAGE_KEY, None)
    metadata |= storage_metadata(changed.stored) | {MERGED_KEY: json.dumps(names)}
    write_weights(out, lambda file: write_tensors(file, changed.promised(), metadata, changed.read))
    return Merged(fits, str(out), out.stat().st_size, *changed.counts())


@dataclass(frozen=True, slots=True)
class Share:
    """What a change adds to a tensor of the file: rows `low` to `high` of one of ours.

    first: of our rows, the first that the change adds to. start: the first that the tensor is.
    """

    change: Change
    adapter: Store
    low: int
    high: int
    first: int
    start: int

    def add_to(self, values: Tensor, base: Base) -> None:
        """Add it to the tensor, in place."""
        delta = _delta(self.change, self.adapter, base)
        delta = delta[self.low - self.first : self.high - self.first]
        values[self.low - self.start : self.high - self.start] += delta


class Changed:
    """The tensors of a file that adapters change, as they then are."""

    def __init__(self, base: Base, fits: Sequence[Fit]) -> None:
        self._base, self._store = base, base.component.store
        self._shares: dict[str, list[Share]] = {}
        for each in fits:
            for change in each.active:
                for key, share in _shares(base, change, each.adapter.store):
                    self._shares.setdefault(key, []).append(share)
        self.stored = {key: each for key, each in base.stored.items() if key not in self._shares}
        self._scales = {scale_key(key) for key in base.stored.keys() - self.stored.keys()}

    def promised(self) -> dict[str, Promised]:
        """The tensors of the new file in form; the scales of what is no longer quantised go."""
        return {
            key: Promised(
                self._dtype(key),
                self._base.shape_of(key) if key in self._shares else self._store.info(key).shape,
            )
            for key in self._store
            if key not in self._scales
        }

    def counts(self) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
        """How many tensors are kept, and changed, from what to what."""
        kept: Counter[tuple[str, str]] = Counter()
        changed: Counter[tuple[str, str]] = Counter()
        stored = self._base.stored
        for key in set(self._store) - set(map(scale_key, stored)):
            dtype = self._store.info(key).dtype
            before = stored[key].form.name if key in stored else TORCH_NAMES.get(dtype, dtype)
            now = before if key in self.stored else TORCH_NAMES[self._dtype(key)]
            (changed if key in self._shares else kept)[before, now] += 1
        return kept, changed

    def read(self, key: str) -> tuple[memoryview]:
        """The bytes of any tensor of the new file. Raises RequestError where a sum overflows."""
        if key in self._shares:
            values = self._summed(key).to(TORCH_DTYPES[self._dtype(key)])
            if not torch.isfinite(values).all():
                raise RequestError(
                    "a sum of weights and adapters is of finite numbers",
                    f"others in {key!r} as {TORCH_NAMES[self._dtype(key)]}",
                    "Lower the strength, or convert the base to bfloat16 or float32 first.",
                )
        elif is_packed(self._store.info(key).dtype):
            values = read_tensor(self._store, key)
        else:
            return (self._store.view(key),)
        return (bytes_of(values),)

    def _dtype(self, key: str) -> str:
        """What a tensor is stored as in the new file, by the header's name."""
        dtype = plain_dtype(self._store.info(key).dtype)
        if key not in self._shares or (key not in self._base.stored and dtype in WIDE_FLOATS):
            return dtype
        return self._base.wide

    def _summed(self, key: str) -> Tensor:
        """One tensor of the file in float32 with its shares of the adapters' deltas."""
        values = read_tensor(self._store, key)
        if key in self._base.stored:
            form = self._base.stored[key].form
            scale = read_tensor(self._store, scale_key(key))
            values = dequantise(values, scale, form, self._base.shape_of(key), torch.float32)
        values = values.to(torch.float32, copy=True)
        for share in self._shares[key]:
            share.add_to(values, self._base)
        return values


def _shares(base: Base, change: Change, adapter: Store) -> Iterator[tuple[str, Share]]:
    """What a change adds to each tensor of the file that it reaches."""
    name = target_of(change)
    if name not in base.pieces:
        raise _no_place(f"a bias for {change.module!r}, which has none", adapter)
    first, last = change.rows or (0, base.pieces[name].shape[0])
    for key, start, end in base.spans(name):
        low, high = max(start, first), min(end, last)
        if low < high:
            yield key, Share(change, adapter, low, high, first, start)


def target_of(change: Change) -> str:
    """The tensor, by our name, that a change adds to."""
    return change.module + (BIAS if change.part.is_bias else WEIGHT)


def _delta(change: Change, store: Store, base: Base) -> Tensor:
    """What an adapter adds to the rows it changes, in float32."""
    name = target_of(change)
    if len(base.pieces[name].shape) == 1 and not change.part.is_bias:
        delta = read_norm_change(store, change, lambda: base.read(name))
        if delta.bias is not None:
            raise _no_place(f"a trained bias for the norm {change.module!r}", store)
        return delta.weight.float() * delta.scale
    whole = base.read(name)[slice(*(change.rows or (None, None)))]
    return read_change(store, change, lambda: base.read(name)).matrix(whole)


def _no_place(got: str, store: Store) -> BindError:
    return BindError(
        "what an adapter changes has a place in the transformer's file",
        f"{got} in {store.path}",
        "Apply this adapter with --lora while drawing",
    )


def _counted(kinds: Mapping[tuple[str, str], int]) -> str:
    """Numbers of tensors by what they are stored as."""
    return ", ".join(
        f"{count} {now}" if now == before else f"{count} {before} -> {now}"
        for (before, now), count in sorted(kinds.items())
    )
