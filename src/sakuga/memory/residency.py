"""Weights on a card, for as long as they are needed there; the only owner of copy streams.

The host keeps every weight, as a rule as a view of its mapped file. `lent` copies a network
to a card for a while; `streamed` does so with as many blocks as the plan says, and lets the
others stream: each is copied into one of two slots on the card while the block before it
computes, and after the last comes the first again, for the next evaluation.
Nothing is hooked and no forward is replaced: the blocks come out of an iterable, and whoever
runs them does not know where they were.
"""

from __future__ import annotations

import mmap
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from sakuga.memory.placement import ALIGNMENT, SLOTS, spread

FERRY = 2 * 2**25  # bytes of pinned memory through which copies from other memory go
FERRIED = 2**20  # bytes; what is smaller is copied without

Place = tuple[dict[str, Tensor | None], str]  # where a module keeps a tensor, and its name there
Names = frozenset[str]


@dataclass(frozen=True, slots=True)
class Piece:
    """One tensor of a block: where the module keeps it, and where it lies in the flat buffer."""

    place: Place
    host: Tensor
    start: int

    def view(self, flat: Tensor) -> Tensor:
        """The tensor within a flat buffer of bytes."""
        shape = tuple(self.host.shape)
        size = prod(shape) * self.host.dtype.itemsize
        return flat[self.start : self.start + size].view(self.host.dtype).view(shape)


@dataclass(frozen=True, slots=True)
class Flat:
    """The tensors of a block on the host, and how they lie end to end in `size` bytes."""

    pieces: tuple[Piece, ...]
    size: int

    @classmethod
    def of(cls, block: nn.Module, without: Names = frozenset()) -> Flat:
        """Lay out a block's parameters and buffers, but those of the children named."""
        pieces, start = [], 0
        for place in places(block, without):
            tensor = look(place)
            pieces.append(Piece(place, tensor, start))
            start += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
        return cls(tuple(pieces), start)

    @property
    def hosts(self) -> tuple[Tensor, ...]:
        """The tensors themselves."""
        return tuple(piece.host for piece in self.pieces)

    def fill(self, flat: Tensor, ferry: Ferry | None = None) -> None:
        """Copy the block's tensors into a flat buffer, on a card through a `ferry` if given."""
        for piece in self.pieces:
            target = piece.view(flat)
            if ferry and target.nbytes >= FERRIED:
                ferry.carry(piece.host, target)
            else:
                target.copy_(piece.host, non_blocking=True)

    def point(self, flat: Tensor) -> None:
        """Let the block use the tensors of a flat buffer."""
        for piece in self.pieces:
            put(piece.place, piece.view(flat))

    def return_home(self) -> None:
        """Let the block use the host's tensors again, the very same."""
        for piece in self.pieces:
            piece.place[0][piece.place[1]] = piece.host


class Pins:
    """Host memory that a card may read by itself, at most `limit` bytes; None is no limit.

    Blocks that stream lie here as flat buffers, from one drawing to the next, as far as the
    limit and the system allow, and for as long as the blocks live; what has no room goes
    through a ferry, if that has. `held`: bytes pinned now.
    """

    def __init__(self, device: torch.device, limit: int | None = None) -> None:
        self.device, self.limit = device, limit
        self._copies = weakref.WeakKeyDictionary[nn.Module, Copy]()
        self._ferry: Ferry | None = None

    @property
    def held(self) -> int:
        """Bytes pinned now."""
        pinned = [copy.pinned for copy in self._copies.values()]
        pinned += [self._ferry.pinned] if self._ferry else []
        return sum(one.bytes.nbytes for one in pinned)

    def copy(self, block: nn.Module, flat: Flat) -> Pinned | None:
        """The pinned copy of a block's tensors, made now if there is room; else None."""
        found = self._copies.get(block)
        if found is not None and found.shows(flat):
            return found.pinned
        self._copies.pop(block, None)  # of tensors that the block has no more
        found = None
        made = self._pin(flat.size, flat.fill)
        if made is not None:
            self._copies[block] = Copy(flat.hosts, made)
        return made

    @property
    def ferry(self) -> Ferry | None:
        """The way for copies from memory that is not pinned; None without room for it."""
        if self._ferry is None:
            made = self._pin(FERRY, Tensor.zero_)
            self._ferry = None if made is None else Ferry(made)
        return self._ferry

    def _pin(self, size: int, fill: Callable[[Tensor], object]) -> Pinned | None:
        """So many bytes, filled, if there is room."""
        if self.limit is not None and self.held + size > self.limit:
            return None
        try:
            return Pinned(size, self.device, fill)
        except OSError:
            self.limit = self.held  # the system has no more to give; do not ask again
            return None


