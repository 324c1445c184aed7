"""A drawing from a picture: the size it is drawn in, and where that lies; arithmetic alone."""

from __future__ import annotations

import math
import re
from dataclasses import astuple, dataclass
from typing import Protocol

from sakuga.errors import RequestError
from sakuga.printable import cut

Size = tuple[int, int]
Box = tuple[int, int, int, int]  # left, top, right, bottom
SIDES = ("left", "top", "right", "bottom")
MOST_MARGIN = 4096
MOST_ENLARGED = 4096 * 4096  # pixels that come out, where what comes in is enlarged
MOST_FACTOR = 8


class Limits(Protocol):
    """What sizes a model draws; `model.spec.DrawingSpec` is one."""

    @property
    def width(self) -> int: ...  # noqa: D102
    @property
    def height(self) -> int: ...  # noqa: D102
    @property
    def min_side(self) -> int: ...  # noqa: D102
    @property
    def max_side(self) -> int: ...  # noqa: D102
    @property
    def max_pixels(self) -> int: ...  # noqa: D102
    @property
    def size_multiple(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Margins:
    """Pixels that a picture grows by, side by side."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def around(self, size: Size) -> Size:
        """A size with the margins."""
        return size[0] + self.left + self.right, size[1] + self.top + self.bottom


def parse_margins(text: str | None) -> Margins:
    """Margins of "left=128,top=64", or of "128" for every side. Raises RequestError."""
    if text is None:
        return Margins()
    found: dict[str, int] = {}
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(r"(?:([a-z]+)=)?(\d{1,6})(?:px)?", part.lower())
        names = SIDES if match and match[1] is None else (match[1],) if match else ()
        if not match or not set(names) <= set(SIDES) or set(names) & found.keys():
            break
        found |= dict.fromkeys(names, int(match[2]))
    else:
        if any(found.values()) and max(found.values()) <= MOST_MARGIN:
            return Margins(**found)
    raise RequestError(
        f"outpaint is SIDE=PIXELS with commas between, of {', '.join(SIDES)}, each once, "
        f"1 to {MOST_MARGIN} in all but those left out; or one number for all",
        cut(repr(text), 60), "Write --outpaint left=128,right=128.",
    )  # fmt: skip


def as_factor(given: object) -> object:
    """A number as the text of a factor; anything else as it is."""
    plain = isinstance(given, (int, float)) and not isinstance(given, bool)
    return f"{given:g}x" if plain else given


def parse_factor(text: str) -> float:
    """The factor of "2x" or "1.5". Raises RequestError."""
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,4})?)\s*[xX×]?", text.strip())
    if match and 1 < float(match[1]) <= MOST_FACTOR:
        return float(match[1])
    raise RequestError(
        f"a picture is enlarged by a factor above 1 and at most {MOST_FACTOR}",
        cut(repr(text), 60), "Write 2x.",
    )  # fmt: skip


def enlarged(size: Size, factor: float, unit: int) -> Size:
    """A size times a factor, in units. Raises RequestError for one that is too large."""
    width, height = (max(round(side * factor / unit), 1) * unit for side in size)
    if width * height > MOST_ENLARGED:
        raise RequestError(
            f"an enlarged picture has at most {MOST_ENLARGED:,} pixels, as 4096x4096 has",
            f"{width}x{height} = {width * height:,}", "Choose a smaller factor or size.",
        )  # fmt: skip
    return width, height


def padded(size: Size, limits: Limits) -> Size:
    """The smallest size a model can draw that holds `size`, were it not for its caps."""
    unit = limits.size_multiple
    width, height = (max(-(-side // unit) * unit, limits.min_side) for side in size)
    return width, height


def fits(size: Size, limits: Limits) -> bool:
    """Whether a model draws a size."""
    return max(size) <= limits.max_side and size[0] * size[1] <= limits.max_pixels


def own_size(picture: Size, limits: Limits) -> Size:
    """The size in which a picture is drawn whole when nobody says: its own, or the nearest."""
    size = padded(picture, limits)
    if min(picture) >= limits.min_side and fits(size, limits):
        return size
    return _within(picture, 1.0, limits)


def zoomed(region: Size, limits: Limits) -> Size:
    """The size in which a region is drawn when nobody says: as many pixels as the model's own."""
    scale = math.sqrt(limits.width * limits.height / (region[0] * region[1]))
    return _within(region, max(1.0, scale), limits)


def in_proportion(picture: Size, width: int | None, height: int | None, limits: Limits) -> Size:
    """A size of which one side was given, in the shape of a picture."""
    assert (width is None) != (height is None)
    scale = width / picture[0] if width is not None else (height or 0) / picture[1]
    found = _within(picture, scale, limits)
    return width or found[0], height or found[1]


def _within(picture: Size, scale: float, limits: Limits) -> Size:
    """A picture's size times `scale`, or what comes nearest of what a model draws."""
    unit, low, high = limits.size_multiple, limits.min_side, limits.max_side
    scale = max(scale, low / min(picture))
    scale = min(scale, high / max(picture), math.sqrt(limits.max_pixels / math.prod(picture)))
    size = [min(max(round(side * scale / unit) * unit, low), high) for side in picture]
    while size[0] * size[1] > limits.max_pixels:
        size[size.index(max(size))] -= unit
    return size[0], size[1]


def around(region: Box, by: int, canvas: Size) -> Box:
    """A region with `by` pixels more on every side, as far as the canvas goes."""
    left, top, right, bottom = region
    return (
        max(left - by, 0),
        max(top - by, 0),
        min(right + by, canvas[0]),
        min(bottom + by, canvas[1]),
    )


def frame_of(region: Box, size: Size, canvas: Size) -> Box:
    """The smallest box around a region with the shape of `size`, within the canvas if it can be."""
    left, top, right, bottom = region
    wide = max(right - left, math.ceil((bottom - top) * size[0] / size[1]))
    high = max(bottom - top, math.ceil((right - left) * size[1] / size[0]))
    x = _placed((left + right - wide) // 2, wide, canvas[0])
    y = _placed((top + bottom - high) // 2, high, canvas[1])
    return x, y, x + wide, y + high


def _placed(start: int, length: int, whole: int) -> int:
    """Where a stretch starts that lies within the whole, or around its middle."""
    return (whole - length) // 2 if length > whole else min(max(start, 0), whole - length)


def size_of(region: Box) -> Size:
    """Width and height of a box."""
    left, top, right, bottom = region
    return right - left, bottom - top


def is_whole(margins: Margins) -> bool:
    """Whether a picture stays as large as it is."""
    return not any(astuple(margins))
