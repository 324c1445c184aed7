"""How much memory of each NVIDIA card is in use, by whatever program, as nvidia-smi tells it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from sakuga.errors import RequestError

HEADER = "index, name, memory.used, memory.free, memory.total"


@dataclass(frozen=True, slots=True)
class CardMemory:
    """Bytes of one card that are used, free and there; what its driver reserves is neither."""

    index: int
    name: str
    used: int
    free: int
    total: int

    def __str__(self) -> str:
        """One line below HEADER."""
        sizes = (f"{size // 2**20} MiB" for size in (self.used, self.free, self.total))
        return ", ".join((str(self.index), self.name, *sizes))


def watch(interval: float, count: int | None) -> Iterator[tuple[CardMemory, ...]]:
    """All cards now and every `interval` seconds after, `count` times or without an end.

    Raises RequestError without nvidia-ml-py, a driver or a card.
    """
    with _nvml() as nvml:
        cards = nvml.nvmlDeviceGetCount()
        if not cards:
            raise _unavailable("a driver that finds no card", "Check what nvidia-smi says.")
        due = time.monotonic()
        past = 0
        while True:
            yield tuple(_read(nvml, index) for index in range(cards))
            past += 1
            if past == count:
                return
            due += interval  # not "sleep for the interval": reading takes time, too
            time.sleep(max(0.0, due - time.monotonic()))


def first_card() -> CardMemory | None:
    """The first card that is here, or None where there is none, or nothing that knows."""
    try:
        return next(watch(0.0, 1))[0]
    except RequestError:
        return None


@contextmanager
def _nvml() -> Iterator[Any]:
    """NVIDIA's management library, open."""
    try:
        nvml = import_module("pynvml")
    except ImportError:
        raise _unavailable(
            "no nvidia-ml-py", "Install it: pip install 'sakuga[monitor]'."
        ) from None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise _unavailable(
            f"{str(error).lower()!r} from NVIDIA's driver",
            "Run it where nvidia-smi works.",
        ) from None
    try:
        yield nvml
    except nvml.NVMLError as error:
        raise _unavailable(f"{str(error).lower()!r} while reading", "Check nvidia-smi.") from None
    finally:
        nvml.nvmlShutdown()


def _read(nvml: Any, index: int) -> CardMemory:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    # The first version of this question counts what the driver reserves as used.
    memory = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    name = nvml.nvmlDeviceGetName(handle)
    return CardMemory(index, name, memory.used, memory.free, memory.total)


def _unavailable(got: str, fix: str) -> RequestError:
    return RequestError(
        "sakuga monitor needs an NVIDIA card, its driver and nvidia-ml-py", got, fix
    )