class Pinned:
    """Bytes of the host that no system call moves and a card reads by itself, while this lives.

    Registered to the byte: torch's own allocator of pinned memory would round a block of 156
    MB up to 268. They are filled before: all cores together touch the pages for the first
    time, where the driver would by itself, and six GB are pinned in a fifth of the time.
    Raises OSError where the system or the driver has none to give.
    """

    def __init__(self, size: int, device: torch.device, fill: Callable[[Tensor], object]) -> None:
        pages = host_pages(max(size, 1))
        self.bytes = torch.frombuffer(pages, dtype=torch.uint8)
        fill(self.bytes)
        if not register(self.bytes, device):
            raise OSError(f"{size} bytes cannot be pinned")
        # The pages are an argument so that they are there until the driver has let go.
        weakref.finalize(self, _let_go, self.bytes.data_ptr(), device, pages)


@dataclass(frozen=True, slots=True)
class Copy:
    """Pinned bytes, and the tensors that they are a copy of."""

    hosts: tuple[Tensor, ...]
    pinned: Pinned

    def shows(self, flat: Flat) -> bool:
        """Whether a block still has the very tensors."""
        return list(map(id, self.hosts)) == list(map(id, flat.hosts))


class Ferry:
    """Copies from any host memory to a card, through two halves of a pinned buffer.

    One half is filled, by all cores, while the card reads the other: several times as fast as
    the driver, which fills a buffer of its own with one core.
    """

    def __init__(self, pinned: Pinned) -> None:
        self.pinned = pinned
        self._halves = pinned.bytes.chunk(2)
        self._read = tuple(torch.cuda.Event() for _ in self._halves)
        self._turn = 0

    def carry(self, source: Tensor, target: Tensor) -> None:
        """Copy into a tensor of the same kind on the card, in order with its current stream."""
        size = self._halves[0].nbytes
        cargo, place = (one.reshape(-1).view(torch.uint8) for one in (source, target))
        for some, there in zip(cargo.split(size), place.split(size), strict=True):
            half, read = self._halves[self._turn][: some.nbytes], self._read[self._turn]
            read.synchronize()
            there.copy_(half.copy_(some), non_blocking=True)
            read.record(torch.cuda.current_stream(target.device))
            self._turn = 1 - self._turn


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


def _let_go(address: int, device: torch.device, _pages: mmap.mmap) -> None:
    torch.cuda.synchronize(device)  # a copy may still be reading
    torch.cuda.cudart().cudaHostUnregister(address)


