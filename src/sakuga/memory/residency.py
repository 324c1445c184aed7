"""Weights on a card for as long as they are needed there; the only owner of copy streams.

Every weight lies in the host's memory, as a rule as a view of its mapped file. `on_device`
copies a module to a card for the length of a `with` block. `streamed` does the same for a list
of blocks, of which only some stay on the card. The others are prefetched: while one computes,
the next is copied into one of two slots on the card, and after the last comes the first again,
for the next pass through the network.

No hook is set and no forward is replaced: blocks come out of an iterable with their weights in
place, so a network that runs them is written as if they had always been on the card.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sakuga.memory.costs import SLOTS, spread
from sakuga.memory.flat import ChildNames, FlatLayout
from sakuga.memory.pinned import PinnedBuffer, StagingBuffer

STAGING = 64 * 2**20  # bytes of the staging buffer: two halves of 32 MiB


@dataclass(frozen=True, slots=True)
class PinnedCopy:
    """A pinned buffer, and the tensors that it holds a copy of."""

    hosts: tuple[Tensor, ...]
    buffer: PinnedBuffer

    def is_of(self, layout: FlatLayout) -> bool:
        """Whether a block still has the very tensors that were copied."""
        return list(map(id, self.hosts)) == list(map(id, layout.hosts))


class PinnedPool:
    """The pinned memory of the host for copies to one card: at most `limit` bytes, if not None.

    It keeps a pinned copy of each block that streams, from one drawing to the next and for as
    long as the block lives, as far as the limit and the system allow. What has no room is
    copied through one staging buffer, if there is room for that.
    """

    def __init__(self, device: torch.device, limit: int | None = None) -> None:
        self.device, self.limit = device, limit
        self._copies = weakref.WeakKeyDictionary[nn.Module, PinnedCopy]()
        self._staging: StagingBuffer | None = None

    @property
    def held(self) -> int:
        """Bytes pinned now."""
        buffers = [copy.buffer for copy in self._copies.values()]
        buffers += [self._staging.pinned] if self._staging else []
        return sum(one.bytes.nbytes for one in buffers)

    def copy_of(self, block: nn.Module, layout: FlatLayout) -> PinnedBuffer | None:
        """The pinned copy of a block's tensors, made now if there is room; else None."""
        found = self._copies.get(block)
        if found is not None and found.is_of(layout):
            return found.buffer
        self._copies.pop(block, None)  # of tensors that the block has no more
        found = None
        made = self._pin(layout.size, layout.fill)
        if made is not None:
            self._copies[block] = PinnedCopy(layout.hosts, made)
        return made

    @property
    def staging(self) -> StagingBuffer | None:
        """The staging buffer, made when it is first asked for; None without room for it."""
        if self._staging is None:
            made = self._pin(STAGING, Tensor.zero_)
            self._staging = None if made is None else StagingBuffer(made)
        return self._staging

    def _pin(self, size: int, fill: Callable[[Tensor], object]) -> PinnedBuffer | None:
        """A pinned buffer, filled, if there is room."""
        if self.limit is not None and self.held + size > self.limit:
            return None
        try:
            return PinnedBuffer(size, self.device, fill)
        except OSError:
            self.limit = self.held  # the system has no more to give; do not ask again
            return None


@dataclass(frozen=True, slots=True)
class SlotEvents:
    """Keeps copies into slots and blocks that compute from them apart, on a card by CUDA events.

    copying: the stream of the copies; computing is whatever stream is current. filled, used:
    an event for each slot, recorded when a copy into it, or the block that computes from it,
    has been queued. Without a card all is done in order anyway, and every method does nothing.
    """

    copying: torch.cuda.Stream | None
    filled: tuple[torch.cuda.Event, ...]
    used: tuple[torch.cuda.Event, ...]

    @classmethod
    def on(cls, device: torch.device) -> SlotEvents:
        """A new copy stream and new events of a card; none of any other device."""
        if device.type != "cuda":
            return cls(None, (), ())
        copying = torch.cuda.Stream(device)
        # What the slots' memory was used for before has to be over.
        copying.wait_stream(torch.cuda.current_stream(device))
        filled, used = (tuple(torch.cuda.Event() for _ in range(SLOTS)) for _ in range(2))
        return cls(copying, filled, used)

    @contextmanager
    def filling(self, slot: int) -> Iterator[None]:
        """Within, copies into `slot` are queued; they wait for the block that last used it."""
        if self.copying is None:
            yield
            return
        self.copying.wait_event(self.used[slot])
        with torch.cuda.stream(self.copying):
            yield
            self.filled[slot].record(self.copying)

    def wait_filled(self, slot: int) -> None:
        """Let what is computed from now on wait until `slot` is filled."""
        if self.copying is not None:
            torch.cuda.current_stream(self.copying.device).wait_event(self.filled[slot])

    def record_used(self, slot: int) -> None:
        """Let the next copy into `slot` wait for what has been computed up to now."""
        if self.copying is not None:
            self.used[slot].record(torch.cuda.current_stream(self.copying.device))

    def wait_computed(self) -> None:
        """Let all copies from now on wait for what has been computed up to now."""
        if self.copying is not None:
            self.copying.wait_stream(torch.cuda.current_stream(self.copying.device))

    def wait_copied(self) -> None:
        """Let what is computed from now on wait for all copies up to now."""
        if self.copying is not None:
            torch.cuda.current_stream(self.copying.device).wait_stream(self.copying)


