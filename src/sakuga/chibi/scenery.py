"""The canvas of a place: wider than the picture, with a brush that counts in picture heights.

The ground begins near y = 0.64. What stands at one place lies within 0 <= x <= `WIDTH`; a wide
picture sees more of the same land on both sides of that.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from sakuga.chibi.palette import Color
from sakuga.chibi.shapes import Points, curve, ellipse, polygon

WIDTH = 1.2


class Scenery:
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

    def fill(self, points: Points, color: Color, share: float = 1.0) -> None:
        """A flat shape; where its `share` is less than 1, what is behind shines through."""
        if share == 1.0:
            self._draw.polygon(self._pixels(points), fill=color)
            return
        pixels = np.array(self._pixels(points)).reshape(-1, 2)
        corner, far = np.floor(pixels.min(axis=0)), np.ceil(pixels.max(axis=0)) + 1
        x, y, right, below = (int(edge) for edge in (*corner, *far))
        mask = Image.new("L", (right - x, below - y))
        inside = (pixels - corner).ravel().tolist()
        ImageDraw.Draw(mask).polygon(inside, fill=round(255 * share))
        self.image.paste(color, (x, y, right, below), mask)

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


def steps(scenery: Scenery, gap: float) -> tuple[float, ...]:
    """Places `gap` apart, from beyond the left edge to beyond the right one."""
    first = np.floor(scenery.left / gap) * gap
    return tuple(np.arange(first, scenery.right + gap, gap).tolist())
