"""Weights on a card, for as long as they are needed there; the only owner of copy streams.

The host keeps every weight. `on_card` lends a network to a card: what is not a block, and as
many blocks as the plan says, are copied there and stay; the other blocks stream. Each of
those is one flat buffer on the host, copied into one of two slots on the card while the
block before it computes; after the last comes the first again, for the next evaluation.
Nothing is hooked and no forward is replaced: the blocks come out of an iterable, and whoever
runs them does not know where they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

ALIGNMENT = 256  # bytes; a kernel may be chosen by the alignment of what it reads
SLOTS = 2

Place = tuple[dict[str, Tensor | None], str]  # where a module keeps a tensor, and its name there


@dataclass(frozen=True, slots=True)
class Piece:
    """One tensor of a block: where the module keeps it, and where it lies in the flat buffer."""

    place: Place
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int

    def view(self, flat: Tensor) -> Tensor:
        """The tensor within a flat buffer of bytes."""
        size = prod(self.shape) * self.dtype.itemsize
        return flat[self.start : self.start + size].view(self.dtype).view(self.shape)


@dataclass(frozen=True, slots=True)
class Flat:
    """The tensors of a block, end to end in `size` bytes."""

    pieces: tuple[Piece, ...]
    size: int

    @classmethod
    def of(cls, block: nn.Module, without: frozenset[str] = frozenset()) -> Flat:
        """Lay out a block's parameters and buffers, but those of the children named."""
        pieces, start = [], 0
        for place in places(block, without):
            tensor = look(place)
            pieces.append(Piece(place, tensor.dtype, tuple(tensor.shape), start))
            start += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
        return cls(tuple(pieces), start)

    def pack(self, flat: Tensor) -> None:
        """Copy the block's tensors into a flat buffer."""
        for piece in self.pieces:
            piece.view(flat).copy_(look(piece.place))

    def point(self, flat: Tensor) -> None:
        """Let the block use the tensors of a flat buffer."""
        for piece in self.pieces:
            put(piece.place, piece.view(flat))


class Stream:
    """Blocks, of which some stay on the card and the others pass through two slots.

    Iterate once per run through the network. A slot is filled again only after the block
    that used it has run, and a block runs only after its slot is filled; on a card both are
    events between two streams, and the host never waits. `copied`: bytes so far.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        resident: int,
        device: torch.device,
        without: frozenset[str] = frozenset(),
    ) -> None:
        self.blocks, self.device, self.copied = tuple(blocks), device, 0
        stay = spread(resident, len(blocks))
        flats = [Flat.of(block, without) for block in blocks]
        self._streamed = {i: flat for i, flat in enumerate(flats) if i not in stay}
        self._hosts = {i: host_buffer(flat, device) for i, flat in self._streamed.items()}
        for i in stay:
            held = torch.empty(flats[i].size, dtype=torch.uint8, device=device)
            flats[i].pack(held)
            flats[i].point(held)
        largest = max((flat.size for flat in self._streamed.values()), default=0)
        self._slots = [
            torch.empty(largest, dtype=torch.uint8, device=device)
            for _ in range(min(SLOTS, len(self._streamed)))
        ]
        self._turn = Turn.on(device)
        self._order = tuple(self._streamed)
        self._ahead = 0  # of the streamed blocks, in endless rounds: the next to be copied
        self._behind = 0  # and the next to run
        if self._order:
            self._prefetch()

    def __iter__(self) -> Iterator[nn.Module]:
        if self._order and self._behind % len(self._order):  # a round was left halfway
            self._turn.restart()
            self._ahead = self._behind = 0
            self._prefetch()
        for i, block in enumerate(self.blocks):
            if i not in self._streamed:
                yield block
                continue
            slot = self._behind % len(self._slots)
            self._turn.wait_filled(slot)
            flat = self._streamed[i]
            flat.point(self._slots[slot])
            self._behind += 1
            if len(self._slots) > 1:
                self._prefetch()
            yield block
            self._turn.note_used(slot)
            if len(self._slots) == 1:
                self._prefetch()

    def finish(self) -> None:
        """Let what is computed later, and may be given the slots' memory, wait for all copies."""
        self._turn.finish()

    def _prefetch(self) -> None:
        """Start to copy the next streamed block into the slot whose turn it is."""
        i = self._order[self._ahead % len(self._order)]
        slot = self._ahead % len(self._slots)
        size = self._streamed[i].size
        with self._turn.filling(slot):
            self._slots[slot][:size].copy_(self._hosts[i], non_blocking=True)
        self.copied += size
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
def on_card(
    module: nn.Module,
    blocks: Sequence[nn.Module],
    device: torch.device,
    *,
    resident: int,
    without: frozenset[str] = frozenset(),
) -> Iterator[Stream]:
    """Lend `module` to a card; give the blocks in order, wherever they are.

    `blocks`: those of its children that may stream. `resident`: how many of them stay.
    `without`: names of children that stay on the host altogether. At the end the module has
    the host's tensors again, the very same, and the card's are free. A device that is the
    host's own serves as a card too: it holds copies.
    """
    inside = {id(part) for block in blocks for part in block.modules()}
    outside = list(places(module, without, inside))
    homes = [(place, look(place)) for place in (*outside, *_all(blocks, without))]
    stream = None
    try:
        for place in outside:
            put(place, look(place).detach().to(device, copy=True))
        stream = Stream(blocks, resident, device, without)
        yield stream
    finally:
        if stream is not None:
            stream.finish()
        for place, home in homes:
            place[0][place[1]] = home


def spread(resident: int, count: int) -> frozenset[int]:
    """Which of `count` blocks stay: as evenly as can be, so that copies find time between."""
    return frozenset(i for i in range(count) if (i + 1) * resident // count > i * resident // count)


def host_buffer(flat: Flat, device: torch.device) -> Tensor:
    """A block's tensors end to end in the host's memory, pinned if the device is a card."""
    buffer = torch.empty(flat.size, dtype=torch.uint8, pin_memory=device.type == "cuda")
    flat.pack(buffer)
    return buffer


def places(
    module: nn.Module, without: frozenset[str] = frozenset(), skipped: Iterable[int] = ()
) -> Iterator[Place]:
    """Where a module and its children keep tensors, but for the children named or skipped."""
    for name, part in module.named_modules():
        if id(part) in skipped or without & set(name.split(".")):
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


def _all(blocks: Sequence[nn.Module], without: frozenset[str]) -> Iterator[Place]:
    for block in blocks:
        yield from places(block, without)
