"""Memory over time, drawn: one colour per stage, its peak, and the budget."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

START = "start"  # the stage before the first one
SIZE = (1200, 600)  # pixels
FRAME = (92, 96, 1168, 524)  # left, top, right and bottom of the axes
SMOOTH = 2  # shapes are drawn this much larger, then reduced, so that edges have no stairs
# Colours that people of any colour vision tell apart (Okabe and Ito, 2008).
COLOURS = {
    START: "#9a9a9a", "gemma": "#e69f00", "jina": "#56b4e9", "denoise": "#0072b2",
    "decode": "#009e73",
}  # fmt: skip
OTHER = "#cc79a7"
INK, FAINT, GRID, BUDGET = "#222222", "#777777", "#e4e4e4", "#c0392b"

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Sample:
    """Bytes `allocated` by tensors and `reserved` by their allocator, `seconds` after the start."""

    seconds: float
    stage: str
    allocated: int
    reserved: int


@dataclass(frozen=True, slots=True)
class Axes:
    """Seconds from 0 to `seconds` and bytes from 0 to `size`, on the picture."""

    seconds: float
    size: float

    def at(self, seconds: float, size: float) -> Point:
        """The pixel of a moment and a size."""
        left, top, right, bottom = FRAME
        across, up = seconds / self.seconds, size / self.size
        return left + (right - left) * across, bottom - (bottom - top) * up


def plot(samples: Sequence[Sample], peaks: Mapping[str, int], limit: int | None = None) -> bytes:
    """A PNG of 1200x600 pixels: bytes allocated over seconds, filled by stage.

    samples: at least one, in the order of time. peaks: the most bytes allocated in each
    stage, which may be more than any sample saw. limit: the budget in bytes; a line if it
    is in reach of the peak, else a note.
    """
    # A drawing without a report need not wait for Pillow.
    from PIL import Image as Images  # noqa: PLC0415
    from PIL import ImageDraw as Draws  # noqa: PLC0415

    axes = _axes(samples, peaks, limit)
    width, height = SIZE
    large = Images.new("RGB", (width * SMOOTH, height * SMOOTH), "white")
    _shapes(Draws.Draw(large), axes, samples, limit)
    image = large.resize(SIZE, Images.Resampling.LANCZOS)
    draw = Draws.Draw(image)
    _scales(image, draw, axes)
    _titles(draw, axes, samples, peaks, limit)
    _peaks(draw, axes, samples, peaks)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _axes(samples: Sequence[Sample], peaks: Mapping[str, int], limit: int | None) -> Axes:
    seen = (max(sample.allocated, sample.reserved) for sample in samples)
    used = max(*seen, *peaks.values(), 1)
    shown = limit if limit is not None and limit <= 3 * used else 0
    return Axes(max(samples[-1].seconds, 1e-3), max(used, shown) * 1.12)


def _shapes(draw: ImageDraw, axes: Axes, samples: Sequence[Sample], limit: int | None) -> None:
    """All that has edges: the grid, the areas, what is reserved, the budget."""
    left, _, right, bottom = (edge * SMOOTH for edge in FRAME)
    for size in _ticks(axes.size, _unit(axes.size)[0]):
        y = axes.at(0, size)[1] * SMOOTH
        draw.line([(left, y), (right, y)], GRID, SMOOTH)
    for stage, part in _runs(samples):
        colour = COLOURS.get(stage, OTHER)
        line = _line(axes, [(sample.seconds, sample.allocated) for sample in part])
        draw.polygon([(line[0][0], bottom), *line, (line[-1][0], bottom)], _pale(colour))
        draw.line(line, colour, 2 * SMOOTH)
    if _has_reserve(samples):
        line = _line(axes, [(sample.seconds, sample.reserved) for sample in samples])
        draw.line(line, FAINT, SMOOTH)
    if limit is not None and limit <= axes.size:
        y = axes.at(0, limit)[1] * SMOOTH
        for x in range(left, right, 16 * SMOOTH):
            draw.line([(x, y), (min(x + 9 * SMOOTH, right), y)], BUDGET, 2 * SMOOTH)
    draw.line([(left, bottom), (right, bottom)], INK, SMOOTH)


def _scales(image: Image, draw: ImageDraw, axes: Axes) -> None:
    """The numbers along both axes, and what they count."""
    from PIL import Image as Images  # noqa: PLC0415
    from PIL import ImageDraw as Draws  # noqa: PLC0415

    left, top, right, bottom = FRAME
    unit, name = _unit(axes.size)
    for size in _ticks(axes.size, unit):
        beside = (left - 10, axes.at(0, size)[1])
        draw.text(beside, f"{size / unit:g}", FAINT, _font(15), anchor="rm")
    for seconds in _ticks(axes.seconds, 1):
        below = (axes.at(seconds, 0)[0], bottom + 10)
        draw.text(below, f"{seconds:g}", FAINT, _font(15), anchor="mt")
    draw.text(((left + right) / 2, bottom + 38), "seconds", INK, _font(17), anchor="mt")
    upright = Images.new("RGB", (bottom - top, 28), "white")
    middle = (upright.width / 2, upright.height / 2)
    Draws.Draw(upright).text(middle, f"{name} allocated", INK, _font(17), anchor="mm")
    image.paste(upright.transpose(Images.Transpose.ROTATE_90), (10, top))


def _titles(
    draw: ImageDraw,
    axes: Axes,
    samples: Sequence[Sample],
    peaks: Mapping[str, int],
    limit: int | None,
) -> None:
    """What the picture says, and what its colours mean."""
    left, top, right, _ = FRAME
    worst = max(peaks, key=peaks.__getitem__)
    title = f"Peak {_bytes(peaks[worst])}, in {worst}"
    draw.text((left, 22), title, INK, _font(24), anchor="lt")
    if limit is not None:
        reach = "" if limit <= axes.size else ", above this plot"
        draw.text((right, 26), f"budget {_bytes(limit)}{reach}", BUDGET, _font(17), anchor="rt")
    x = float(left)
    for stage in peaks:
        draw.rectangle((x, top - 33, x + 13, top - 20), COLOURS.get(stage, OTHER))
        draw.text((x + 20, top - 26), stage, INK, _font(16), anchor="lm")
        x += 20 + draw.textlength(stage, _font(16)) + 28
    if _has_reserve(samples):
        draw.line((x, top - 26, x + 18, top - 26), FAINT, 1)
        draw.text((x + 25, top - 26), "reserved", INK, _font(16), anchor="lm")


def _peaks(
    draw: ImageDraw, axes: Axes, samples: Sequence[Sample], peaks: Mapping[str, int]
) -> None:
    """A dot and a number at the highest sample of each stage; numbers give way to each other."""
    left, top, right, _ = FRAME
    taken: list[tuple[float, float, float, float]] = []
    for stage, peak in peaks.items():
        highest = max(
            (sample for sample in samples if sample.stage == stage),
            key=lambda sample: sample.allocated,
        )
        x, y = axes.at(highest.seconds, peak)
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), COLOURS.get(stage, OTHER), "white")
        text = _bytes(peak)
        half = draw.textlength(text, _font(15)) / 2 + 3
        x = min(max(x, left + half), right - half)
        box = (x - half, y - 27, x + half, y - 6)
        while any(_meet(box, other) for other in taken) and box[1] > top:
            box = (box[0], box[1] - 3, box[2], box[3] - 3)
        taken.append(box)
        # A white rim keeps the number readable across a line.
        draw.text((x, box[3] - 3), text, INK, _font(15), "mb", stroke_width=3, stroke_fill="white")


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether two boxes (left, top, right, bottom) overlap."""
    beside = one[2] <= other[0] or other[2] <= one[0]
    return not beside and one[1] < other[3] and other[1] < one[3]


