"""Where networks are while they draw: on the host itself, on a card, or on a simulated one.

A host that computes uses every weight where it lies. A card is lent what a stage needs, for
as long as the stage runs, or for good where all networks are kept. A CPU with a budget is a
simulated card: it is lent copies, and a ledger counts them with everything else that a card
would hold, and refuses beyond the budget.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sakuga.api.codec import unknown
from sakuga.api.engine_spec import Budget
from sakuga.errors import RequestError
from sakuga.memory.attention import AttentionChoice
from sakuga.memory.cards import CPU, LARGE_WORKSPACE, SMALL_WORKSPACE, Card, nearest_card
from sakuga.memory.flat import ChildNames
from sakuga.memory.host import host_memory, resident_bytes
from sakuga.memory.ledger import Ledger
from sakuga.memory.plan import parse_bytes
from sakuga.memory.residency import PinnedPool, on_device, streamed
from sakuga.model.fused.kernel import refusal

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
M = TypeVar("M", bound=nn.Module)
LIBRARIES = 320 * 2**20  # bytes that kernels of libraries take of a card once they are loaded
PINNED = 2 * 2**30  # bytes that may be pinned where the system does not say what is free

# The words of torch's allocators, of the driver, and of libraries that had no room to begin.
FULL = re.compile(
    "out of memory|can't allocate memory|ALLOC_FAILED|CUBLAS_STATUS_NOT_INITIALIZED"
    "|unable to find an engine", re.IGNORECASE,
)  # fmt: skip


class Device:
    """The device of an engine, with the budget it keeps.

    budget: the memory it may use; what it leaves open is read by `measure`. threads: how many
    compute on a CPU, None for as many as torch has. `limit`: bytes that may be reserved, None
    for no limit; what this process had there before is beside it. `pinned`: bytes of host
    memory that a card may pin. `kept`: what stays there from stage to stage. `attention`: names
    its back-end for each shape.
    """

    def __init__(
        self, where: torch.device, budget: Budget | None = None, threads: int | None = None
    ) -> None:
        self.where, self.budget, self.threads = where, budget or Budget(), threads
        self.on_card = where.type == "cuda"
        self.kept, self.attention = Kept(), AttentionChoice()
        self.limit: int | None = None
        self.pinned: int | None = None
        self._others = 0
        self._pool = PinnedPool(where) if self.on_card else None
        self.measure()
        self.ledger = None if self.on_card or self.limit is None else Ledger(self.limit)

    def measure(self) -> None:
        """Read what the budget leaves open: other programs come and go between drawings.

        Raises RequestError for a budget that is no amount of memory.
        """
        vram, pinned = self.budget.vram, self.budget.pinned
        self.limit = None if vram == "auto" else parse_bytes(vram)
        self.pinned = None if pinned == "auto" else parse_bytes(pinned)
        if self._pool is None:
            self.pinned = None
            return
        if not self.kept.keeps:  # what networks that are kept take is ours
            self._others = torch.cuda.memory_allocated(self.where)
        if self.limit is None:
            free, _ = torch.cuda.mem_get_info(self.where)
            reserved = torch.cuda.memory_reserved(self.where)
            self.limit = free + reserved - self._others - LIBRARIES
        if self.pinned is None:
            _, free = host_memory()
            self.pinned = (free + self._pool.held) // 2 if free else PINNED
        self._pool.limit = self.pinned

    @property
    def lends(self) -> bool:
        """Whether weights have to be copied to be computed with."""
        return self.on_card or self.ledger is not None

    def to_device(self, tensor: Tensor) -> Tensor:
        """A copy of a tensor of the host's on the device."""
        return tensor.to(self.where, copy=True)

    def to_host(self, tensor: Tensor) -> Tensor:
        """A copy of a tensor in the host's memory, where it counts for no budget."""
        with self.host():
            return tensor.to("cpu", copy=True)

    @contextmanager
    def lend(self, module: nn.Module, without: ChildNames = frozenset()) -> Iterator[None]:
        """Within, a network computes here, but for its children named in `without`."""
        if not self.lends:
            yield
            return
        make = partial(on_device, module, self.where, without, self._pool)
        with self.kept.borrow(("lend", module), make):
            yield

    @contextmanager
    def stream(
        self, blocks: Sequence[M], resident: int = 0, without: ChildNames = frozenset(),
        again: bool = False,
    ) -> Iterator[Iterable[M]]:  # fmt: skip
        """Blocks in order, `resident` of them here to stay; iterate once per run through them.

        again: they will pass more than once, so that pinning what streams is worth its time.
        """
        if not self.lends:
            yield blocks
            return
        stay = len(blocks) if self.kept.keeps else resident
        make = partial(streamed, blocks, self.where, stay, without, self._pool, again)
        with self.kept.borrow(("stream", *blocks), make) as found:
            yield found

    def tidy(self) -> None:
        """Between stages: give back what nothing holds, so that none finds memory in pieces."""
        if self.on_card and not self.kept.keeps:
            torch.cuda.empty_cache()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Within, what is computed counts, and may not pass the limit."""
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self.on_card:
                stack.enter_context(torch.cuda.device(self.where))
                if self.limit is not None:
                    beside = max(0, self._others - card_of(self.where).workspace)
                    stack.enter_context(_reserving(self.limit + beside, self.where))
            if self.threads is not None:
                stack.enter_context(_computing_with(self.threads))
            if self.ledger:
                stack.enter_context(self.ledger)
            yield

    @contextmanager
    def host(self) -> Iterator[None]:
        """Within `watch`, what is made lies in the host's memory and never counts."""
        with self.ledger.host() if self.ledger else nullcontext(), torch.inference_mode(False):
            yield

    def memory(self) -> tuple[int, int]:
        """Bytes allocated and reserved now; of a host without a budget, those of this process."""
        if self.on_card:
            allocated = torch.cuda.memory_allocated(self.where)
            return allocated, torch.cuda.memory_reserved(self.where)
        used = self.ledger.live if self.ledger else resident_bytes()
        return used, used

    def peak(self) -> int:
        """The most bytes allocated at once since this was last asked."""
        if self.on_card:
            peak = torch.cuda.max_memory_allocated(self.where)
            torch.cuda.reset_peak_memory_stats(self.where)
            return peak
        if self.ledger is None:
            return resident_bytes()
        peak = self.ledger.peak
        self.ledger.reset_peak()
        return peak


