"""Where networks are while they draw: on the host itself, on a card, or on a simulated one.

A host that computes uses every weight where it lies. A card is lent what a stage needs, for
as long as the stage runs, or for good where all networks are kept. A CPU with a budget is a
simulated card: it is lent copies, and a ledger counts them with everything else that a card
would hold, and refuses beyond the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from sakuga.memory.cards import CPU, LARGE_WORKSPACE, SMALL_WORKSPACE, Card, nearest_card
from sakuga.memory.flat import ChildNames
from sakuga.memory.host import host_memory, resident_bytes
from sakuga.memory.ledger import Ledger
from sakuga.memory.plan import Budget, parse_bytes
from sakuga.memory.report import Recorder
from sakuga.memory.residency import PinnedPool, on_device, streamed

LIBRARIES = 320 * 2**20  # bytes that kernels of libraries take of a card once they are loaded
PINNED = 2 * 2**30  # bytes that may be pinned where the system does not say what is free


class Home:
    """The device of an engine, with the budget it keeps.

    limit: bytes that may be reserved there, None for no limit; what this process had there
    before is beside it. pinned: bytes of host memory that a card may pin, None for as many as
    are wanted. `recorder`: what is told of stages.
    """

    def __init__(
        self, device: torch.device, limit: int | None = None, pinned: int | None = None
    ) -> None:
        self.device, self.limit = device, limit
        self.on_card = device.type == "cuda"
        self.pins = PinnedPool(device, pinned) if self.on_card else None
        self._others = others(device) if self.on_card else 0
        self.ledger = None if self.on_card or limit is None else Ledger(limit)
        self.recorder: Recorder | None = None
        self._what: Hashable = None
        self._stack, self._kept = ExitStack(), dict[Hashable, Any]()

    @property
    def lends(self) -> bool:
        """Whether weights have to be copied to be computed with."""
        return self.on_card or self.ledger is not None

    @contextmanager
    def lend(self, module: nn.Module, without: ChildNames = frozenset()) -> Iterator[None]:
        """Within, a network computes here, but for its children named in `without`."""
        with self._for_now_or_good(
            ("lend", module), lambda: on_device(module, self.device, without, self.pins),
            in_place=None,
        ):
            yield

    @contextmanager
    def stream(
        self, blocks: Sequence[nn.Module], resident: int = 0, without: ChildNames = frozenset(),
        again: bool = False,
    ) -> Iterator[Iterable[nn.Module]]:  # fmt: skip
        """Blocks in order, `resident` of them here to stay; iterate once per run through them.

        again: they will pass more than once, so that pinning what streams is worth its time.
        """
        stay = len(blocks) if self.keeps else resident
        with self._for_now_or_good(
            ("stream", *blocks),
            lambda: streamed(blocks, self.device, stay, without, self.pins, again),
            in_place=blocks,
        ) as found:
            yield found

    @contextmanager
    def _for_now_or_good(
        self, key: Hashable, make: Callable[[], AbstractContextManager[Any]], in_place: Any
    ) -> Iterator[Any]:
        """What `make` lends: until the end, or kept under `key`; nothing if all is in place."""
        if not self.lends:
            yield in_place
        elif not self.keeps:
            with make() as found:
                yield found
        else:
            if key not in self._kept:
                self._kept[key] = self._stack.enter_context(make())
            yield self._kept[key]

    def keep(self, what: Hashable) -> None:
        """What is lent from now on stays; what was kept leaves if it was something else."""
        if what != self._what:
            self.release()
        self._what = what

    def release(self) -> None:
        """What was kept leaves, and nothing stays from now on."""
        self._stack.close()
        self._kept.clear()
        self._what = None

    def begin(self, stage: str) -> None:
        """A stage begins: give back what nothing holds, so that none finds it in pieces."""
        if self.on_card and not self.keeps:
            torch.cuda.empty_cache()
        if self.recorder:
            self.recorder.enter(stage)

    @property
    def keeps(self) -> bool:
        """Whether what is lent stays lent."""
        return self._what is not None

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Within, what is computed counts, and may not pass the limit."""
        here = torch.cuda.device(self.device) if self.on_card else nullcontext()
        with torch.inference_mode(), here, self._limited(), self.ledger or nullcontext():
            yield

    @contextmanager
    def host(self) -> Iterator[None]:
        """Within `watch`, what is made lies in the host's memory and never counts."""
        with self.ledger.host() if self.ledger else nullcontext(), torch.inference_mode(False):
            yield

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """The allocator's own limit is the process's, so it is set for no longer than needed."""
        if not self.on_card or self.limit is None:
            yield
            return
        total = torch.cuda.get_device_properties(self.device).total_memory
        before = torch.cuda.get_per_process_memory_fraction(self.device)
        ours = min(before, (self.limit + self._others) / total)
        torch.cuda.set_per_process_memory_fraction(ours, self.device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(before, self.device)

    def memory(self) -> tuple[int, int]:
        """Bytes allocated and reserved now; of a host without a budget, those of this process."""
        if self.on_card:
            allocated = torch.cuda.memory_allocated(self.device)
            return allocated, torch.cuda.memory_reserved(self.device)
        used = self.ledger.live if self.ledger else resident_bytes()
        return used, used

    def peak(self) -> int:
        """The most bytes allocated at once since this was last asked."""
        if self.on_card:
            peak = torch.cuda.max_memory_allocated(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            return peak
        if self.ledger is None:
            return resident_bytes()
        peak = self.ledger.peak
        self.ledger.reset_peak()
        return peak


def open_home(device: torch.device, budget: Budget) -> Home:
    """The device with the budget that people asked for. Raises RequestError."""
    on_card, limit = device.type == "cuda", None
    if budget.vram != "auto":
        limit = parse_bytes(budget.vram)
    elif on_card:
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        limit = free + cached - LIBRARIES
    if budget.pinned != "auto":
        return Home(device, limit, parse_bytes(budget.pinned))
    _, free = host_memory()
    return Home(device, limit, free // 2 or PINNED)


def others(device: torch.device) -> int:
    """Bytes that this process holds of a card, but for the libraries' own, which plans count."""
    return max(0, torch.cuda.memory_allocated(device) - card_of(device).workspace)


def card_of(device: torch.device) -> Card:
    """What a plan must know of the card that is here: the nearest profile, and its own facts."""
    if device.type != "cuda":
        return CPU
    here = torch.cuda.get_device_properties(device)
    return replace(
        nearest_card(here.name),
        memory=here.total_memory,
        bfloat16=here.major >= 8,
        workspace=LARGE_WORKSPACE if here.major >= 9 else SMALL_WORKSPACE,
    )


def chip(device: torch.device) -> str:
    """What computes there: the name of a card, or what a CPU is capable of."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return torch.backends.cpu.get_cpu_capability()
