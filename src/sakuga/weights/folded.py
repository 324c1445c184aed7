"""Matrices that stay in GGUF's blocks, as their file has them, until something reads them.

A model of 4 bits unfolded as a whole would take four times its file of memory. One whose
layers pass a card one after the other needs no more than the matrix that is on its way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from sakuga.weights.ggml import dequantise_blocks


class Folded(Tensor):
    """A tensor of some shape and float dtype whose values are the blocks in `raw`, of a `kind`.

    raw: bytes (N,), usually of a mapped file. kind: a name of `gguf.BLOCKS`. Whatever reads it
    gets its values, unfolded for that moment; of a table of embeddings, the rows looked up. It
    cannot be written. How: https://docs.pytorch.org/docs/stable/notes/extending.html, "Extending
    torch native API".
    """

    raw: Tensor
    kind: str

    @staticmethod
    def __new__(  # noqa: D102  # the class says it
        cls, raw: Tensor, kind: str, shape: tuple[int, ...], dtype: torch.dtype
    ) -> Folded:
        made: Folded = Tensor._make_wrapper_subclass(cls, shape, dtype=dtype, device=raw.device)
        made.raw, made.kind = raw, kind
        return made

    def unfolded(self) -> Tensor:
        """All values."""
        return dequantise_blocks(self.raw, self.kind, tuple(self.shape), self.dtype)

    def rows(self, ids: Tensor) -> Tensor:
        """The rows (..., W) of a matrix (R, W) at some places (...)."""
        raw = self.raw.view(self.shape[0], -1)[ids]
        return dequantise_blocks(raw.view(-1), self.kind, (*ids.shape, self.shape[1]), self.dtype)

    def __repr__(self) -> str:  # type: ignore[override]
        """What it is, without its values."""
        return f"Folded({self.kind}, {tuple(self.shape)}, {self.dtype})"

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
            return cls(one.raw, one.kind, tuple(one.shape), one.dtype)
        if func is torch.ops.aten.embedding.default and isinstance(args[0], cls):
            return args[0].rows(args[1])
        if any(isinstance(each, cls) for each in _written(func, args)):
            raise TypeError(f"what lies in a file's blocks cannot be written: {func}")
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
