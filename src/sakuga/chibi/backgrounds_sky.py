"""Places ruled by what is above: nights, weather, the deep sea."""

from __future__ import annotations

import numpy as np

from sakuga.chibi.palette import Color
from sakuga.chibi.scenery import Scenery, steps
from sakuga.chibi.shapes import arc, ellipse, limb, polygon


def night(s: Scenery) -> None:
    """A crescent and stars over dark hills."""
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


def sunset(s: Scenery) -> None:
    """A huge sun that goes down in the sea."""
    s.sky(
        (0, (122, 62, 128)), (0.26, (226, 84, 96)), (0.46, (255, 144, 66)), (0.6, (255, 212, 110))
    )
    for x in steps(s, 1.2):
        s.disc(x + 0.6, 0.56, 0.27, (255, 190, 92))
        s.disc(x + 0.6, 0.56, 0.21, (255, 242, 168))
    for x, y in s.spots(5):
        s.fill(ellipse(x, 0.08 + 0.34 * y, 0.15, 0.013), (255, 172, 122), 0.75)
    s.band(0.60, 0.76, (222, 96, 76))
    for row in range(4):
        y = 0.612 + 0.038 * row
        for x in steps(s, 1.2):
            half = 0.21 - 0.035 * row
            s.fill(ellipse(x + 0.6, y, half, 0.01), (255, 222, 138))
        for x, _ in s.spots(4):
            s.fill(ellipse(x, y + 0.018, 0.08, 0.006), (246, 136, 88))
    s.hills(0.75, 0.008, (255, 206, 166), 6)
    s.hills(0.765, 0.01, (150, 84, 92), 6)
    s.hills(0.88, 0.015, (128, 68, 88), 3)


def rain(s: Scenery) -> None:
    """Low clouds, streaks of rain, puddles."""
    s.sky((0, (78, 92, 118)), (0.62, (130, 146, 168)))
    x = s.left - 0.03
    while x < s.right:
        width = float(s.rng.uniform(0.12, 0.2))
        s.box(x, float(s.rng.uniform(0.3, 0.46)), x + width, 0.66, (104, 120, 144))
        x += width + 0.03
    for x, y in s.spots(5):
        s.puff(x, 0.02 + 0.06 * y, 0.12, (60, 72, 96))
    s.band(0.64, 1, (92, 104, 126))
    s.band(0.64, 0.665, (126, 138, 156))
    for x, y in s.spots(5):
        middle = 0.72 + 0.22 * y
        s.fill(ellipse(x, middle, 0.10, 0.022), (156, 174, 194))
        s.fill(ellipse(x, middle, 0.05, 0.010), (196, 212, 226))
        s.fill(ellipse(x, middle, 0.035, 0.006), (156, 174, 194))
    for x, y in (*s.spots(30), *s.spots(30)):
        s.line(polygon((x + 0.02, 0.9 * y), (x, 0.9 * y + 0.075)), (218, 230, 242), 0.006)


def underwater(s: Scenery) -> None:
    """Rays through blue water, fish, bubbles, corals on the sand."""
    s.sky((0, (132, 232, 236)), (0.3, (48, 166, 206)), (0.7, (22, 104, 168)), (1, (18, 84, 146)))
    for x in steps(s, 0.22):
        wide = float(s.rng.uniform(0.02, 0.05))
        s.fill(polygon((x, 0), (x + wide, 0), (x + wide - 0.16, 0.62), (x - wide - 0.2, 0.62)),
               (220, 255, 250), 0.2)  # fmt: skip
    for x in steps(s, 0.3):
        for side, tall in ((0.0, 0.22), (0.05, 0.30), (0.09, 0.17)):
            foot = x + side
            stem = [
                (foot, 0.72),
                (foot + 0.02, 0.72 - tall * 0.4),
                (foot - 0.015, 0.72 - tall * 0.7),
                (foot + 0.01, 0.72 - tall),
            ]
            s.fill(limb(stem, [0.03, 0.028, 0.022, 0.008]), (38, 138, 108))
    for x, y in s.spots(5):
        _fish(s, x, 0.10 + 0.40 * y, 0.036)
    for x, y in s.spots(14):
        r = float(s.rng.uniform(0.009, 0.018))
        s.disc(x, 0.04 + 0.6 * y, r, (206, 246, 252))
        s.disc(x, 0.04 + 0.6 * y, r * 0.6, (116, 206, 232))
    s.hills(0.70, 0.012, (192, 196, 158), 4)
    s.hills(0.86, 0.015, (172, 180, 148), 3)
    for x in steps(s, 0.3):
        for dx, tall in ((-0.035, 0.07), (0.0, 0.11), (0.035, 0.08)):
            branch = [(x + 0.2, 0.74), (x + 0.2 + dx * 0.6, 0.71), (x + 0.2 + dx, 0.74 - tall)]
            s.fill(limb(branch, [0.03, 0.028, 0.024]), (248, 118, 132))


