"""Linears that keep their weight in a storage format, and unfold it for the moment it is used."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sakuga.weights.formats import BLOCK_LINEARS, StorageFormat
from sakuga.weights.quantise import TORCH_DTYPES, dequantise, quantise


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
