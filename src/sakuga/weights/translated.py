"""A file that another program quantised, seen as one of ours.

Each weight is one tensor under its plain name, in its own shape. Where a storage format of ours
holds the very same values, it lies in that: its values are those of the file, its scales, one
for each row, are made of the file's. Any other is a tensor whose dtype is the name of its
scheme, like the blocks of GGUF, and `weights.unfold` gives its rows. Companions are not seen.
"""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from sakuga.weights.formats import (
    STORAGE_KEY,
    Shape,
    StoredTensor,
    scale_key,
    storage_metadata,
)
from sakuga.weights.header import TensorInfo
from sakuga.weights.quantised import Context, Linear, quantised_of
from sakuga.weights.schemes import LISTED, SUFFIXES, Quantised
from sakuga.weights.store import Store
from sakuga.weights.untrusted import corrupt

WEIGHT = "weight"
# Longest first: what `weight._data` ends with is a companion's name too.
_ENDS = tuple(sorted((f".{each}" for each in SUFFIXES - {WEIGHT}), key=len, reverse=True))
MARKER = "scaled_fp8"
ASIDE = "of no meaning for a weight"


class Translated(Store):
    """The tensors of a store as this module says; `packed` are those that no format of ours holds.

    raw: the store itself. weights: what another program quantised, by the weight's plain name.
    """

    def __init__(self, raw: Store, weights: Mapping[str, Quantised], unseen: set[str]) -> None:
        self.raw, self.weights = raw, weights
        self.path, self.files, self.maps = raw.path, raw.files, raw.maps
        self.packed = {key: each for key, each in weights.items() if each.form is None}
        self._scales = {scale_key(key): each for key, each in weights.items() if each.form}
        self._made_scales: dict[str, bytearray] = {}
        used = {part for each in weights.values() for part in each.parts.values()}
        self.dropped = raw.dropped | dict.fromkeys(sorted(unseen - used), ASIDE)
        self._unseen = used | unseen
        self._infos = dict(self._made())
        told = {*weights, LISTED, "tensor_names"}
        self.metadata = {name: text for name, text in raw.metadata.items() if name not in told}
        stored = {key: StoredTensor(each.form) for key, each in weights.items() if each.form}
        if stored:
            self.metadata |= storage_metadata(stored)

    def _made(self) -> Iterator[tuple[str, TensorInfo]]:
        yield from ((key, self.raw.info(key)) for key in self.raw if key not in self._unseen)
        for key, each in self.weights.items():
            parts = {role: self.raw.info(part) for role, part in each.parts.items()}
            values = parts["values"]
            if each.form is None:
                size = sum(part.nbytes for part in parts.values())
                yield key, values._replace(dtype=each.scheme.name, shape=each.shape, nbytes=size)
            else:
                rows = each.shape[0]
                yield key, values._replace(shape=each.shape)
                yield scale_key(key), TensorInfo("F32", (rows,), 4 * rows, values.file, 0)

    def view(self, key: str) -> memoryview:
        """The bytes of one tensor; scales are made, and refused where they are not finite."""
        if key in self._scales:
            if key not in self._made_scales:
                self._made_scales[key] = bytearray(self._row_scales(self._scales[key]))
            return memoryview(self._made_scales[key])
        return self.raw.view(self.weights[key].parts["values"] if key in self.weights else key)

    def _row_scales(self, each: Quantised) -> bytes:
        key, divisor = each.parts["scale"], each.said.get("divisor", 1.0)
        info, rows = self.raw.info(key), each.shape[0]
        numbers = _floats(info, self.raw.view(key))
        total = sum(numbers)  # of float32 in float64: no number that is finite makes it infinite
        if total - total:
            raise corrupt(info.file, "scales are finite numbers", f"NaN or infinity in {key!r}")
        if divisor != 1.0:
            numbers = array("f", [number / divisor for number in numbers])
        made = bytes(numbers)
        return made if len(numbers) == rows else made * rows

    def cut(self, shapes: Mapping[str, Shape]) -> Translated:
        """The same, some weights cut to the shape that they had before they were made up."""
        weights = {
            key: replace(each, shape=shapes.get(key, each.shape))
            for key, each in self.weights.items()
        }
        used = {part for each in self.weights.values() for part in each.parts.values()}
        return Translated(self.raw, weights, self._unseen - used)


def translated(store: Store, config: Mapping[str, Any] | None = None) -> Store:
    """A store as this module sees it: itself where no other program quantised it.

    config: the quantization_config that belongs to it. Raises CorruptFile and LayoutError as
    `quantised_of` does.
    """
    if isinstance(store, Translated) or STORAGE_KEY in store.metadata:
        return store
    linears, unseen = _linears(store)
    if not linears and LISTED not in store.metadata:
        return store
    context = Context.of(store, config or {})
    known = {each.name for each in linears}
    bare = [name for name in context.layers if name not in known and f"{name}.weight" in store]
    weights: dict[str, Quantised] = {}
    for linear in (*linears, *(Linear(store, name, {"weight": f"{name}.weight"}) for name in bare)):
        found = quantised_of(linear, context)
        if found is not None:
            weights[f"{linear.name}.weight"] = found
            unseen |= set(linear.keys.values())
    return Translated(store, weights, unseen) if weights else store


def as_written(store: Store) -> Store:
    """A store with the tensors that its file has, companions and all."""
    return store.raw if isinstance(store, Translated) else store


def told(store: Store) -> Iterator[str]:
    """How other programs keep weights of a store, and what these are here, a line for each way."""
    weights = store.weights.values() if isinstance(store, Translated) else ()
    for (scheme, form), count in Counter((each.scheme, each.form) for each in weights).items():
        here = f"the values of {form.name}" if form else "unfolded while they are read"
        yield f"{count} as {scheme.name}, by {scheme.program} ({scheme.value}): {here}"


def names(store: Store) -> tuple[str, ...]:
    """What the tensors of a file would be called if no program had quantised it.

    Unlike `translated` it takes every file, of kinds that are not read too.
    """
    linears, _ = _linears(store)
    companions = {key for each in linears for key in each.keys.values()}
    return (*(f"{each.name}.weight" for each in linears),
            *(key for key in store if key not in companions))  # fmt: skip


def _linears(store: Store) -> tuple[list[Linear], set[str]]:
    """The linears of a file that have more than a weight, and the markers of the whole file."""
    found: dict[str, dict[str, str]] = {}
    for key in store:
        if key.endswith(_ENDS):
            end = next(each for each in _ENDS if key.endswith(each))
            found.setdefault(key.removesuffix(end), {})[end[1:]] = key
    for name, keys in found.items():
        if f"{name}.{WEIGHT}" in store:
            keys[WEIGHT] = f"{name}.{WEIGHT}"
    linears = [
        Linear(store, name, keys)
        for name, keys in found.items()
        if name and (keys.keys() - {WEIGHT, "scale"} or WEIGHT in keys)
    ]
    return linears, {key for key in store if f".{key}".endswith(f".{MARKER}")}


def _floats(info: TensorInfo, view: memoryview) -> array[float]:
    """The numbers of a small tensor of floats, in float32."""
    numbers = array("f")
    if info.dtype == "F16":
        numbers.extend(struct.unpack(f"<{len(view) // 2}e", view))
        return numbers
    if info.dtype == "BF16":  # the upper half of a float32
        view = memoryview(b"".join(b"\0\0" + view[at : at + 2] for at in range(0, len(view), 2)))
    numbers.frombytes(view)
    return numbers
