"""Adapters as a view: the modules they change are wrapped in place, and unwrapped again.

A linear becomes base(x) + Σ strength·scale·delta(x). The base is the very module it was, as
it lies: on the host or in a stream, quantised or not. No delta is ever made into a matrix of
the weight's size. Factors are buffers, so whatever moves, casts or streams a block takes them
along.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from types import TracebackType
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sakuga.adapters.file import is_narrow
from sakuga.adapters.fit import Change, Fit
from sakuga.checkpoint.bind import read_tensor
from sakuga.errors import CorruptFile
from sakuga.weights.store import Store


class Delta(nn.Module):
    """What an adapter adds to the output of a linear (in -> out): x @ (kron(w1, up @ down)).T

    `w1` (a, b), or None for 1: a plain LoRA. `up` (c, r) and `down` (r, d), or `up` (c, d)
    alone where the factor is whole. out = a·c, in = b·d, and with `rows` out is their number.
    """

    w1: Tensor | None
    up: Tensor
    down: Tensor | None

    def __init__(
        self,
        w1: Tensor | None,
        up: Tensor,
        down: Tensor | None,
        scale: float = 1.0,
        rows: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("w1", w1)
        self.register_buffer("up", up)
        self.register_buffer("down", down)
        self.scale, self.rows = scale, rows

    def add_to(self, y: Tensor, x: Tensor) -> None:
        """Add to y (T, out) what x (T, in) gives.

        The last product adds where it has to. What is made on the way is about as large as x
        and y at most, or, for a LoRA, has as many numbers per token as the rank.
        """
        part = y if self.rows is None else y[:, slice(*self.rows)]
        up = self.up.to(x.dtype)
        if self.w1 is None:
            part.addmm_(self._narrowed(x), up.t(), alpha=self.scale)
            return
        # kron(A, B) applied to a vector is B to the rows and A to the columns of its matrix:
        # first the one that leaves less.
        w1 = self.w1.to(x.dtype).expand(len(x), -1, -1)
        x = self._narrowed(x.unflatten(1, (w1.shape[2], -1)))
        sums = part.unflatten(1, (w1.shape[1], len(up)))
        if w1.shape[1] * x.shape[2] > w1.shape[2] * len(up):
            sums.baddbmm_(w1, F.linear(x, up), alpha=self.scale)
        elif self.rows is None:
            sums.flatten(0, 1).addmm_(torch.bmm(w1, x).flatten(0, 1), up.t(), alpha=self.scale)
        else:
            sums.add_(F.linear(torch.bmm(w1, x), up), alpha=self.scale)

    def _narrowed(self, x: Tensor) -> Tensor:
        """(..., d) to (..., r), where the second factor is of low rank."""
        return x if self.down is None else F.linear(x, self.down.to(x.dtype))

    def matrix(self) -> Tensor:
        """The delta itself (out, in) in float32, scaled: what folding it into a weight adds."""
        factor = self.up.float() * self.scale  # here it is small, and needs no large copy
        if self.down is not None:
            factor = factor @ self.down.float()
        return factor if self.w1 is None else torch.kron(self.w1.float(), factor)

    def extra_repr(self) -> str:
        """What `print(module)` says of it."""
        kind = "lora" if self.w1 is None else "lokr"
        return f"{kind}, scale={self.scale:g}" + (f", rows={self.rows}" if self.rows else "")


class AdaptedLinear(nn.Module):
    """A linear and what adapters add to it, in the order they were given."""

    base: nn.Module

    def __init__(self, base: nn.Module, deltas: Iterable[Delta]) -> None:
        super().__init__()
        self.base = base
        self.deltas = nn.ModuleList(deltas)

    @property
    def weight(self) -> Tensor:
        """The base's weight, untouched: networks ask their linears for its dtype."""
        weight = self.base.weight
        assert isinstance(weight, Tensor)
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        y: Tensor = self.base(x)
        rows, sums = x.reshape(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        for delta in cast(Iterable[Delta], self.deltas):
            delta.add_to(sums, rows)
        return y


class NormDelta(nn.Module):
    """What an adapter adds to a norm's weight, and to its output: (dim,) each."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.scale = scale


class AdaptedNorm(nn.Module):
    """An RMSNorm whose weight adapters change."""

    base: nn.RMSNorm

    def __init__(self, base: nn.RMSNorm, deltas: Iterable[NormDelta]) -> None:
        super().__init__()
        self.base = base
        self.deltas = nn.ModuleList(deltas)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., dim)."""
        weight: Tensor = self.base.weight
        deltas = list(cast(Iterable[NormDelta], self.deltas))
        for delta in deltas:
            weight = weight.add(delta.weight.to(weight.dtype), alpha=delta.scale)
        y = F.rms_norm(x, self.base.normalized_shape, weight, self.base.eps)
        for delta in deltas:
            if delta.bias is not None:
                y = y.add(delta.bias.to(y.dtype), alpha=delta.scale)
        return y


class Adapted:
    """Adapters on a module, until `remove` is called or the `with` block ends."""

    def __init__(self, module: nn.Module, fits: Sequence[Fit]) -> None:
        self.fits = tuple(fits)
        self._module = module
        self._bases: dict[str, nn.Module] = {}

    def remove(self) -> None:
        """Put back the modules that were there, the very same; twice does nothing more."""
        for name, base in self._bases.items():
            self._module.set_submodule(name, base)
        self._bases.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()


def apply_adapters(module: nn.Module, fits: Sequence[Fit]) -> Adapted:
    """Let adapters change `module` until the result is removed.

    fits: how the adapters' files fit it (`adapters.fit.fit_adapters`), in the order in which
    they are added. Factors are kept in the dtype of the module's parameters, where their
    modules' tensors are. Raises CorruptFile, and changes nothing, where a factor is not
    finite.
    """
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    every = [(change, each.adapter.store) for each in fits for change in each.active]
    every.sort(key=lambda pair: pair[0].module)  # stable: adapters stay in order
    wrapped: dict[str, nn.Module] = {}
    for name, group in groupby(every, key=lambda pair: pair[0].module):
        base = module.get_submodule(name)
        wrapped[name] = _wrap(base, list(group), dtype)
    adapted = Adapted(module, fits)
    for name, wrapper in wrapped.items():
        adapted._bases[name] = module.get_submodule(name)
        module.set_submodule(name, wrapper)
    return adapted


def read_delta(store: Store, change: Change) -> Delta:
    """The factors of a change to a linear, as they lie in the file."""
    read = {role: _factor(store, key) for role, key in change.part.tensors.items()}
    scale = change.strength * change.part.scale
    if change.part.kind == "lora":
        return Delta(None, read["up"], read["down"], scale, change.rows)
    # The first factor is the small one: whole, it costs less than in two.
    w1 = read["w1"] if "w1" in read else read["w1_a"].float() @ read["w1_b"].float()
    up, down = (read["w2"], None) if "w2" in read else (read["w2_a"], read["w2_b"])
    if down is not None and not is_narrow(len(up), down.shape[1], len(down)):
        up, down = up.float() @ down.float(), None
    return Delta(w1, up, down, scale, change.rows)


def read_norm_delta(store: Store, change: Change) -> NormDelta:
    """The changes to a norm, as they lie in the file."""
    read = {role: _factor(store, key) for role, key in change.part.tensors.items()}
    return NormDelta(read["w_norm"], read.get("b_norm"), change.strength * change.part.scale)


def _wrap(
    base: nn.Module, changes: Sequence[tuple[Change, Store]], dtype: torch.dtype
) -> nn.Module:
    """A module as some changes make it."""
    wrapper: nn.Module
    if isinstance(base, nn.RMSNorm):
        wrapper = AdaptedNorm(base, [read_norm_delta(store, each) for each, store in changes])
    else:
        wrapper = AdaptedLinear(base, [read_delta(store, each) for each, store in changes])
    device = next(value.device for value in (*base.parameters(), *base.buffers()))
    wrapper.deltas.to(device, dtype)
    return wrapper.train(base.training)


def _factor(store: Store, key: str) -> Tensor:
    # A copy: where a mapped tensor lies in memory decides the kernel, and so the last bits.
    factor = read_tensor(store, key).clone()
    if not torch.isfinite(factor.float()).all():
        raise CorruptFile(
            "the factors of an adapter are finite numbers",
            f"NaN or infinity in {key[:120]!r} of {store.path}",
            "Download or train the adapter again",
        )
    return factor
