"""Pinned memory of the host, and copies through it from memory that is not pinned."""

from __future__ import annotations

import mmap
import weakref
from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor


class PinnedBuffer:
    """Pinned (page-locked) memory of the host, which a card reads by itself, while this lives.

    It is registered to the byte: torch's own allocator of pinned memory would round a block of
    156 MB up to 268. It is filled before it is registered, so that all cores together touch the
    pages for the first time, where the driver would do it with one: six GB are pinned in a
    fifth of the time. Raises OSError where the system or the driver has none to give.
    """

    def __init__(self, size: int, device: torch.device, fill: Callable[[Tensor], object]) -> None:
        pages = host_pages(max(size, 1))
        self.bytes = torch.frombuffer(pages, dtype=torch.uint8)
        fill(self.bytes)
        if not register(self.bytes, device):
            raise OSError(f"{size} bytes cannot be pinned")
        # The pages are an argument so that they are there until the driver has let go.
        weakref.finalize(self, _unregister, self.bytes.data_ptr(), device, pages)


class StagingBuffer:
    """Copies from any host memory to a card, through two halves of a pinned buffer.

    One half is filled, by all cores, while the card reads the other: several times as fast as
    the driver, which stages copies from pageable memory with one core.
    """

    def __init__(self, pinned: PinnedBuffer) -> None:
        self.pinned = pinned
        self._halves = pinned.bytes.chunk(2)
        self._read = tuple(torch.cuda.Event() for _ in self._halves)  # by the card, to its end
        self._next = 0

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Copy into a tensor of the same shape and dtype on a card, on its current stream."""
        size = self._halves[0].nbytes
        here, there = (one.reshape(-1).view(torch.uint8) for one in (source, target))
        for part, place in zip(here.split(size), there.split(size), strict=True):
            half, read = self._halves[self._next][: part.nbytes], self._read[self._next]
            read.synchronize()
            place.copy_(half.copy_(part), non_blocking=True)
            read.record(torch.cuda.current_stream(target.device))
            self._next = 1 - self._next


def host_pages(size: int) -> mmap.mmap:
    """Fresh memory of the host, of large pages where the system has them."""
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return mmap.mmap(-1, size)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a system may be built without
            pages.madvise(mmap.MADV_HUGEPAGE)
    return pages


def register(memory: Tensor, device: torch.device) -> bool:
    """Ask the driver to pin memory of the host; whether it did."""
    if not int(torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), memory.nbytes, 0)):
        return True
    # CUDA tells of a refusal whoever asks next: ask now, so that no kernel is blamed for it.
    with suppress(RuntimeError):
        torch.zeros(1, device=device)
    return False


def _unregister(address: int, device: torch.device, _pages: mmap.mmap) -> None:
    torch.cuda.synchronize(device)  # a copy may still be reading
    torch.cuda.cudart().cudaHostUnregister(address)