def _fish(s: Scenery, x: float, y: float, r: float) -> None:
    s.fill(
        polygon((x + r, y), (x + 2.0 * r, y - 0.75 * r), (x + 2.0 * r, y + 0.75 * r)),
        (240, 120, 40),
    )
    s.disc(x, y, 1.25 * r, (255, 152, 54), 0.62)
    s.fill(
        polygon(
            (x - 0.1 * r, y - 0.76 * r),
            (x + 0.3 * r, y - 0.74 * r),
            (x + 0.3 * r, y + 0.74 * r),
            (x - 0.1 * r, y + 0.76 * r),
        ),
        (255, 246, 236),
    )
    s.disc(x - 0.7 * r, y - 0.12 * r, 0.17 * r, (40, 30, 40))


def space(s: Scenery) -> None:
    """Planets among the stars, seen from a moon."""
    s.sky((0, (12, 8, 34)), (0.66, (46, 22, 82)))
    for x, y in s.spots(4):
        s.puff(x, 0.18 + 0.3 * y, 0.13, (58, 28, 104))
    for x, y in s.spots(46):
        s.disc(x, 0.62 * y, float(s.rng.choice([0.004, 0.005, 0.007])), (244, 240, 255))
    for x in steps(s, 0.62):
        if round(x / 0.62) % 2:
            s.disc(x + 0.12, 0.30, 0.085, (84, 176, 232))
            s.fill(arc(x + 0.12, 0.30, 0.085, 0.085, 25, 155), (52, 130, 200))
            s.disc(x + 0.09, 0.265, 0.03, (136, 222, 168), 0.7)
            s.disc(x + 0.15, 0.30, 0.022, (136, 222, 168), 0.8)
        else:
            _ringed(s, x + 0.12, 0.20, 0.095)
    s.hills(0.65, 0.012, (168, 164, 186), 4)
    s.hills(0.84, 0.012, (148, 144, 168), 3)
    for x, y in s.spots(6):
        middle = 0.69 + 0.2 * y
        s.fill(ellipse(x, middle, 0.055, 0.018), (118, 114, 142))
        s.fill(ellipse(x, middle + 0.005, 0.045, 0.012), (136, 132, 158))


def _ringed(s: Scenery, x: float, y: float, r: float) -> None:
    """A planet with its ring before and behind."""
    ring = np.concatenate(
        [arc(x, y, 1.9 * r, 0.55 * r, 0, 180), arc(x, y, 1.4 * r, 0.3 * r, 180, 0)]
    )
    tilt = np.radians(-16)
    turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    front = ((ring - (x, y)) @ turn + (x, y)).astype(np.float32)
    back = ((ring * (1, -1) + (-x, y)) @ turn + (x, y)).astype(np.float32)
    s.fill(back, (188, 150, 140))
    s.disc(x, y, r, (246, 178, 104))
    s.fill(arc(x, y, r, r, 20, 160), (222, 134, 88))
    s.fill(front, (240, 214, 190))


def fireworks(s: Scenery) -> None:
    """Bursts over a summer night, and strings of paper lanterns."""
    s.sky((0, (24, 22, 88)), (0.66, (104, 58, 140)))
    colors: tuple[Color, ...] = ((255, 120, 160), (255, 220, 110), (110, 226, 250), (190, 150, 255))
    for i, (x, y) in enumerate(s.spots(5)):
        middle, reach = 0.13 + 0.14 * y, 0.12 + 0.03 * (i % 2)
        for angle in np.linspace(0, 2 * np.pi, 14, endpoint=False):
            dx, dy = float(np.cos(angle)), float(np.sin(angle))
            ray = polygon((x + 0.3 * reach * dx, middle + 0.3 * reach * dy),
                          (x + 0.82 * reach * dx, middle + 0.82 * reach * dy))  # fmt: skip
            s.line(ray, colors[i % 4], 0.009)
            s.disc(x + reach * dx, middle + reach * dy, 0.010, (255, 250, 230))
        s.disc(x, middle, 0.018, (255, 250, 230))
    s.hills(0.655, 0.006, (70, 46, 104), 4)
    s.hills(0.80, 0.012, (56, 38, 90), 3)
    for x in steps(s, 0.48):
        s.line(arc(x, 0.44, 0.24, 0.07, 0, 180), (120, 92, 110), 0.007)
        for angle in (150, 90, 30):
            lx = x + 0.24 * float(np.cos(np.radians(angle)))
            ly = 0.475 + 0.07 * float(np.sin(np.radians(angle)))
            s.fill(ellipse(lx, ly, 0.052, 0.056), (255, 150, 80), 0.35)
            s.disc(lx, ly, 0.034, (244, 84, 60), 1.12)
            s.disc(lx, ly, 0.016, (255, 206, 120), 1.7)
            s.box(lx - 0.014, ly - 0.044, lx + 0.014, ly - 0.034, (60, 36, 46))
