"""A simulated card: the bytes that tensors would take of one, counted to the byte.

Every plan of a drawing has to be shown to keep its budget where no card is, too. So a
ledger watches each operation, and does what a card's allocator would do with the results:
it takes on new storages and gives back those that died. Tensors on the meta device count as
any other, which is how formulas are checked at sizes that no test could compute; wrap that
in `torch.inference_mode()`, where attention arrives whole and not already taken apart.

It sees what operations return, never what a kernel allocates for itself: the workspaces of
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

GRAIN = 512  # bytes that a card's allocator rounds every request up to


class Kind(Enum):
    """What an operation does to storages."""

    VIEW = auto()  # looks at what is there
    COMPOSITE = auto()  # is made of other operations, whose results come and go within it
    KERNEL = auto()  # may make new storages
    BIRTH = auto()  # hands on what was made unseen: torch.tensor(...)


class Ledger(TorchDispatchMode):
    """Counts the storages that operations make while it is entered, until they die.

    `live` and `peak`: bytes now, and at most since the start or `reset_peak`. With a `limit`
    in bytes, an operation whose results would pass it raises torch.OutOfMemoryError and
    leaves both as they were. Storages that were there before count nothing, nor do views
    of any. It may be entered as often as liked, also within itself; what dies in between is
    given back then. It watches a whole thread, so a generator must leave it before it yields.
    """

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.limit = limit
        self.live = 0
        self.peak = 0
        self._held: dict[int, Held] = {}
        self._hosts = 0

    def reset_peak(self) -> None:
        """Let the peak start again from what is live."""
        self.peak = self.live

    @contextmanager
    def host(self) -> Iterator[None]:
        """Within, new tensors lie in the host's memory, and never count."""
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
        kind = Kind.VIEW if self._hosts else kind_of(func)
        if kind is Kind.COMPOSITE:
            with self:
                return func.decompose(*args, **named)
        result = func(*args, **named)
        if kind is not Kind.VIEW:
            given = () if kind is Kind.BIRTH else (args, tuple(named.values()))
            refused = self._count(result, given)
            if refused:
                del result  # a traceback must not keep alive what was refused
                raise self._full(refused)
        return result

    def _count(self, result: Any, given: Sequence[Any]) -> int:
        """Take on the storages of a result; the bytes asked for if they do not fit, else 0."""
        grown: dict[int, tuple[UntypedStorage, int]] = {}
        for tensor in tensors(result):
            storage = tensor.untyped_storage()
            held = self._held.get(id(storage))
            more = rounded(storage.nbytes()) - (held.size if held else 0)
            if more:
                grown[id(storage)] = storage, more
        if not grown:
            return 0
        for tensor in tensors(given):
            key = id(tensor.untyped_storage())
            if key not in self._held:
                grown.pop(key, None)  # written in place, and there before
        total = sum(more for _, more in grown.values())
        if self.limit is not None and self.live + total > self.limit:
            return total
        for storage, more in grown.values():
            self._take(storage, more)
        return 0

    def _take(self, storage: UntypedStorage, more: int) -> None:
        held = self._held.get(id(storage))
        if held is None:
            held = self._held[id(storage)] = Held(storage, self._give_back)
        held.size += more
        self.live += more
        self.peak = max(self.peak, self.live)

    def _give_back(self, held: Held) -> None:
        del self._held[held.key]
        self.live -= held.size

    def _full(self, wanted: int) -> torch.OutOfMemoryError:
        limit = self.limit or 0
        return torch.OutOfMemoryError(
            f"Simulated card out of memory. Tried to allocate {mebibytes(wanted)}. The card has "
            f"a total capacity of {mebibytes(limit)} of which {mebibytes(limit - self.live)} is "
            "free."
        )


class Held(weakref.ref[UntypedStorage]):
    """A storage on the card, known by `key`, and the `size` it was charged with."""

    __slots__ = ("key", "size")

    def __init__(self, storage: UntypedStorage, died: Callable[[Held], None]) -> None:
        super().__init__(storage, died)  # type: ignore[call-arg]
        self.key, self.size = id(storage), 0


@cache
def kind_of(func: OpOverload) -> Kind:
    """How an operation is counted.

    Attention counts as the fused kernel that a card has for it, whatever this device would
    do: nothing but its output. Repeating pixels is one kernel too, though torch also knows
    it as arithmetic in float32.
    """
    if func is torch.ops.aten.lift_fresh.default:
        return Kind.BIRTH
    if func in (
        torch.ops.aten.scaled_dot_product_attention.default,
        torch.ops.aten.upsample_nearest2d.vec,
    ):
        return Kind.KERNEL
    if func._can_decompose():
        return Kind.COMPOSITE
    return Kind.VIEW if func.is_view else Kind.KERNEL


def tensors(value: Any) -> Iterable[Tensor]:
    """The tensors of an operation's arguments or results, however they are nested."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors(part)


def rounded(size: int) -> int:
    """The bytes that an allocator takes for a request of `size` bytes."""
    return -(-size // GRAIN) * GRAIN


def mebibytes(size: int) -> str:
    """A size as torch prints it."""
    return f"{size / 2**20:.2f} MiB"
