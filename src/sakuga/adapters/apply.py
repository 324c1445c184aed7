"""Adapters as a view: the modules they change are wrapped in place, and unwrapped again.

A linear becomes base(x) + Σ of what each adapter adds (`adapters.deltas`), each held against the
base as it is without the others. The base is the very module it was, as it lies: on the host or
in a stream, quantised or not. What is held of adapters are buffers, so whatever moves, casts or
streams a block takes them along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from types import TracebackType
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sakuga.adapters.deltas import (
    BiasChange,
    Decomposed,
    Delta,
    LinearChange,
    NormChange,
    Turn,
    rotation_of_blocks,
    rotation_of_triangles,
)
from sakuga.adapters.fit import Change, Fit
from sakuga.adapters.kinds import BY_NAME, MAGNITUDE, is_narrow
from sakuga.checkpoint.bind import read_tensor
from sakuga.errors import CorruptFile
from sakuga.weights.store import Store
from sakuga.weights.stored import StoredLinear


class AdaptedLinear(nn.Module):
    """A linear and what adapters add to it, in the order they were given."""

    base: nn.Module

    def __init__(self, base: nn.Module, deltas: Iterable[LinearChange]) -> None:
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
        for delta in cast(Iterable[LinearChange], self.deltas):
            delta.add_to(sums, rows, self._product)
        return y

    def _product(self, x: Tensor) -> Tensor:
        """What the base's weight alone makes of x."""
        y: Tensor = self.base(x)
        bias = self.base.bias
        return y if bias is None else y.sub_(cast(Tensor, bias).to(y.dtype))


