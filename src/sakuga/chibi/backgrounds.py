"""Nine places, each read at a glance: big calm shapes, no detail under three pixels.

Drawn once per variant, wider than the picture, so that a crop and a mirror give fresh views.
Units are picture heights; the ground begins near y = 0.64. What stands at one place lies within
0 <= x <= `WIDTH`; a wide picture sees more of the same land on both sides of that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from sakuga.chibi.lighting import lit_place
from sakuga.chibi.palette import Color
from sakuga.chibi.shapes import Points, arc, curve, ellipse, polygon

WIDTH = 1.2
VARIANTS = 3


class _Scenery:
    """A wide canvas with a brush in picture heights; `left` and `right` are its edges."""

    def __init__(self, width: int, side: int, seed: int) -> None:
        self.side = side
        self.rng = np.random.default_rng(seed)
        self.image = Image.new("RGB", (width, side))
        self._draw = ImageDraw.Draw(self.image)
        more = max(0.0, (width / side - WIDTH) / 2)
        self.left, self.right = -more, WIDTH + more

    def _pixels(self, points: Points) -> list[float]:
        pixels: list[float] = ((points - (self.left, 0)) * self.side).ravel().tolist()
        return pixels

    def _often(self, count: int) -> int:
        """How many things stand on the whole width if `count` stand on `WIDTH`."""
        return round(count * (self.right - self.left) / WIDTH)

    def sky(self, *stops: tuple[float, Color]) -> None:
        """A vertical gradient through (y, color) stops."""
        y = (np.arange(self.side) + 0.5) / self.side
        at = [stop for stop, _ in stops]
        rows = np.stack([np.interp(y, at, [c[i] for _, c in stops]) for i in range(3)], axis=1)
        column = Image.fromarray(rows.round().astype(np.uint8)[:, None, :])
        self.image.paste(column.resize(self.image.size))

    def fill(self, points: Points, color: Color) -> None:
        """A flat shape."""
        self._draw.polygon(self._pixels(points), fill=color)

    def line(self, points: Points, color: Color, width: float) -> None:
        """A line, `width` in picture heights."""
        pixels = max(1, round(width * self.side))
        self._draw.line(self._pixels(points), fill=color, width=pixels, joint="curve")

    def box(self, x0: float, y0: float, x1: float, y1: float, color: Color) -> None:
        """An upright rectangle."""
        self.fill(polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1)), color)

    def band(self, y0: float, y1: float, color: Color) -> None:
        """A rectangle from edge to edge."""
        self.box(self.left, y0, self.right, y1, color)

    def disc(self, x: float, y: float, r: float, color: Color, flat: float = 1.0) -> None:
        """A disc, or an ellipse `flat` times as high."""
        self.fill(ellipse(x, y, r, r * flat, 40), color)

    def hills(self, y: float, rise: float, color: Color, waves: int = 3) -> None:
        """A rolling edge near `y`, filled down to the bottom."""
        left, right = self.left - 0.1, self.right + 0.1
        xs = np.linspace(left, right, self._often(waves) * 2 + 1)
        ys = y + rise * self.rng.uniform(-1, 1, len(xs))
        edge = [(float(a), float(b)) for a, b in zip(xs, ys, strict=True)]
        top = curve(*edge, closed=False)
        self.fill(np.concatenate([top, polygon((right, 1.1), (left, 1.1))]), color)

    def puff(self, x: float, y: float, r: float, color: Color) -> None:
        """A cloud or a crown of leaves: a few overlapping discs."""
        for dx, dy, part in ((0, 0, 1.0), (-0.95, 0.28, 0.72), (0.95, 0.25, 0.76),
                             (-0.45, -0.3, 0.7), (0.5, -0.35, 0.66)):  # fmt: skip
            self.disc(x + dx * r, y + dy * r, part * r, color)

    def spots(self, n: int) -> list[tuple[float, float]]:
        """Places spread evenly, `n` on `WIDTH`, at random heights 0..1."""
        n = self._often(n)
        xs = self.left + (np.arange(n) + self.rng.uniform(0.15, 0.85, n)) * (
            (self.right - self.left) / n
        )
        return [(float(x), float(y)) for x, y in zip(xs, self.rng.uniform(0, 1, n), strict=True)]


def _city(s: _Scenery) -> None:
    s.sky(
        (0, (92, 72, 150)), (0.3, (214, 110, 150)), (0.52, (255, 168, 112)), (0.66, (255, 214, 140))
    )
    s.disc(0.6, 0.56, 0.115, (255, 232, 168))
    for depth, color in ((0, (150, 92, 142)), (1, (86, 60, 112))):
        x = s.left - 0.03
        while x < s.right:
            width = float(s.rng.uniform(0.10, 0.15))
            low, high = ((0.26, 0.44), (0.36, 0.56))[depth]
            top = float(s.rng.uniform(low, high))
            s.box(x, top, x + width, 0.7, color)
            if depth:
                for i in range(2):
                    for j in range(2):
                        if s.rng.random() < 0.7:
                            wx, wy = x + width * (0.2 + 0.38 * i), top + 0.035 + 0.062 * j
                            s.box(wx, wy, wx + width * 0.22, wy + 0.032, (255, 218, 120))
            x += width + float(s.rng.uniform(0.0, 0.03))
    s.band(0.655, 1, (112, 84, 122))
    s.band(0.655, 0.675, (158, 118, 148))
    s.fill(polygon((0.5, 0.68), (0.7, 0.68), (1.05, 1), (0.15, 1)), (128, 98, 136))


def _beach(s: _Scenery) -> None:
    s.sky((0, (96, 190, 246)), (0.42, (206, 240, 252)))
    s.disc(0.22, 0.15, 0.07, (255, 246, 190))
    for x, y in s.spots(2):
        s.puff(x, 0.18 + 0.1 * y, 0.05, (250, 254, 255))
    s.band(0.42, 0.64, (40, 158, 206))
    s.band(0.50, 0.64, (70, 192, 216))
    s.hills(0.575, 0.008, (150, 226, 226), 6)
    s.hills(0.605, 0.01, (250, 252, 246), 6)
    s.hills(0.625, 0.01, (248, 220, 160), 6)
    s.hills(0.85, 0.02, (240, 206, 140), 3)
    trunk = curve((0.975, 0.69), (0.975, 0.69), (1.0, 0.5), (1.06, 0.28), (1.09, 0.29),
                  (1.04, 0.5), (1.025, 0.69), (1.025, 0.69))  # fmt: skip
    s.fill(trunk, (150, 104, 66))
    for dx, dy in ((-0.17, 0.02), (-0.13, 0.12), (0.13, 0.02), (0.10, 0.12), (-0.04, -0.10)):
        tip = (1.075 + dx, 0.27 + dy)
        mid = (1.075 + dx * 0.5, 0.23 + dy * 0.35)
        s.fill(curve((1.075, 0.27), mid, tip, tip, (mid[0], mid[1] + 0.05)), (52, 150, 92))


def _forest(s: _Scenery) -> None:
    s.sky((0, (196, 232, 170)), (0.6, (150, 206, 136)))
    for x, y in s.spots(6):
        s.box(x - 0.02, 0.2, x + 0.02, 0.66, (118, 158, 104))
        s.puff(x, 0.16 + 0.08 * y, 0.10, (110, 176, 98))
    s.hills(0.63, 0.012, (96, 160, 82), 4)
    for x, y in s.spots(3):
        s.fill(
            polygon((x - 0.035, 0.1), (x + 0.035, 0.1), (x + 0.055, 0.70), (x - 0.055, 0.70)),
            (112, 78, 58),
        )
        s.box(x + 0.008, 0.1, x + 0.034, 0.68, (92, 62, 50))
        s.puff(x, 0.06 + 0.05 * y, 0.15, (58, 130, 70))
        s.puff(x - 0.04, 0.02 + 0.05 * y, 0.10, (82, 156, 82))
    s.hills(0.685, 0.012, (82, 146, 72), 4)
    s.hills(0.86, 0.02, (66, 126, 64), 3)


def _classroom(s: _Scenery) -> None:
    s.sky((0, (250, 236, 206)), (0.6, (240, 222, 188)))
    s.box(0.30, 0.10, 0.90, 0.47, (160, 108, 70))
    s.box(0.325, 0.125, 0.875, 0.445, (46, 104, 82))
    s.line(
        curve((0.38, 0.2), (0.45, 0.175), (0.52, 0.2), (0.60, 0.18), closed=False),
        (206, 230, 214),
        0.011,
    )
    s.line(polygon((0.38, 0.26), (0.52, 0.26)), (206, 230, 214), 0.011)
    s.box(0.31, 0.46, 0.89, 0.485, (190, 134, 90))
    for x in (0.03, 1.0):
        s.box(x, 0.08, x + 0.2, 0.46, (255, 252, 244))
        s.box(x + 0.018, 0.10, x + 0.092, 0.44, (150, 210, 246))
        s.box(x + 0.108, 0.10, x + 0.182, 0.44, (150, 210, 246))
    s.band(0.60, 0.64, (206, 160, 112))
    s.band(0.64, 1, (222, 176, 122))
    for i in range(-12, 20):
        x = 0.6 + (i - 3.5) * 0.16
        top = 0.6 + (x - 0.6) * 0.6
        s.line(polygon((top, 0.64), (0.6 + (x - 0.6) * 1.5, 1.0)), (200, 150, 100), 0.008)


def _night(s: _Scenery) -> None:
    s.sky((0, (18, 22, 66)), (0.4, (44, 50, 118)), (0.66, (98, 92, 168)))
    outer = arc(0.83, 0.17, 0.09, 0.09, -110, 150, 24)
    inner = arc(0.795, 0.15, 0.072, 0.072, 122, -82, 24)
    s.fill(np.concatenate([outer, inner]), (255, 244, 196))
    for x, y in s.spots(9):
        r = float(s.rng.uniform(0.018, 0.03))
        star = ellipse(x, 0.05 + 0.42 * y, r, r, 8)
        star[1::2] = (star[1::2] - (x, 0.05 + 0.42 * y)) * 0.38 + (x, 0.05 + 0.42 * y)
        s.fill(star, (255, 246, 200))
    s.hills(0.60, 0.03, (48, 50, 110), 3)
    s.hills(0.68, 0.015, (36, 58, 92), 3)
    s.hills(0.84, 0.02, (28, 46, 78), 3)


def _sakura(s: _Scenery) -> None:
    s.sky((0, (190, 226, 250)), (0.55, (252, 232, 240)))
    for x, y in s.spots(4):
        s.puff(x, 0.46 + 0.05 * y, 0.10, (252, 206, 222))
    s.hills(0.61, 0.01, (176, 214, 150), 4)
    for x in (0.10, 1.06):
        s.fill(
            curve((x - 0.055, 0.67), (x - 0.055, 0.67), (x - 0.025, 0.5), (x - 0.03, 0.2),
                  (x + 0.03, 0.2), (x + 0.03, 0.5), (x + 0.06, 0.67), (x + 0.06, 0.67)),
            (126, 84, 82))  # fmt: skip
    for x, y in s.spots(6):
        s.puff(x, 0.04 + 0.08 * y, 0.13, (248, 166, 196))
    for x, y in s.spots(5):
        s.puff(x, 0.0 + 0.08 * y, 0.085, (254, 198, 216))
    s.hills(0.80, 0.02, (160, 202, 134), 3)
    for x, y in s.spots(9):
        s.fill(ellipse(x, 0.28 + 0.66 * y, 0.017, 0.011, 12), (255, 186, 208))


def _snow(s: _Scenery) -> None:
    s.sky((0, (150, 178, 212)), (0.6, (214, 228, 242)))
    s.hills(0.50, 0.03, (196, 212, 232), 3)
    for x, y in s.spots(4):
        h = 0.30 + 0.10 * y
        s.box(x - 0.016, 0.58, x + 0.016, 0.66, (110, 84, 80))
        for i in range(3):
            top, half = 0.62 - h + i * h * 0.24, 0.05 + 0.028 * i
            s.fill(
                polygon((x, top), (x + half, top + h * 0.42), (x - half, top + h * 0.42)),
                (74, 124, 122),
            )
            s.fill(polygon((x, top), (x + half * 0.55, top + h * 0.22), (x, top + h * 0.18),
                           (x - half * 0.55, top + h * 0.22)), (244, 250, 255))  # fmt: skip
    s.hills(0.645, 0.012, (236, 243, 252), 3)
    s.hills(0.82, 0.02, (222, 233, 247), 3)
    for x, y in s.spots(14):
        s.disc(x, 0.03 + 0.6 * y, float(s.rng.uniform(0.010, 0.017)), (255, 255, 255))


def _blue_sky(s: _Scenery) -> None:
    s.sky((0, (54, 134, 236)), (0.62, (166, 222, 255)))
    for x, y in s.spots(3):
        s.puff(x, 0.16 + 0.22 * y + 0.012, 0.085, (214, 234, 252))
        s.puff(x, 0.16 + 0.22 * y, 0.08, (255, 255, 255))
    s.hills(0.61, 0.015, (146, 214, 112), 3)
    s.hills(0.68, 0.012, (120, 198, 92), 3)
    s.hills(0.84, 0.02, (104, 184, 82), 3)
    for x, y in s.spots(6):
        s.disc(x, 0.74 + 0.24 * y, 0.013, (255, 244, 160))


def _simple(s: _Scenery) -> None:
    s.sky(
        (0, (252, 252, 252)), (0.66, (246, 246, 248)), (0.70, (236, 236, 240)), (1, (244, 244, 247))
    )


_PAINTERS: dict[str, Callable[[_Scenery], None]] = {
    "cityscape_at_dusk": _city,
    "beach": _beach,
    "forest": _forest,
    "classroom": _classroom,
    "night_sky": _night,
    "cherry_blossoms": _sakura,
    "snow": _snow,
    "blue_sky": _blue_sky,
    "simple_background": _simple,
}


@cache
def _wide(background: str, lighting: str, variant: int, width: int, side: int) -> Image.Image:
    scenery = _Scenery(width, side, variant)
    _PAINTERS[background](scenery)
    return lit_place(scenery.image, lighting)


def paint(
    background: str, lighting: str, size: tuple[int, int], rng: np.random.Generator
) -> Image.Image:
    """A view of the place, `size` (width, height) in pixels, to draw on; `rng` chooses which."""
    width, height = size
    land = round((WIDTH - 1) * height) + max(width, height)
    wide = _wide(background, lighting, int(rng.integers(VARIANTS)), land, height)
    x = int(rng.integers(wide.width - width + 1))
    view = wide.crop((x, 0, x + width, height))
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else view