def _runs(samples: Sequence[Sample]) -> Iterator[tuple[str, list[Sample]]]:
    """The stretches of one stage, each up to where the next begins."""
    runs = [list(part) for _, part in groupby(samples, key=lambda sample: sample.stage)]
    for part, after in pairwise([*runs, []]):
        yield part[0].stage, [*part, *(replace(part[-1], seconds=one.seconds) for one in after[:1])]


def _line(axes: Axes, moments: Sequence[tuple[float, int]]) -> list[Point]:
    """Points on the large picture; of the moments that share a pixel column, the highest."""
    highest: dict[int, Point] = {}
    for x, y in (axes.at(*moment) for moment in moments):
        column = round(x * SMOOTH)
        point = column, min(y * SMOOTH, highest.get(column, (0, math.inf))[1])
        highest[column] = point
    line = list(highest.values())
    return line if len(line) > 1 else [line[0], (line[0][0] + 1, line[0][1])]


def _ticks(end: float, unit: float) -> Iterator[float]:
    """Four to ten round values from 0 to `end`: steps of 1, 2 or 5 times a power of ten units."""
    rough = end / unit / 8
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    for index in range(math.floor(end / unit / step) + 1):
        yield round(index * step, 9) * unit


def _has_reserve(samples: Sequence[Sample]) -> bool:
    """Whether the allocator holds more than is allocated, which is worth a line."""
    return any(sample.reserved > sample.allocated for sample in samples)


def _unit(size: float) -> tuple[int, str]:
    """The unit in which a size is a number that people read."""
    return (2**30, "GiB") if size >= 2**30 else (2**20, "MiB")


def _bytes(size: int) -> str:
    unit, name = _unit(size)
    number = size / unit
    return f"{number:.0f} {name}" if number >= 100 else f"{number:.3g} {name}"


def _pale(colour: str) -> tuple[int, ...]:
    """The colour of an area under a line of `colour`."""
    strong = bytes.fromhex(colour[1:])
    return tuple((part + 2 * 255) // 3 for part in strong)


def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont  # noqa: PLC0415

    return ImageFont.load_default(size)
