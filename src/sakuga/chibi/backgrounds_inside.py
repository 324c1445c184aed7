"""Places under a roof, and plain grounds of one colour."""

from __future__ import annotations

from collections.abc import Callable

from sakuga.chibi.palette import Color, mix
from sakuga.chibi.scenery import Scenery, steps
from sakuga.chibi.shapes import arc, curve, ellipse, polygon


def classroom(s: Scenery) -> None:
    """A blackboard between windows."""
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


def simple(s: Scenery) -> None:
    """White, with a hint of a floor."""
    s.sky(
        (0, (252, 252, 252)), (0.66, (246, 246, 248)), (0.70, (236, 236, 240)), (1, (244, 244, 247))
    )


def library(s: Scenery) -> None:
    """Shelves of books up to the ceiling, and a carpet."""
    s.sky((0, (84, 52, 40)), (0.64, (72, 44, 36)))
    books: tuple[Color, ...] = (
        (186, 84, 72), (206, 166, 96), (94, 130, 112), (92, 112, 156), (214, 200, 172),
    )  # fmt: skip
    for x in steps(s, 0.3):
        for row in range(4):
            low = 0.165 + 0.15 * row
            at = x + 0.03
            while at < x + 0.255:
                width, height = s.rng.uniform(0.022, 0.036), s.rng.uniform(0.085, 0.12)
                color = books[int(s.rng.integers(len(books)))]
                s.box(at, low - height, at + width - 0.004, low, mix(color, (84, 52, 40), 0.22))
                at += width + (0.03 if s.rng.random() < 0.12 else 0.0)
            s.box(x, low, x + 0.3, low + 0.018, (140, 92, 60))
        s.box(x - 0.014, 0, x + 0.014, 0.64, (150, 98, 64))
        s.box(x + 0.004, 0, x + 0.014, 0.64, (122, 78, 52))
    s.band(0.625, 0.65, (122, 78, 52))
    s.band(0.65, 1, (176, 122, 82))
    s.band(0.74, 1, (160, 66, 72))
    s.band(0.755, 0.768, (228, 180, 110))


def bedroom(s: Scenery) -> None:
    """A bed beside a window with curtains, on a lilac wall."""
    s.sky((0, (240, 222, 240)), (0.62, (250, 234, 240)))
    for x in steps(s, 0.1):
        s.box(x, 0, x + 0.045, 0.6, (232, 210, 234))
    for x in steps(s, 0.8):
        s.box(x + 0.04, 0.10, x + 0.30, 0.40, (255, 253, 250))
        for pane in (x + 0.055, x + 0.177):
            s.box(pane, 0.115, pane + 0.108, 0.385, (168, 216, 246))
        for side in (-1, 1):
            near, far = x + 0.17 + side * 0.10, x + 0.17 + side * 0.18
            s.fill(
                curve(
                    (near - side * 0.04, 0.07),
                    (near - side * 0.04, 0.07),
                    (far, 0.07),
                    (far, 0.07),
                    (far, 0.44),
                    (far, 0.44),
                    (near + side * 0.025, 0.44),
                    (near + side * 0.025, 0.44),
                    (near + side * 0.02, 0.25),
                ),
                (244, 150, 176),
            )
        s.box(x - 0.04, 0.06, x + 0.38, 0.078, (176, 120, 88))
    s.band(0.60, 0.63, (255, 250, 250))
    s.band(0.63, 1, (206, 162, 128))
    for x in steps(s, 0.8):
        _bed(s, x + 0.34)
    s.fill(ellipse(0.6, 0.93, 0.5, 0.09, 40), (246, 214, 222))


def _bed(s: Scenery, x: float) -> None:
    s.fill(
        curve(
            (x, 0.72),
            (x, 0.72),
            (x, 0.46),
            (x + 0.03, 0.42),
            (x + 0.06, 0.46),
            (x + 0.06, 0.72),
            (x + 0.06, 0.72),
        ),
        (156, 104, 76),
    )
    s.box(x + 0.05, 0.57, x + 0.44, 0.72, (252, 248, 246))
    s.fill(curve((x + 0.06, 0.57), (x + 0.065, 0.52), (x + 0.11, 0.505), (x + 0.16, 0.53),
                 (x + 0.165, 0.575), (x + 0.11, 0.585)), (255, 255, 255))  # fmt: skip
    s.fill(
        curve(
            (x + 0.15, 0.56),
            (x + 0.15, 0.56),
            (x + 0.30, 0.545),
            (x + 0.45, 0.56),
            (x + 0.45, 0.56),
            (x + 0.455, 0.72),
            (x + 0.455, 0.72),
            (x + 0.15, 0.72),
            (x + 0.15, 0.72),
        ),
        (118, 152, 222),
    )
    s.box(x + 0.15, 0.56, x + 0.195, 0.72, (178, 202, 244))
    s.box(x + 0.01, 0.71, x + 0.45, 0.745, (156, 104, 76))


def stage(s: Scenery) -> None:
    """Beams of coloured light from above, a red curtain, a shining floor."""
    s.sky((0, (26, 16, 52)), (0.64, (66, 38, 104)))
    beams: tuple[Color, ...] = ((255, 110, 190), (110, 220, 255), (255, 226, 120))
    for i, x in enumerate(steps(s, 0.26)):
        color, lean = beams[i % 3], (0.14, -0.12, 0.05, -0.06)[i % 4]
        foot = x + lean
        s.fill(
            polygon((x - 0.012, 0.09), (x + 0.012, 0.09), (foot + 0.14, 0.66), (foot - 0.14, 0.66)),
            color,
            0.34,
        )
        s.fill(
            polygon((x - 0.008, 0.09), (x + 0.008, 0.09), (foot + 0.06, 0.66), (foot - 0.06, 0.66)),
            color,
            0.3,
        )
    s.band(0.64, 1, (92, 56, 128))
    s.band(0.64, 0.66, (150, 96, 186))
    for i, x in enumerate(steps(s, 0.26)):
        s.fill(ellipse(x, 0.80, 0.12, 0.05), beams[i % 3], 0.35)
        s.disc(x, 0.10, 0.028, (255, 252, 236))
    for x in steps(s, 0.12):
        s.fill(arc(x, 0.0, 0.075, 0.085, 0, 180), (196, 36, 60))
        s.fill(arc(x, 0.0, 0.04, 0.07, 0, 180), (226, 62, 80))
    for x in steps(s, 0.06):
        s.disc(x, 0.65, 0.009, (255, 236, 150))


def plain(edge: Color, middle: Color) -> Callable[[Scenery], None]:
    """A painter of one colour, a little lighter in the middle."""
    return lambda s: s.sky((0, edge), (0.45, middle), (1, edge))
