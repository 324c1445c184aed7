"""Loading a model's folder to the card from a warm cache, beside what bounds any loader.

Every byte has to be read, and has to cross the link: the slower of reading all files into one
buffer and of copying as many pinned bytes is what loading is held against.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from measured import GIB, Scale, Sheet, Values, clean
from whole import model_folder

from sakuga.api.engine_spec import Budget
from sakuga.checkpoint.folder import Checkpoint, open_checkpoint
from sakuga.engine.networks import Networks
from sakuga.memory.device import Device
from sakuga.memory.stages import STAGES

CHUNK = 64 * 2**20  # bytes of the buffer that is read into, and of the copies


def measure_loading(sheet: Sheet, scale: Scale) -> None:
    """The two bounds, then ours with as much pinned as it likes and with nothing pinned."""
    checkpoint = open_checkpoint(model_folder(sheet, scale))
    files = [file for part in checkpoint.components for file in part.store.files]
    size = sum(file.stat().st_size for file in files)
    read = sheet.row("read into one buffer", lambda: rate(lambda: read_all(files), size))
    copied = sheet.row("copies from pinned memory", lambda: rate(lambda: copy(scale, size), size))
    slower = max(float(str(one["seconds"])) for one in (read, copied))
    for pinned in (None, 0):
        name = "all four networks to the card" + (", nothing pinned" if pinned == 0 else "")
        sheet.row(name, lambda p=pinned: loading(checkpoint, scale, p, slower))


def rate(work: Callable[[], object], size: int) -> Values:
    """Seconds of the quicker of two turns: of the first, caches are filled."""
    seconds = min(timed(work) for _ in range(2))
    return {"seconds": round(seconds, 3), "gb_per_s": round(size / seconds / 1e9, 2)}


def timed(work: Callable[[], object]) -> float:
    """Seconds until `work` is done on the card too."""
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def read_all(files: list[Path]) -> None:
    """Every byte of the files, through one buffer."""
    buffer = memoryview(bytearray(CHUNK))
    for file in files:
        with file.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass


def copy(scale: Scale, size: int) -> None:
    """As many bytes from pinned memory to the card."""
    host = torch.ones(CHUNK, dtype=torch.uint8, pin_memory=scale.on_card)
    target = torch.empty(CHUNK, dtype=torch.uint8, device=scale.device)
    for _ in range(-(-size // CHUNK)):
        target.copy_(host, non_blocking=True)


def loading(checkpoint: Checkpoint, scale: Scale, pinned: int | None, slower: float) -> Values:
    """Seconds from the opened headers to networks on the card, and anonymous memory meanwhile."""
    size, turns = 0, []
    for _ in range(2):
        clean()
        vram = "auto" if scale.on_card else str(2**40)
        budget = Budget(vram=vram, pinned=str(2**50 if pinned is None else pinned))
        device = Device(scale.device, budget)
        device.kept.keep("loading")
        before = anonymous()
        with watched() as most, device.watch():
            turns.append(timed(lambda device=device: lend_all(device, checkpoint, scale)))
            size, _ = device.memory()
        device.kept.release()
    return {
        "seconds": round(min(turns), 3),
        "gb_per_s": round(size / min(turns) / 1e9, 2),
        "over_slower": round(min(turns) / slower, 3),
        "anonymous_gib": round((max(most) - before) / GIB, 3),
    }


def lend_all(device: Device, checkpoint: Checkpoint, scale: Scale) -> None:
    """Let all four networks be on the card."""
    networks = Networks(checkpoint, scale.storage)
    with ExitStack() as stack:
        for stage in STAGES:
            with device.host():
                network = networks.of(stage)
            stack.enter_context(device.lend(network))


@contextmanager
def watched() -> Iterator[list[int]]:
    """Within, anonymous bytes of this process are read every few milliseconds."""
    readings, done = [anonymous()], threading.Event()

    def read() -> None:
        while not done.wait(0.02):
            readings.append(anonymous())

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield readings
    finally:
        done.set()
        thread.join()


def anonymous() -> int:
    """Bytes of this process that no file stands behind, as Linux counts them."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"^RssAnon:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) << 10 if found else 0