class Kept:
    """What was lent to a card and stays there, from stage to stage and drawing to drawing."""

    def __init__(self) -> None:
        self._what: Hashable = None
        self._stack, self._found = ExitStack(), dict[Hashable, Any]()

    @property
    def keeps(self) -> bool:
        """Whether what is lent stays lent."""
        return self._what is not None

    def keep(self, what: Hashable) -> None:
        """What is lent from now on stays; what was kept leaves if it was something else."""
        if what != self._what:
            self.release()
        self._what = what

    def release(self) -> None:
        """What was kept leaves, and nothing stays from now on."""
        self._stack.close()
        self._found.clear()
        self._what = None

    @contextmanager
    def borrow(
        self, key: Hashable, make: Callable[[], AbstractContextManager[Any]]
    ) -> Iterator[Any]:
        """What `make` lends: until the end, or, while things are kept, for good under `key`."""
        if not self.keeps:
            with make() as found:
                yield found
            return
        if key not in self._found:
            self._found[key] = self._stack.enter_context(make())
        yield self._found[key]


@contextmanager
def _reserving(limit: int, device: torch.device) -> Iterator[None]:
    """The allocator's own limit is the process's, so it is set for no longer than needed."""
    total = torch.cuda.get_device_properties(device).total_memory
    before = torch.cuda.get_per_process_memory_fraction(device)
    torch.cuda.set_per_process_memory_fraction(min(before, limit / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(before, device)


@contextmanager
def _computing_with(threads: int) -> Iterator[None]:
    """The number of threads is the process's, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
        fused=not refusal(device.index or 0),
    )


def chip(device: torch.device) -> str:
    """What computes there: the name of a card, or what a CPU is capable of."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return torch.backends.cpu.get_cpu_capability()


def choose_device(name: str) -> torch.device:
    """auto, cpu, cuda or cuda:N as a device. Raises RequestError if it is not there."""
    cards = torch.cuda.device_count() if name != "cpu" else 0
    if name == "auto":
        return torch.device("cuda:0" if cards else "cpu")
    known = ("cpu", "cuda", *(f"cuda:{i}" for i in range(cards)))
    if name not in known or (name == "cuda" and not cards):
        found = f"{cards} CUDA devices are here." if cards else "No CUDA device is here."
        raise RequestError("a device must be auto, cpu, cuda or cuda:N", repr(name), found)
    return torch.device("cuda:0" if name == "cuda" else name)


def choose_dtype(name: str, device: torch.device) -> str:
    """auto, float32, bfloat16 or float16 as a name of `DTYPES`. Raises RequestError on another.

    auto is bfloat16 on cards that compute in it natively (since Ampere), else float32.
    """
    if name == "auto":
        native = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8
        return "bfloat16" if native else "float32"
    if name not in DTYPES:
        raise unknown("dtype", name, ("auto", *DTYPES))
    return name
