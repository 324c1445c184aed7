"""Tensors that stay as their file has them, and unfold for the moment they are read

A model of 4 bits unfolded as a whole would take four times its file of memory. One whose
layers pass a card one after the other needs no more than the matrix that is on its way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from sakuga.weights.formats import StorageFormat
from sakuga.weights.ggml import dequantise_blocks
from sakuga.weights.quantise import dequantise, rows_on_host


class Packed(Protocol):
    """A matrix (R, W) of few bits, which gives its rows as floats."""

    @property
    def kind(self) -> str:
        """How it is stored, in a word."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its own shape."""

    def rows(self, first: int, last: int, dtype: torch.dtype) -> Tensor:
        """Rows `first` to `last`."""

    def picked(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """The rows (..., W) at some places (...)."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """A matrix in blocks of GGUF. raw: their bytes (R, bytes). kind: a name of `gguf.BLOCKS`."""

    raw: Tensor
    kind: str
    shape: tuple[int, ...]

    def rows(self, first: int, last: int, dtype: torch.dtype) -> Tensor:
        """Rows `first` to `last`."""
        return self._unfolded(self.raw[first:last], (last - first,), dtype)

    def picked(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """The rows (..., W) at some places (...)."""
        return self._unfolded(self.raw[ids], tuple(ids.shape), dtype)

    def _unfolded(self, raw: Tensor, rows: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return dequantise_blocks(raw.reshape(-1), self.kind, (*rows, *self.shape[1:]), dtype)


@dataclass(frozen=True, slots=True)
class InForm:
    """A matrix in a storage format of ours, with the scales of its rows."""

    values: Tensor
    scale: Tensor
    form: StorageFormat
    shape: tuple[int, ...]

    @property
    def kind(self) -> str:
        """The name of the format."""
        return self.form.name

    def rows(self, first: int, last: int, dtype: torch.dtype) -> Tensor:
        """Rows `first` to `last`."""
        part = slice(first, last)
        return self._unfolded(self.values[part], self.scale[part], dtype)

    def picked(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """The rows (..., W) at some places (...)."""
        at = ids.flatten()
        rows = self._unfolded(self.values[at], self.scale[at], dtype)
        return rows.view(*ids.shape, *self.shape[1:])

    def _unfolded(self, values: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
        if not self.form.packed and values.dim() == 2:
            return rows_on_host(values, scale, dtype)
        return dequantise(values, scale, self.form, (len(values), *self.shape[1:]), dtype)


class Stretch(NamedTuple):
    """Rows `first` to `last` of a matrix."""

    of: Packed
    first: int
    last: int


class Folded(Tensor):
    """A matrix (R, W) of some float dtype whose rows are those of packed ones, laid end to end.

    Whatever reads it gets its values, unfolded for that moment; of a table of embeddings, the
    rows looked up. It cannot be written. How:
    https://docs.pytorch.org/docs/stable/notes/extending.html, "Extending torch native API".
    """

    stretches: tuple[Stretch, ...]

    @staticmethod
    def __new__(cls, stretches: Sequence[Stretch], dtype: torch.dtype) -> Folded:  # noqa: D102
        shape = (sum(last - first for _, first, last in stretches), *stretches[0].of.shape[1:])
        made: Folded = Tensor._make_wrapper_subclass(cls, shape, dtype=dtype)
        made.stretches = tuple(stretches)
        return made

    def unfolded(self) -> Tensor:
        """All values."""
        parts = [of.rows(first, last, self.dtype) for of, first, last in self.stretches]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def rows(self, ids: Tensor) -> Tensor:
        """The rows (..., W) at some places (...)."""
        if len(self.stretches) > 1:
            return self.unfolded()[ids]
        ((of, first, _),) = self.stretches
        return of.picked(ids + first, self.dtype)

    def __repr__(self) -> str:  # type: ignore[override]
        """What it is, without its values."""
        kinds = " + ".join(dict.fromkeys(of.kind for of, *_ in self.stretches))
        return f"Folded({kinds}, {tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch declares it without `func`
        cls,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation on the values; one that only renames them leaves them folded."""
        if func is torch.ops.aten.detach.default:
            (one,) = args
            return cls(one.stretches, one.dtype)
        if func is torch.ops.aten.embedding.default and isinstance(args[0], cls):
            return args[0].rows(args[1])
        if any(isinstance(each, cls) for each in _written(func, args)):
            raise TypeError(f"what stays as its file has it cannot be written: {func}")
        args, named = tree_map_only(cls, cls.unfolded, (tuple(args), dict(kwargs or {})))
        return func(*args, **named)


def _written(func: Any, args: Sequence[Any]) -> Sequence[Any]:
    """Those of the arguments that an operation writes."""
    declared = func._schema.arguments
    return [
        value
        for value, how in zip(args, declared, strict=False)
        if how.alias_info is not None and how.alias_info.is_write
    ]