class AdaptedNorm(nn.Module):
    """An RMSNorm whose weight adapters change."""

    base: nn.RMSNorm

    def __init__(self, base: nn.RMSNorm, deltas: Iterable[NormChange]) -> None:
        super().__init__()
        self.base = base
        self.deltas = nn.ModuleList(deltas)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., dim)."""
        weight: Tensor = self.base.weight
        deltas = list(cast(Iterable[NormChange], self.deltas))
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


@dataclass(frozen=True, slots=True)
class ChangeSource:
    """A change, and where its tensors are read, and (`whole`) all rows of what it changes."""

    store: Store
    change: Change
    whole: Callable[[], Tensor]

    def factor(self, role: str) -> Tensor:
        """One of its tensors, as it lies in the file. Raises CorruptFile if it is not finite."""
        return _factor(self.store, self.change.part.tensors[role])

    @property
    def base(self) -> Tensor:
        """The rows that it changes, of the weight or the bias, in float32."""
        return self.whole().float()[slice(*(self.change.rows or (None, None)))]

    @property
    def scale(self) -> float:
        """The strength times the scale of the factors."""
        return self.change.strength * self.change.part.scale

    def delta(self, up: Tensor) -> Delta:
        """A whole matrix that is added."""
        return Delta(None, up, None, self.scale, self.change.rows)

    def bias(self, values: Tensor) -> BiasChange:
        """A vector that is added."""
        return BiasChange(values, self.scale, self.change.rows)


def _lora(source: ChangeSource) -> Delta:
    return Delta(None, source.factor("up"), source.factor("down"), source.scale, source.change.rows)


def _lokr(source: ChangeSource) -> Delta:
    # The first factor is the small one: whole, it costs less than in two.
    w1, down = _product(source, "w1")
    w1 = w1 if down is None else w1.float() @ down.float()
    up, down = _narrowest(*_product(source, "w2"))
    return Delta(w1, up, down, source.scale, source.change.rows)


def _product(source: ChangeSource, name: str) -> tuple[Tensor, Tensor | None]:
    """A factor that lies in the file whole, or as a product of two."""
    if name in source.change.part.tensors:
        return source.factor(name), None
    return source.factor(f"{name}_a"), source.factor(f"{name}_b")


def _narrowest(up: Tensor, down: Tensor | None) -> tuple[Tensor, Tensor | None]:
    if down is not None and not is_narrow(len(up), down.shape[1], len(down)):
        return up.float() @ down.float(), None
    return up, down


def _loha(source: ChangeSource) -> Delta:
    """Value by value, (A @ B) * (C @ D) is a product of the rows of A times C, columns of B, D."""
    left, right, other_left, other_right = (
        source.factor(f"hada_{name}").float() for name in ("w1_a", "w1_b", "w2_a", "w2_b")
    )
    rank, rows, columns = len(right), len(left), right.shape[1]
    scale, where = source.scale, source.change.rows
    if not is_narrow(rows, columns, rank * rank):
        return Delta(None, (left @ right) * (other_left @ other_right), None, scale, where)
    up = (left[:, :, None] * other_left[:, None, :]).flatten(1)
    down = (right[:, None, :] * other_right[None, :, :]).flatten(0, 1)
    return Delta(None, up, down, scale, where)


def _dora(inner: Callable[[ChangeSource], Delta], source: ChangeSource) -> Decomposed:
    change = source.change
    delta = inner(replace(source, change=replace(change, strength=1.0, rows=None)))
    magnitude = source.factor(MAGNITUDE)
    return Decomposed.of(delta, magnitude, source.base, change.strength, change.rows)


def _oft_input(source: ChangeSource) -> Turn:
    turn = rotation_of_triangles(source.factor("oft_input"), source.change.part.terms)
    return Turn(turn, source.scale, outputs=False, rows=source.change.rows)


def _oft_output(source: ChangeSource) -> Turn:
    turn = rotation_of_blocks(source.factor("oft_output"), source.change.part.limit)
    return Turn(turn, source.scale, outputs=True, rows=source.change.rows)


LINEAR_READERS: Mapping[str, Callable[[ChangeSource], LinearChange]] = {
    "lora": _lora,
    "lokr": _lokr,
    "loha": _loha,
    "dora": partial(_dora, _lora),
    "dora-lokr": partial(_dora, _lokr),
    "dora-loha": partial(_dora, _loha),
    "oft-input": _oft_input,
    "oft-output": _oft_output,
    "diff": lambda source: source.delta(source.factor("diff")),
    "whole": lambda source: source.delta(source.factor("whole").float() - source.base),
    "bias": lambda source: source.bias(source.factor("diff_b")),
    "lora-bias": lambda source: source.bias(source.factor("up_bias")),
    "whole-bias": lambda source: source.bias(source.factor("whole_bias").float() - source.base),
}


def read_change(store: Store, change: Change, whole: Callable[[], Tensor]) -> LinearChange:
    """What a change adds to a linear.

    whole: reads the weight, or the bias, that it changes, all rows of it; only some kinds do.
    Raises CorruptFile where a factor, or what is made of it, is not finite.
    """
    made = LINEAR_READERS[change.part.kind](ChangeSource(store, change, whole))
    for value in made.buffers():
        if not torch.isfinite(value).all():
            raise _infinite(f"the {change.part.kind} for {change.module!r}", store)
    return made


def read_norm_change(store: Store, change: Change, whole: Callable[[], Tensor]) -> NormChange:
    """What a change adds to a norm. whole: reads its weight."""
    source = ChangeSource(store, change, whole)
    if change.part.kind == "whole":
        return NormChange(source.factor("whole").float() - source.base, None, source.scale)
    bias = source.factor("b_norm") if "b_norm" in change.part.tensors else None
    return NormChange(source.factor("w_norm"), bias, source.scale)


def _wrap(
    base: nn.Module, changes: Sequence[tuple[Change, Store]], dtype: torch.dtype
) -> nn.Module:
    """A module as some changes make it."""
    wrapper: nn.Module
    if isinstance(base, nn.RMSNorm):
        wrapper = AdaptedNorm(
            base, [read_norm_change(store, each, lambda: base.weight) for each, store in changes]
        )
    else:
        wrapper = AdaptedLinear(
            base, [read_change(store, each, _whole(base, each)) for each, store in changes]
        )
    device = next(value.device for value in (*base.parameters(), *base.buffers()))
    wrapper.deltas.to(device, dtype)
    return wrapper.train(base.training)


def _whole(base: nn.Module, change: Change) -> Callable[[], Tensor]:
    """Reads what a change changes of a linear; a bias that it has not is of zeros."""

    def read() -> Tensor:
        if not BY_NAME[change.part.kind].bias:
            if isinstance(base, StoredLinear):
                return base.unfolded(torch.float32)
            return cast(Tensor, base.weight)
        if base.bias is None:
            return torch.zeros(change.part.shape[0])
        return cast(Tensor, base.bias)

    return read


def _factor(store: Store, key: str) -> Tensor:
    # A copy: where a mapped tensor lies in memory decides the kernel, and so the last bits.
    factor = read_tensor(store, key).clone()
    if not torch.isfinite(factor.float()).all():
        raise _infinite(repr(key[:120]), store)
    return factor


def _infinite(what: str, store: Store) -> CorruptFile:
    return CorruptFile(
        "the factors of an adapter are finite numbers",
        f"NaN or infinity in {what} of {store.path}",
        "Download or train the adapter again",
    )
