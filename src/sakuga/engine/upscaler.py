"""Upscalers: a file of any architecture that spandrel knows, run in tiles that fit in memory.

What a tile takes is measured, not priced: two small ones are run first, and memory grows with
their pixels. A tile is computed with `OVERLAP` pixels of its neighbours around it, which are cut
off again, so that nothing shows where two meet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sakuga.api.receipt import UpscalerRecord
from sakuga.checkpoint.bind import read_tensor
from sakuga.errors import BudgetTooSmall, ModelNotFound, RequestError, SpecMismatch
from sakuga.memory.costs import with_holes
from sakuga.memory.device import FULL, Device
from sakuga.memory.plan import smallest_limit, usable
from sakuga.printable import cut, readable
from sakuga.weights.sources import open_source
from sakuga.weights.store import Store

OVERLAP = 32  # pixels of neighbours around a tile
PROBES = (64, 128)  # sides of the tiles that are run to see what they take
HOST_TILE = 512  # the largest on a host without a budget, whose memory other programs share
LEAST_TILE = 32
MOST_UPSCALED = 8192 * 8192  # pixels that come out
COLOURS = 3
STATES = ("params_ema.", "params.")  # what trainers call the weights in an archive


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a picture is cut: sides of its tiles without their overlap, and bytes at the peak."""

    width: int
    height: int
    peak_bytes: int = 0

    def of(self, size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
        """The boxes of a picture of a size, as equal as can be."""
        for top, bottom in _cuts(size[1], self.height):
            for left, right in _cuts(size[0], self.width):
                yield left, top, right, bottom


class Upscaler:
    """A network that enlarges pictures, and the device it does so on."""

    def __init__(self, model: Any, record: UpscalerRecord, device: Device) -> None:
        self.model, self.record, self.device = model, record, device
        half = device.on_card and model.supports_half
        self.dtype = torch.float16 if half else torch.float32
        model.model.eval().requires_grad_(False).to(self.dtype)

    @classmethod
    def open(cls, file: str, device: Device, digest: Callable[[Path], str]) -> Upscaler:
        """Read a file of weights. Raises ModelNotFound, WeightsError, RequestError."""
        path = Path(file)
        if not path.is_file():
            raise ModelNotFound(
                "an upscaler is a file of weights", cut(file, 200), "Check the path."
            )
        model = _understood(path)
        if (model.input_channels, model.output_channels) != (COLOURS, COLOURS):
            raise SpecMismatch(
                "an upscaler takes and gives three colours",
                f"{path.name}: {model.input_channels} in, {model.output_channels} out",
                "Use one for pictures in colour.",
            )
        record = UpscalerRecord(
            path.name, digest(path), path.stat().st_size, model.architecture.name, model.scale
        )
        return cls(model, record, device)

    def check(self, size: tuple[int, int]) -> None:
        """Raise RequestError for a picture that would come out too large."""
        width, height = (side * self.record.scale for side in size)
        if width * height > MOST_UPSCALED:
            raise RequestError(
                f"an upscaled picture has at most {MOST_UPSCALED:,} pixels, as 8192x8192 has",
                f"{width}x{height} = {width * height:,}", "Use a smaller picture, or another file.",
            )  # fmt: skip

    def enlarge(self, pixels: Tensor) -> Tensor:
        """Pixels (H, W, 3), uint8, enlarged. Raises BudgetTooSmall where no tile fits."""
        height, width, _ = pixels.shape
        scale = self.record.scale
        made = torch.empty(height * scale, width * scale, COLOURS, dtype=torch.uint8)
        with self.device.lend(self.model.model):
            tiling = self.tiling((width, height))
            self.record = replace(self.record, tile=(tiling.width, tiling.height))
            for left, top, right, bottom in tiling.of((width, height)):
                x, y = max(left - OVERLAP, 0), max(top - OVERLAP, 0)
                tile = self._run(pixels[y : bottom + OVERLAP, x : right + OVERLAP])
                made[top * scale : bottom * scale, left * scale : right * scale] = tile[
                    (top - y) * scale : (bottom - y) * scale,
                    (left - x) * scale : (right - x) * scale,
                ]
        return made

    def tiling(self, size: tuple[int, int]) -> Tiling:
        """The largest tiles that fit, or all of the picture; the network is lent by then."""
        if self.device.limit is None:
            return Tiling(*(min(side, HOST_TILE) for side in size))
        first, second = (self._peak(side) for side in PROBES)
        slope = max(second - first, 1) / (PROBES[1] ** 2 - PROBES[0] ** 2)
        base = first - slope * PROBES[0] ** 2
        room = usable(self.device.limit)

        def needed(width: int, height: int) -> int:
            return with_holes(math.ceil(base + slope * width * height))

        for side in (max(size), *range(2048, 0, -LEAST_TILE)):
            tile = [min(side, whole) for whole in size]
            around = [
                min(part + 2 * OVERLAP, whole) for part, whole in zip(tile, size, strict=True)
            ]
            if needed(around[0], around[1]) <= room:
                return Tiling(tile[0], tile[1], needed(around[0], around[1]))
        least = smallest_limit(needed(around[0], around[1]))
        raise BudgetTooSmall(
            f"this upscaler needs a budget of at least {-(-least // 10**6)}MB",
            readable(self.device.limit), "Give it that much.", least,
        )  # fmt: skip

    def _peak(self, side: int) -> int:
        """The most bytes there are while a square is enlarged."""
        self.device.peak()
        try:
            self._run(torch.zeros(side, side, COLOURS, dtype=torch.uint8))
        except RuntimeError as error:
            if not FULL.search(str(error)):
                raise
            said = str(error).splitlines()[0]
            raise BudgetTooSmall(
                f"an upscaler needs room for a tile of {side}x{side}", said, "Give it more."
            ) from None
        return self.device.peak()

    def _run(self, pixels: Tensor) -> Tensor:
        """Pixels of one tile; on the host again."""
        with self.device.watch():
            values = self.device.to_device(pixels.movedim(-1, 0)[None])
            found: Tensor = self.model(values.to(self.dtype) / 255)
            levels = (found.float() * 255).round().clamp(0, 255).to(torch.uint8)
            return self.device.to_host(levels)[0].movedim(0, -1)


def _cuts(length: int, most: int) -> Iterator[tuple[int, int]]:
    count = -(-length // most)
    # Where a network has windows, they lie as in the whole picture.
    inner = [length * place // count // LEAST_TILE * LEAST_TILE for place in range(1, count)]
    yield from pairwise((0, *dict.fromkeys(inner), length))


def _understood(path: Path) -> Any:
    """A file as spandrel's descriptor of a model. Raises SakugaError for any other."""
    state = _state_of(path)
    spandrel = _spandrel()
    try:
        model = spandrel.ModelLoader().load_from_state_dict(state)
    except Exception as error:  # of an unknown architecture it says nothing
        raise SpecMismatch(
            "an upscaler is of an architecture that spandrel knows",
            f"{path.name}: {cut(str(error), 120) or 'none of them'}", "Use another file.",
        ) from None  # fmt: skip
    if not isinstance(model, spandrel.ImageModelDescriptor):
        raise SpecMismatch(
            "an upscaler makes a picture of a picture", f"{path.name}: {model.architecture.name}",
            "Use another file.",
        )  # fmt: skip
    return model


def _state_of(path: Path) -> dict[str, Tensor]:
    """The tensors of a file; an archive of torch is read without unpickling it.

    Of several sets of weights in it, the averaged one.
    """
    store = open_source(path)
    _refuse_other_colours(path, store)
    held = next((one for one in STATES if any(key.startswith(one) for key in store)), "")
    return {
        key.removeprefix(held): read_tensor(store, key).clone()
        for key in store
        if key.startswith(held)
    }


def _refuse_other_colours(path: Path, store: Store) -> None:
    """Raise SpecMismatch where no convolution takes three colours, or cells of their pixels.

    The header says so in a moment; the library takes seconds to load.
    """
    taken = {shape[1] for shape in store.shapes().values() if len(shape) == 4}
    if taken and not any(COLOURS * cell**2 in taken for cell in (1, 2, 3, 4, 8)):
        raise SpecMismatch(
            "an upscaler takes and gives three colours", f"{path.name}: another number",
            "Use one for pictures in colour.",
        )  # fmt: skip


def _spandrel() -> Any:
    """The library, which is an extra. Raises RequestError without it."""
    try:
        return import_module("spandrel")  # it takes seconds, and few use it
    except (ImportError, RuntimeError, OSError) as error:  # torchvision may be of another torch
        raise RequestError(
            "upscaling needs spandrel, and torchvision that fits torch", cut(str(error), 120),
            'Install it: pip install "sakuga[upscale]".',
        ) from None  # fmt: skip