class Stream:
    """Blocks, of which some stay on the card and the others pass through two slots.

    Once loaded, iterate once per run through the network. A slot is filled again only after
    the block that used it has run, and a block runs only after its slot is filled; on a card
    both are events between two streams, and the host never waits while what streams is
    pinned. `copied`: bytes so far.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        device: torch.device,
        resident: int,
        without: Names,
        pins: Pins | None,
        again: bool,
    ) -> None:
        self.blocks, self.device, self.copied = tuple(blocks), device, 0
        self._pins, self._again = pins, again
        self._flats = [Flat.of(block, without) for block in blocks]
        self._turn = Turn.on(device)
        stay = spread(resident, len(blocks))
        self._order = tuple(i for i in range(len(blocks)) if i not in stay)
        self._pinned: dict[int, Pinned | None] = {}
        self._slots: list[Tensor] = []
        self._ahead = 0  # of the streamed blocks, in endless rounds: the next to be copied
        self._behind = 0  # and the next to run

    def load(self) -> None:
        """Copy what stays, and begin with what does not; where that fails, `finish` it."""
        for i, flat in enumerate(self._flats):
            if i in self._order:
                pin = self._pins if self._again else None
                self._pinned[i] = pin.copy(self.blocks[i], flat) if pin else None
            else:
                held = torch.empty(flat.size, dtype=torch.uint8, device=self.device)
                flat.fill(held, self._ferry)
                flat.point(held)
        largest = max((self._flats[i].size for i in self._order), default=0)
        for _ in self._order[:SLOTS]:
            self._slots.append(torch.empty(largest, dtype=torch.uint8, device=self.device))
        self._prefetch()

    def __iter__(self) -> Iterator[nn.Module]:
        if self._order and self._behind % len(self._order):  # a round was left halfway
            self._turn.restart()
            self._ahead = self._behind = 0
        if self._ahead == self._behind:
            self._prefetch()
        for i, block in enumerate(self.blocks):
            if i not in self._order:
                yield block
                continue
            slot = self._behind % len(self._slots)
            self._turn.wait_filled(slot)
            self._flats[i].point(self._slots[slot])
            yield block
            self._behind += 1
            self._turn.note_used(slot)
            # Only now: a copy from memory that is not pinned keeps the host, which by then has
            # handed the card this block to compute.
            if self._again or self._ahead % len(self._order):
                self._prefetch()

    def finish(self) -> None:
        """Give the blocks their own tensors, and let later work wait for all copies."""
        self._turn.finish()
        for flat in self._flats:
            flat.return_home()
        self._slots.clear()

    @property
    def _ferry(self) -> Ferry | None:
        return self._pins.ferry if self._pins else None

    def _prefetch(self) -> None:
        """Start to copy the next streamed block into the slot whose turn it is."""
        if not self._order:
            return
        i = self._order[self._ahead % len(self._order)]
        slot, flat = self._ahead % len(self._slots), self._flats[i]
        with self._turn.filling(slot):
            pinned = self._pinned[i]
            if pinned is None:
                flat.fill(self._slots[slot], self._ferry)
            else:
                self._slots[slot][: flat.size].copy_(pinned.bytes, non_blocking=True)
        self.copied += flat.size
        self._ahead += 1


@dataclass(frozen=True, slots=True)
class Turn:
    """Who may touch a slot: on a card, events between the copying and the computing stream."""

    stream: torch.cuda.Stream | None
    filled: tuple[torch.cuda.Event, ...]
    used: tuple[torch.cuda.Event, ...]

    @classmethod
    def on(cls, device: torch.device) -> Turn:
        """Streams and events of a card; nothing at all on the CPU, where all is in order."""
        if device.type != "cuda":
            return cls(None, (), ())
        stream = torch.cuda.Stream(device)
        # What the slots' memory was used for before has to be over.
        stream.wait_stream(torch.cuda.current_stream(device))
        filled, used = (tuple(torch.cuda.Event() for _ in range(SLOTS)) for _ in range(2))
        return cls(stream, filled, used)

    @contextmanager
    def filling(self, slot: int) -> Iterator[None]:
        """Within, copies into `slot` wait for the block that used it, and others for them."""
        if self.stream is None:
            yield
            return
        self.stream.wait_event(self.used[slot])
        with torch.cuda.stream(self.stream):
            yield
            self.filled[slot].record(self.stream)

    def wait_filled(self, slot: int) -> None:
        """Let what is computed next wait until `slot` is filled."""
        if self.stream is not None:
            torch.cuda.current_stream(self.stream.device).wait_event(self.filled[slot])

    def note_used(self, slot: int) -> None:
        """Note that what was computed so far is all that needs `slot` as it is."""
        if self.stream is not None:
            self.used[slot].record(torch.cuda.current_stream(self.stream.device))

    def restart(self) -> None:
        """Let later copies come after all that was computed so far."""
        if self.stream is not None:
            self.stream.wait_stream(torch.cuda.current_stream(self.stream.device))

    def finish(self) -> None:
        """Let later work of the computing stream come after every copy."""
        if self.stream is not None:
            torch.cuda.current_stream(self.stream.device).wait_stream(self.stream)


@contextmanager
def lent(
    module: nn.Module,
    device: torch.device,
    without: Names = frozenset(),
    pins: Pins | None = None,
) -> Iterator[None]:
    """Let `module` have its tensors on a card, but those of its children named in `without`.

    At the end it has the host's again, the very same, and the card's are free. A device that
    is the host's own serves as a card too: it holds copies.
    """
    flat = Flat.of(module, without)
    try:
        held = torch.empty(flat.size, dtype=torch.uint8, device=device)
        flat.fill(held, pins.ferry if pins else None)
        flat.point(held)
        del held
        yield
    finally:
        flat.return_home()


@contextmanager
def streamed(
    blocks: Sequence[nn.Module],
    device: torch.device,
    resident: int,
    without: Names = frozenset(),
    pins: Pins | None = None,
    again: bool = True,
) -> Iterator[Stream]:
    """Blocks in order, of which `resident` stay on a card and the others pass through it.

    `without`: names of children that stay on the host altogether. `pins`: where copies of
    what streams may be pinned; without, it is copied from where it lies. `again`: the blocks
    will pass more than once, so that pinning them is worth its time.
    """
    stream = Stream(blocks, device, resident, without, pins, again)
    try:
        stream.load()
        yield stream
    finally:
        stream.finish()


def places(module: nn.Module, without: Names = frozenset()) -> Iterator[Place]:
    """Where a module and its children keep tensors, but for the children named."""
    for name, part in module.named_modules():
        if without & set(name.split(".")):
            continue
        for kept in (part._parameters, part._buffers):
            for key, tensor in kept.items():
                if tensor is not None:
                    yield kept, key


def look(place: Place) -> Tensor:
    """The tensor that is kept at a place."""
    tensor = place[0][place[1]]
    assert tensor is not None
    return tensor


def put(place: Place, tensor: Tensor) -> None:
    """Keep another tensor at a place; a parameter where there was one."""
    held = look(place)
    place[0][place[1]] = (
        nn.Parameter(tensor, requires_grad=False) if isinstance(held, nn.Parameter) else tensor
    )
