"""What the memory bench measures with: a sheet of rows, a stopwatch, networks of random weights.

Weights decide neither time nor memory, so none are needed; they are drawn from a seed and never
zero, because zeros run faster than data and hide what was not written.
"""

from __future__ import annotations

import gc
import json
import statistics
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from sakuga.model.spec import CHIBI, NEWBIE_3_5B, ModelSpec

GIB = 2**30
Values = dict[str, object]


@dataclass(frozen=True, slots=True)
class Scale:
    """What is measured, and on what: the real size on a card, or the tiny one on the CPU.

    `sides` of square pictures; `texts`: tokens of the prompt and of the negative; `repeats`:
    timed runs of one evaluation. `quick`: leave out the slow rows.
    """

    spec: ModelSpec
    device: torch.device
    dtype: torch.dtype
    sides: tuple[int, int]
    texts: tuple[int, int]
    steps: int
    repeats: int
    quick: bool = False

    @property
    def storage(self) -> str:
        """The storage format that keeps every bit of `dtype`."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def on_card(self) -> bool:
        """Whether peaks and times are a card's."""
        return self.device.type == "cuda"


REAL = Scale(NEWBIE_3_5B, torch.device("cuda:0"), torch.bfloat16, (1024, 2048), (256, 40), 28, 5)
TINY = Scale(CHIBI, torch.device("cpu"), torch.float32, (128, 256), (24, 8), 2, 1)


class Sheet:
    """Named rows of values, on disk after each one; what fails leaves its error in its row."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: dict[str, Values] = {}

    def row(self, name: str, work: Callable[[], Values]) -> Values:
        """Run `work`, keep what it gives under `name`, print it on one line."""
        began = time.perf_counter()
        try:
            values = work()
        except Exception as error:  # one row lost is no reason to lose the rest
            traceback.print_exc()
            values = {"error": f"{type(error).__name__}: {str(error)[:600]}"}
        values["took_s"] = round(time.perf_counter() - began, 1)
        self.rows[name] = values
        self.file.write_text(json.dumps(self.rows, indent=1, default=str))
        print(f"  {name}: {json.dumps(values, default=str)[:400]}", flush=True)
        clean()
        return values


def clean() -> None:
    """Give back all memory that nothing holds."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def measured(work: Callable[[], object], scale: Scale, repeats: int | None = None) -> Values:
    """Median and spread in ms of `work` once warm, its peak, and what the whole device holds.

    The peak counts from the second run on: what the first one allocates for good stays counted.
    """
    work()
    if not scale.on_card:
        began = time.perf_counter()
        work()
        return {"ms": round(1000 * (time.perf_counter() - began), 2)}
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    times = [_event_ms(work) for _ in range(repeats or scale.repeats)]
    free, total = torch.cuda.mem_get_info()
    return {
        "ms": round(statistics.median(times), 2),
        "spread_ms": round(max(times) - min(times), 2),
        "peak_gib": round(torch.cuda.max_memory_allocated() / GIB, 4),
        "reserved_gib": round(torch.cuda.max_memory_reserved() / GIB, 4),
        "device_gib": round((total - free) / GIB, 3),
    }


def _event_ms(work: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end))


@torch.no_grad()
def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Fill in place: matrices at std 1/sqrt(fan in), vectors near what they start from."""
    torch.manual_seed(seed)
    for name, p in module.named_parameters():
        if p.ndim >= 2:
            p.normal_(std=p[0].numel() ** -0.5)
        else:
            near = 0.0 if name.endswith("bias") or "gemma" in type(module).__name__.lower() else 1.0
            p.normal_(mean=near, std=0.02)
    return module.eval().requires_grad_(False)


def build(make: Callable[[object], nn.Module], spec: object, scale: Scale) -> nn.Module:
    """A network of random weights on the device of `scale`."""
    with torch.device("meta"):
        module = make(spec)
    return randomise(module.to(scale.dtype).to_empty(device=scale.device))
