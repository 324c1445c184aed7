"""A simulated card: the bytes that tensors would take of one, counted to the byte.

Where there is no card, every plan of a drawing still has to be shown to keep its budget. A
ledger watches each torch operation and does what the allocator of a card would do with its
results: it counts new storages, and takes off those that died. Tensors on the meta device count
as any other, so formulas can be checked at sizes that no test could compute. Do that in
`torch.inference_mode()`, where attention arrives as one operation, not already decomposed.

It sees the results of operations, never what a kernel allocates for itself: the workspaces of
convolutions and matrix products, the scores of an attention without a fused kernel, a
contiguous copy made inside. Nor does it see memory that no operation made: a storage built
from a file, from numpy, or by assigning `.data`. `bench/memory.py` measures on a card what
that leaves out.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from functools import cache
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

MIN_BLOCK = 512  # bytes; torch's allocator of a card rounds every request up to a multiple


class Effect(Enum):
    """What an operation does to storages."""

    VIEW = auto()  # makes none: its result is a view
    COMPOSITE = auto()  # runs other operations, whose results die within it
    KERNEL = auto()  # may make new storages
    FRESH = auto()  # returns its argument, which torch.tensor(...) has made without an operation


class Ledger(TorchDispatchMode):
    """Counts the storages that operations make while it is entered, until they die.

    `live`: bytes now. `peak`: the most bytes since the start or `reset_peak`. With a `limit` in
    bytes, an operation whose results would pass it raises torch.OutOfMemoryError and leaves
    both as they were. Storages from before it was entered count nothing, nor do views.

    It may be entered again and again, also within itself; a storage that dies in between is
    taken off then. It watches a whole thread, so a generator must leave it before it yields.
    """

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's has no types
        self.limit = limit
        self.live = 0
        self.peak = 0
        self._counted: dict[int, HeldStorage] = {}  # by the id of the storage
        self._hosts = 0  # how often `host` is entered

    def reset_peak(self) -> None:
        """Let the peak start again from what is live."""
        self.peak = self.live

    @contextmanager
    def host(self) -> Iterator[None]:
        """Within, new tensors are taken to be in the host's memory: they never count."""
        self._hosts += 1
        try:
            yield
        finally:
            self._hosts -= 1

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one operation and count what it made."""
        named = kwargs or {}
        kind = Effect.VIEW if self._hosts else effect_of(func)
        if kind is Effect.COMPOSITE:
            with self:
                return func.decompose(*args, **named)
        result = func(*args, **named)
        if kind is not Effect.VIEW:
            given = () if kind is Effect.FRESH else (args, tuple(named.values()))
            refused = self._count(result, given)
            if refused:
                del result  # a traceback must not keep alive what was refused
                raise self._full(refused)
        return result

    def _count(self, result: Any, given: Sequence[Any]) -> int:
        """Count the storages of a result; the bytes requested if they do not fit, else 0."""
        grown: dict[int, tuple[UntypedStorage, int]] = {}
        for tensor in tensors(result):
            storage = tensor.untyped_storage()
            known = self._counted.get(id(storage))
            more = rounded(storage.nbytes()) - (known.size if known else 0)
            if more:
                grown[id(storage)] = storage, more
        if not grown:
            return 0
        for tensor in tensors(given):
            key = id(tensor.untyped_storage())
            if key not in self._counted:
                grown.pop(key, None)  # written in place, and there before
        total = sum(more for _, more in grown.values())
        if self.limit is not None and self.live + total > self.limit:
            return total
        for storage, more in grown.values():
            self._charge(storage, more)
        return 0

    def _charge(self, storage: UntypedStorage, more: int) -> None:
        known = self._counted.get(id(storage))
        if known is None:
            known = self._counted[id(storage)] = HeldStorage(storage, self._release)
        known.size += more
        self.live += more
        self.peak = max(self.peak, self.live)

    def _release(self, dead: HeldStorage) -> None:
        del self._counted[dead.key]
        self.live -= dead.size

    def _full(self, requested: int) -> torch.OutOfMemoryError:
        limit = self.limit or 0
        return torch.OutOfMemoryError(
            f"Simulated card out of memory. Tried to allocate {mebibytes(requested)}. The card has "
            f"a total capacity of {mebibytes(limit)} of which {mebibytes(limit - self.live)} is "
            "free."
        )


class HeldStorage(weakref.ref[UntypedStorage]):
    """A weak reference to a storage: its id as `key`, and the bytes counted for it as `size`."""

    __slots__ = ("key", "size")

    def __init__(self, storage: UntypedStorage, died: Callable[[HeldStorage], None]) -> None:
        super().__init__(storage, died)  # type: ignore[call-arg]  # typeshed has __new__ alone
        self.key, self.size = id(storage), 0


@cache
def effect_of(func: OpOverload) -> Effect:
    """How an operation is counted.

    Attention counts as the fused kernel that a card has for it, whatever this device would
    do: nothing but its output. Upsampling to the nearest pixel is one kernel on a card too,
    though torch can also decompose it, into arithmetic in float32.
    """
    if func is torch.ops.aten.lift_fresh.default:
        return Effect.FRESH
    if func in (
        torch.ops.aten.scaled_dot_product_attention.default,
        torch.ops.aten.upsample_nearest2d.vec,
    ):
        return Effect.KERNEL
    if func._can_decompose():
        return Effect.COMPOSITE
    return Effect.VIEW if func.is_view else Effect.KERNEL


def tensors(value: Any) -> Iterable[Tensor]:
    """The tensors of an operation's arguments or results, however they are nested."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors(part)


def rounded(size: int) -> int:
    """The bytes that an allocator takes for a request of `size` bytes."""
    return -(-size // MIN_BLOCK) * MIN_BLOCK


def mebibytes(size: int) -> str:
    """A size as torch prints it."""
    return f"{size / 2**20:.2f} MiB"