class BlockStream:
    """Blocks of a network, of which some stay on a card and the others pass through two slots.

    Once loaded, iterate once per pass through the network. A slot is filled again only after
    the block that used it has run, and a block runs only after its slot is filled. On a card
    both are events between two streams, so the host never waits while what streams is pinned.
    `copied`: bytes copied into slots so far.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        device: torch.device,
        resident: int,
        without: ChildNames,
        pool: PinnedPool | None,
        again: bool,
    ) -> None:
        self.blocks, self.device, self.copied = tuple(blocks), device, 0
        self._pool, self._again = pool, again
        self._layouts = [FlatLayout.of(block, without) for block in blocks]
        self._events = SlotEvents.on(device)
        stay = spread(resident, len(blocks))
        self._streamed = tuple(i for i in range(len(blocks)) if i not in stay)
        self._pinned: dict[int, PinnedBuffer | None] = {}
        self._slots: list[Tensor] = []
        # Both count streamed blocks, from one pass to the next without end.
        self._copies = 0  # started
        self._runs = 0  # done

    def load(self) -> None:
        """Copy what stays, and prefetch the first of the others; where that fails, `finish`."""
        for i, layout in enumerate(self._layouts):
            if i in self._streamed:
                pool = self._pool if self._again else None
                self._pinned[i] = pool.copy_of(self.blocks[i], layout) if pool else None
            else:
                flat = torch.empty(layout.size, dtype=torch.uint8, device=self.device)
                layout.fill(flat, self._staging)
                layout.attach(flat)
        largest = max((self._layouts[i].size for i in self._streamed), default=0)
        for _ in self._streamed[:SLOTS]:
            self._slots.append(torch.empty(largest, dtype=torch.uint8, device=self.device))
        self._prefetch()

    def __iter__(self) -> Iterator[nn.Module]:
        if self._streamed and self._runs % len(self._streamed):  # a pass was left halfway
            self._events.wait_computed()
            self._copies = self._runs = 0
        if self._copies == self._runs:
            self._prefetch()
        for i, block in enumerate(self.blocks):
            if i not in self._streamed:
                yield block
                continue
            slot = self._runs % len(self._slots)
            self._events.wait_filled(slot)
            self._layouts[i].attach(self._slots[slot])
            yield block
            self._runs += 1
            self._events.record_used(slot)
            # Not before the block has run: a copy from memory that is not pinned keeps the host
            # busy, which by now has queued all of the block's kernels.
            if self._again or self._copies % len(self._streamed):
                self._prefetch()

    def finish(self) -> None:
        """Give the blocks the host's tensors again, and let later work wait for all copies."""
        self._events.wait_copied()
        for layout in self._layouts:
            layout.detach()
        self._slots.clear()

    @property
    def _staging(self) -> StagingBuffer | None:
        return self._pool.staging if self._pool else None

    def _prefetch(self) -> None:
        """Start to copy the next streamed block into the slot that is next."""
        if not self._streamed:
            return
        i = self._streamed[self._copies % len(self._streamed)]
        slot, layout = self._copies % len(self._slots), self._layouts[i]
        with self._events.filling(slot):
            pinned = self._pinned[i]
            if pinned is None:
                layout.fill(self._slots[slot], self._staging)
            else:
                self._slots[slot][: layout.size].copy_(pinned.bytes, non_blocking=True)
        self.copied += layout.size
        self._copies += 1


@contextmanager
def on_device(
    module: nn.Module,
    device: torch.device,
    without: ChildNames = frozenset(),
    pool: PinnedPool | None = None,
) -> Iterator[None]:
    """Within, `module` computes on a card with copies of its tensors; then with its own again.

    without: children whose tensors stay in the host's memory. pool: has the staging buffer for
    the copies. A device that is the host itself serves as a card too: it gets copies as well.
    """
    layout = FlatLayout.of(module, without)
    try:
        flat = torch.empty(layout.size, dtype=torch.uint8, device=device)
        layout.fill(flat, pool.staging if pool else None)
        layout.attach(flat)
        del flat
        yield
    finally:
        layout.detach()


@contextmanager
def streamed(
    blocks: Sequence[nn.Module],
    device: torch.device,
    resident: int,
    without: ChildNames = frozenset(),
    pool: PinnedPool | None = None,
    again: bool = True,
) -> Iterator[BlockStream]:
    """Within, blocks compute on a card: `resident` of them stay there, the others stream.

    without: children whose tensors stay in the host's memory. pool: keeps pinned copies of what
    streams; without one, it is copied from where it lies. again: the blocks will be iterated
    more than once, so that pinning them is worth its time.
    """
    stream = BlockStream(blocks, device, resident, without, pool, again)
    try:
        stream.load()
        yield stream
    finally:
        stream.finish()
