"""Linears that keep their weight as stored, and unfold it for the moment it is used

A model of 4 bits unfolded as a whole would take four times its file of memory. One whose
layers pass a card one after the other needs no more than the matrix that is on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map_only

from sakuga.weights.formats import BLOCK_LINEARS, StorageFormat
from sakuga.weights.ggml import dequantise_blocks
from sakuga.weights.quantise import TORCH_DTYPES, dequantise, quantise


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


class StoredLinear(nn.Module):
    """An nn.Linear (in -> out) whose weight lies in a storage format.

    `weight` and `scale` (None where the format has none) are buffers in the shapes that
    `form` states for (out, in); `bias` (out,) is a parameter or None. Each call unfolds the
    weight in the dtype of its input, which takes out·in values of that dtype for as long as
    the product runs. Moving the module moves all of it; casting it changes nothing, since it
    computes in what it is given.
    """

    weight: Tensor
    scale: Tensor | None

    def __init__(
        self, in_features: int, out_features: int, form: StorageFormat, bias: Tensor | None = None
    ) -> None:
        super().__init__()
        self.in_features, self.out_features, self.form = in_features, out_features, form
        shape = (out_features, in_features)
        weight = torch.zeros(form.stored_shape(shape), dtype=TORCH_DTYPES[form.dtype])
        scale = None
        if form.quantised:
            scale = torch.zeros(form.scale_shape(shape), dtype=TORCH_DTYPES[form.scale])
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    @classmethod
    def like(cls, linear: nn.Linear, form: StorageFormat) -> StoredLinear:
        """The same linear stored in `form`; on the meta device there are no values to keep."""
        bias = None if linear.bias is None else linear.bias.detach()
        with linear.weight.device:
            stored = cls(linear.in_features, linear.out_features, form, bias)
        if not linear.weight.is_meta:
            stored.weight, stored.scale = quantise(linear.weight.detach(), form)
        return stored.train(linear.training)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the weight: (out, in)."""
        return self.out_features, self.in_features

    def unfolded(self, dtype: torch.dtype) -> Tensor:
        """The weight (out, in) in `dtype`."""
        return dequantise(self.weight, self.scale, self.form, self.shape, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.unfolded(x.dtype), bias)

    def extra_repr(self) -> str:
        """What `print(module)` says of it."""
        return f"{self.in_features}, {self.out_features}, {self.form.name}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> StoredLinear:
        """Move without casting: stored values mean nothing in another dtype."""

        def move(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        apply: Callable[..., object] = super()._apply  # torch has no types for it
        apply(move, recurse)
        return self


def weight_name(linear: str) -> str:
    """The state-dict name of a linear's weight."""
    return f"{linear}.weight"


def scale_name(weight: str) -> str:
    """The state-dict name of the scales that belong to a weight."""
    return f"{weight.removesuffix('weight')}scale"


def keep_stored(
    module: nn.Module, form: StorageFormat, names: frozenset[str] = BLOCK_LINEARS
) -> tuple[str, ...]:
    """Let the linears of `module` so named keep their weights in `form`; give their full names.

    names: the last part of a linear's name, as in `weights.formats.BLOCK_LINEARS`, where it
    is said which never belong there. On a module built on the meta device `checkpoint.bind`
    then fills them; a real one is quantised here.
    """
    kept = tuple(
        name
        for name, child in module.named_modules()
        if isinstance(child, nn.Linear) and name.rpartition(".")[2] in names
    )
    for name in kept:
        linear = module.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        module.set_submodule(name, StoredLinear.like(linear, form))
    return kept
