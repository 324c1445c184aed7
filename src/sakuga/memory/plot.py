"""Memory over time as SVG text: a band for each stage, what it holds, and the budget."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from sakuga.printable import readable

START = "start"  # the stage before the first one
SIZE = (1200, 600)  # width and height in pixels
FRAME = (84, 92, 1172, 532)  # left, top, right and bottom of the axes
# Colours that people of any colour vision tell apart (Okabe and Ito, 2008).
COLOURS = {
    START: "#9a9a9a", "gemma": "#e69f00", "jina": "#56b4e9", "denoise": "#0072b2",
    "decode": "#009e73",
}  # fmt: skip
OTHER = "#cc79a7"
INK, FAINT, GRID = "#222222", "#595959", "#e4e4e4"
RESERVED, BUDGET = "#4d4d4d", "#c0392b"
LETTER = 9  # pixels that a letter takes at most on average, at the size of most texts

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


def plot(samples: Sequence[Sample], peaks: Mapping[str, int], limit: int | None = None) -> str:
    """An SVG picture of 1200x600 pixels: bytes allocated over seconds, filled by stage.

    samples: at least one, in the order of time. peaks: the most bytes allocated in each
    stage, which may be more than any sample saw. limit: the budget in bytes; a line if it
    is in reach of the peak, else a note.
    """
    axes = _axes(samples, peaks, limit)
    width, height = SIZE
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" font-family="system-ui, sans-serif" font-size="16">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *_scales(axes),
        *_stages(axes, samples),
        *_peaks(axes, samples, peaks),
        *_budget(axes, limit),
        *_titles(samples, peaks),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _axes(samples: Sequence[Sample], peaks: Mapping[str, int], limit: int | None) -> Axes:
    seen = (max(sample.allocated, sample.reserved) for sample in samples)
    used = max(*seen, *peaks.values(), 1)
    shown = limit if limit is not None and limit <= 3 * used else 0
    return Axes(max(samples[-1].seconds, 1e-3), max(used, shown) * 1.12)


def _scales(axes: Axes) -> Iterator[str]:
    """The grid, the numbers along both axes, and what they count."""
    left, top, right, bottom = FRAME
    unit, name = (10**9, "GB") if axes.size >= 10**9 else (10**6, "MB")
    for size in _ticks(axes.size / unit):
        y = axes.at(0, size * unit)[1]
        yield _line([(left, y), (right, y)], GRID, 1)
        yield _text((left - 10, y + 5), f"{size:g}", "end", FAINT)
    for seconds in _ticks(axes.seconds):
        x = axes.at(seconds, 0)[0]
        yield _line([(x, bottom), (x, bottom + 5)], FAINT, 1)
        yield _text((x, bottom + 22), f"{seconds:g}", "middle", FAINT)
    yield _text(((left + right) / 2, bottom + 50), "seconds", "middle")
    middle = (top + bottom) / 2
    yield f'<g transform="rotate(-90 24 {middle:g})">{_text((24, middle), name, "middle")}</g>'
    yield _line([(left, bottom), (right, bottom)], FAINT, 1)


def _stages(axes: Axes, samples: Sequence[Sample]) -> Iterator[str]:
    """For each stretch of a stage a band, named where there is room, and what is allocated.

    Over all of them a line for what is reserved, where that is more.
    """
    _, top, _, bottom = FRAME
    for stage, part in _runs(samples):
        colour = COLOURS.get(stage, OTHER)
        line = _points(axes, [(sample.seconds, sample.allocated) for sample in part])
        begin, end = line[0][0], line[-1][0]
        yield _area([(begin, top), (end, top), (end, bottom), (begin, bottom)], colour, 0.1)
        yield _area([(begin, bottom), *line, (end, bottom)], colour, 0.4)
        yield _line(line, colour, 2)
        if end - begin > LETTER * (len(stage) + 1):
            yield _text(((begin + end) / 2, top + 20), stage, "middle", FAINT)
    if _has_reserve(samples):
        line = _points(axes, [(sample.seconds, sample.reserved) for sample in samples])
        yield _line(line, RESERVED, 1.5)


def _peaks(axes: Axes, samples: Sequence[Sample], peaks: Mapping[str, int]) -> Iterator[str]:
    """A dot for the peak of each stage, at the moment of its highest sample."""
    for stage, peak in peaks.items():
        of_stage = [sample for sample in samples if sample.stage == stage]
        highest = max(of_stage, key=lambda sample: sample.allocated)
        x, y = axes.at(highest.seconds, peak)
        colour = COLOURS.get(stage, OTHER)
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}" stroke="white"/>'


def _budget(axes: Axes, limit: int | None) -> Iterator[str]:
    """The budget in words, and as a line where it is in reach."""
    left, _, right, _ = FRAME
    if limit is None:
        return
    reach = "" if limit <= axes.size else ", above this plot"
    yield _text((right, 40), f"budget {readable(limit)}{reach}", "end", BUDGET)
    if limit <= axes.size:
        y = axes.at(0, limit)[1]
        yield _line([(left, y), (right, y)], BUDGET, 2, 'stroke-dasharray="9 7"')


def _titles(samples: Sequence[Sample], peaks: Mapping[str, int]) -> Iterator[str]:
    """What the picture says, and what its colours mean, with the peak of each stage."""
    left, top, *_ = FRAME
    worst = max(peaks, key=peaks.__getitem__)
    title = _text((left, 40), f"Peak {readable(peaks[worst])}, in {worst}", "start")
    yield f'<g font-size="24">{title}</g>'
    entries = [
        (COLOURS.get(stage, OTHER), "■", f"{stage} {readable(peak)}")
        for stage, peak in peaks.items()
    ]
    if _has_reserve(samples):
        entries.append((RESERVED, "━", "reserved"))
    legend = "".join(  # each begins where the one before it ends, whatever the font
        f'<tspan dx="{24 if index else 0}" fill="{colour}">{mark}</tspan>'
        f'<tspan dx="6">{html.escape(text)}</tspan>'
        for index, (colour, mark, text) in enumerate(entries)
    )
    yield f'<text x="{left}" y="{top - 16}" fill="{INK}">{legend}</text>'


def _runs(samples: Sequence[Sample]) -> Iterator[tuple[str, list[Sample]]]:
    """The stretches of one stage, each up to where the next begins."""
    runs = [list(part) for _, part in groupby(samples, key=lambda sample: sample.stage)]
    for part, after in pairwise([*runs, []]):
        yield part[0].stage, [*part, *(replace(part[-1], seconds=one.seconds) for one in after[:1])]


def _points(axes: Axes, moments: Sequence[tuple[float, int]]) -> list[Point]:
    """The pixels of moments; of those in one column of pixels, the highest."""
    highest: dict[int, Point] = {}
    for x, y in (axes.at(*moment) for moment in moments):
        column = round(x)
        highest[column] = column, min(y, highest.get(column, (0, math.inf))[1])
    line = list(highest.values())
    return line if len(line) > 1 else [line[0], (line[0][0] + 1, line[0][1])]


def _ticks(end: float) -> Iterator[float]:
    """Four to ten round values from 0 to `end`: steps of 1, 2 or 5 times a power of ten."""
    rough = end / 8
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    for index in range(math.floor(end / step) + 1):
        yield round(index * step, 9)


def _has_reserve(samples: Sequence[Sample]) -> bool:
    """Whether the allocator holds more than is allocated, which is worth a line."""
    return any(sample.reserved > sample.allocated for sample in samples)


def _line(points: Sequence[Point], colour: str, width: float, more: str = "") -> str:
    stroke = f'stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"'
    return f'<polyline points="{_listed(points)}" fill="none" {stroke} {more}/>'


def _area(points: Sequence[Point], colour: str, opacity: float) -> str:
    return f'<polygon points="{_listed(points)}" fill="{colour}" fill-opacity="{opacity}"/>'


def _listed(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _text(at: Point, text: str, anchor: str, colour: str = INK) -> str:
    """A text whose start, middle or end is at a point."""
    place = f'x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}">{html.escape(text)}</text>'
