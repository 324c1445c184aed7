"""Which back-end computes attention on a card: measured once for each shape, and remembered.

A measurement is kept under the names and versions of all that it depends on, so that one of
another card, driver or library is never found. What is found is checked all the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor

from sakuga.api.codec import unknown
from sakuga.errors import RequestError
from sakuga.files.shelf import Shelf
from sakuga.model.attention import BACKENDS, usable
from sakuga.model.layers import TORCH, Positions, Segments
from sakuga.model.spec import NextDiTSpec

AUTO = "auto"
LIMIT = 2**20  # bytes of all that is remembered
SECONDS = 2.0  # after which no further back-end is tried
RUNS = 5
ALIKE = 0.02  # relative difference of two back-ends that compute the same in 16 bits
DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """What is asked of attention: tokens of each segment, heads, their width, the dtype."""

    lengths: tuple[int, ...]
    heads: int
    kv_heads: int
    head_dim: int
    dtype: str

    @classmethod
    def of(cls, spec: NextDiTSpec, lengths: Sequence[int], dtype: torch.dtype) -> AttentionShape:
        """The shape of a transformer over segments."""
        name = str(dtype).removeprefix("torch.")
        return cls(tuple(lengths), spec.n_heads, spec.n_kv_heads, spec.head_dim, name)

    def __str__(self) -> str:
        return (
            f"{self.heads} heads of {self.head_dim}, {self.kv_heads} for keys, {self.dtype}, "
            f"{' + '.join(map(str, self.lengths))} tokens"
        )


Times = Mapping[str, float]  # milliseconds by the name of a back-end


class AttentionChoice:
    """Names the back-end for each shape: the one that was asked for, or else the fastest here.

    asked: `auto` or a name. cache: a folder that keeps measurements between runs.
    """

    def __init__(self, asked: str = AUTO, cache: Path | None = None) -> None:
        if asked not in (AUTO, *BACKENDS):
            raise unknown("attention", asked, (AUTO, *BACKENDS))
        self.asked = asked
        self._shelf = Shelf(cache / "attention", ".json", LIMIT) if cache else None
        self._known: dict[tuple[torch.device, AttentionShape], Times] = {}

    def check(self, device: torch.device, dtype: torch.dtype) -> None:
        """Raise RequestError if what was asked for cannot compute there."""
        refusal = "" if self.asked == AUTO else BACKENDS[self.asked].refusal(device, dtype)
        if refusal:
            able = ", ".join(one.name for one in usable(device, dtype))
            raise RequestError(
                "the back-end of attention can compute here", f"{self.asked!r}: {refusal}",
                f"Use auto, or one that can: {able}.",
            )  # fmt: skip

    def choose(self, device: torch.device, shape: AttentionShape) -> str:
        """The name of a back-end."""
        if self.asked != AUTO:
            return self.asked
        times = self.times(device, shape)
        return min(times, key=times.__getitem__) if times else TORCH

    def times(self, device: torch.device, shape: AttentionShape) -> Times:
        """What each back-end takes; nothing where there is no choice, or none can compute it."""
        if device.type != "cuda" or len(usable(device, getattr(torch, shape.dtype))) < 2:
            return {}
        if (device, shape) not in self._known:
            self._known[device, shape] = self._remembered(device, shape)
        return self._known[device, shape]

    def _remembered(self, device: torch.device, shape: AttentionShape) -> Times:
        facts = {"machine": machine(device), "shape": asdict(shape)}
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        data = self._shelf.read(key) if self._shelf else None
        found = read_times(data) if data else None
        if found is None:
            found = measure(device, shape)
            if self._shelf and found:
                with contextlib.suppress(OSError):  # it is measured again next time
                    self._shelf.write(key, json.dumps(found).encode())
        return found


def read_times(data: bytes) -> Times | None:
    """Measurements from a file; None where it holds anything else."""
    try:
        found = json.loads(data)
    except ValueError:
        return None
    if not isinstance(found, dict) or not found or not found.keys() <= BACKENDS.keys():
        return None
    good = all(isinstance(ms, float) and 0 < ms < 1e6 for ms in found.values())
    return found if good else None


def machine(device: torch.device) -> Mapping[str, str]:
    """What the speed of attention depends on besides its shape."""
    packages = {}
    for backend in BACKENDS.values():
        for name in backend.distributions:
            with contextlib.suppress(PackageNotFoundError):
                packages[name] = version(name)
    return {
        "card": torch.cuda.get_device_name(device),
        "driver": driver(),
        "torch": torch.__version__,
        "cudnn": str(torch.backends.cudnn.version()),
        **packages,
    }


@cache
def driver() -> str:
    """The version of NVIDIA's kernel module, as it tells it itself."""
    try:
        text = DRIVER.read_text(encoding="utf-8")
    except OSError:
        return "of an unknown version"
    found = re.search(r"Kernel Module.*?(\d+\.\d[\d.]*)", text)
    return found[1] if found else "of an unknown version"


@torch.inference_mode()
def measure(device: torch.device, shape: AttentionShape) -> Times:
    """Time every back-end that can compute a shape, as long as there is time.

    One that fails, or that computes something else than the first, is left out.
    """
    began, found, first = time.perf_counter(), dict[str, float](), None
    segments = Segments(shape.lengths)
    starts = torch.tensor(segments.offsets, dtype=torch.int32, device=device)
    positions = Positions(segments, starts, starts, None, starts)
    dtype: torch.dtype = getattr(torch, shape.dtype)
    heads = shape.heads, shape.kv_heads, shape.kv_heads
    # Laid out as a product leaves them: strides are part of what is measured.
    made = torch.randn(segments.total, sum(heads), shape.head_dim, device=device, dtype=dtype)
    q, k, v = segments.pack(made).split(heads, dim=-2)
    for backend in usable(device, dtype):
        if found and time.perf_counter() - began > SECONDS:
            break
        try:
            given = backend.attend(q, k, v, positions)
            ms = _milliseconds(partial(backend.attend, q, k, v, positions))
        except (RuntimeError, TypeError, ImportError):
            continue
        first = given if first is None else first
        if (given - first).norm() <= ALIKE * first.norm():
            found[backend.name] = ms
    return found


def _milliseconds(work: Callable[[], Tensor]) -> float:
    times = []
    for _ in range(RUNS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(float(start.elapsed_time(end)))
    return round(statistics.median(times), 4)
