"""The tensors of a block in one flat buffer, and the block with the buffer's tensors in place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from torch import Tensor, nn

from sakuga.memory.costs import ALIGNMENT
from sakuga.memory.pinned import StagingBuffer

STAGED = 2**20  # bytes from which a tensor is worth the staging buffer

ChildNames = frozenset[str]  # of submodules, wherever they are in the tree of a module


@dataclass(frozen=True, slots=True)
class ModuleTensor:
    """A parameter or a buffer of a module: the dictionary that holds it, and its name there."""

    holder: dict[str, Tensor | None]
    name: str

    def get(self) -> Tensor:
        """The tensor that is there now."""
        tensor = self.holder[self.name]
        assert tensor is not None
        return tensor

    def set(self, tensor: Tensor) -> None:
        """Let the module use another tensor; a parameter stays a parameter."""
        parameter = isinstance(self.holder[self.name], nn.Parameter)
        self.holder[self.name] = nn.Parameter(tensor, requires_grad=False) if parameter else tensor

    def restore(self, tensor: Tensor) -> None:
        """Let the module use a tensor that it had before, the very same object."""
        self.holder[self.name] = tensor


def module_tensors(module: nn.Module, without: ChildNames = frozenset()) -> Iterator[ModuleTensor]:
    """The parameters and buffers of a module, but not those below the children named."""
    for path, part in module.named_modules():
        if without & set(path.split(".")):
            continue
        for holder in (part._parameters, part._buffers):
            for name, tensor in holder.items():
                if tensor is not None:
                    yield ModuleTensor(holder, name)


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a flat buffer: where its module keeps it, its host tensor, its first byte."""

    owner: ModuleTensor
    host: Tensor
    start: int

    def view(self, flat: Tensor) -> Tensor:
        """The tensor as a view of a flat buffer of bytes."""
        shape = tuple(self.host.shape)
        size = prod(shape) * self.host.dtype.itemsize
        return flat[self.start : self.start + size].view(self.host.dtype).view(shape)


@dataclass(frozen=True, slots=True)
class FlatLayout:
    """The tensors of a block laid end to end, so that one copy moves them all.

    size: bytes of a flat buffer for them, with each tensor aligned.
    """

    entries: tuple[Entry, ...]
    size: int

    @classmethod
    def of(cls, block: nn.Module, without: ChildNames = frozenset()) -> FlatLayout:
        """Lay out a block's parameters and buffers, but not those below the children named."""
        entries, start = list[Entry](), 0
        for owner in module_tensors(block, without):
            tensor = owner.get()
            entries.append(Entry(owner, tensor, start))
            start += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
        return cls(tuple(entries), start)

    @property
    def hosts(self) -> tuple[Tensor, ...]:
        """The tensors in the host's memory."""
        return tuple(entry.host for entry in self.entries)

    def fill(self, flat: Tensor, staging: StagingBuffer | None = None) -> None:
        """Copy the host's tensors into a flat buffer of `size` bytes or more.

        staging: speeds up a copy to a card from memory that is not pinned.
        """
        for entry in self.entries:
            target = entry.view(flat)
            if staging and target.nbytes >= STAGED:
                staging.copy(entry.host, target)
            else:
                target.copy_(entry.host, non_blocking=True)

    def attach(self, flat: Tensor) -> None:
        """Let the block use the tensors of a filled flat buffer."""
        for entry in self.entries:
            entry.owner.set(entry.view(flat))

    def detach(self) -> None:
        """Let the block use the host's tensors again, the very same objects."""
        for entry in self.entries:
            entry.owner.restore(entry.host)
