"""Places under an open sky by day or dusk: towns, shores, woods, fields."""

from __future__ import annotations

import numpy as np

from sakuga.chibi.palette import Color
from sakuga.chibi.scenery import Scenery, steps
from sakuga.chibi.shapes import Points, curve, ellipse, polygon


def city(s: Scenery) -> None:
    """Towers with lit windows before a low sun."""
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


def beach(s: Scenery) -> None:
    """Sea, sand and a palm."""
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


def forest(s: Scenery) -> None:
    """Trunks and crowns, green behind green."""
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


def sakura(s: Scenery) -> None:
    """Cherry trees in bloom."""
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


def snow(s: Scenery) -> None:
    """Firs in the snow."""
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


def blue_sky(s: Scenery) -> None:
    """Clouds over a meadow."""
    s.sky((0, (54, 134, 236)), (0.62, (166, 222, 255)))
    for x, y in s.spots(3):
        s.puff(x, 0.16 + 0.22 * y + 0.012, 0.085, (214, 234, 252))
        s.puff(x, 0.16 + 0.22 * y, 0.08, (255, 255, 255))
    s.hills(0.61, 0.015, (146, 214, 112), 3)
    s.hills(0.68, 0.012, (120, 198, 92), 3)
    s.hills(0.84, 0.02, (104, 184, 82), 3)
    for x, y in s.spots(6):
        s.disc(x, 0.74 + 0.24 * y, 0.013, (255, 244, 160))


def street(s: Scenery) -> None:
    """A row of houses along a road, by day."""
    s.sky((0, (142, 206, 250)), (0.5, (222, 242, 252)))
    walls: tuple[Color, ...] = ((250, 234, 206), (232, 214, 216), (214, 226, 232))
    roofs: tuple[Color, ...] = ((206, 92, 76), (92, 116, 168), (138, 96, 80))
    for i, x in enumerate(steps(s, 0.34)):
        top, roof = float(s.rng.uniform(0.27, 0.34)), roofs[i % 3]
        s.box(x, top, x + 0.29, 0.66, walls[i % 3])
        s.fill(polygon((x - 0.025, top + 0.01), (x + 0.05, top - 0.13), (x + 0.24, top - 0.13),
                       (x + 0.315, top + 0.01)), roof)  # fmt: skip
        for wx in (x + 0.035, x + 0.185):
            s.box(wx - 0.01, top + 0.05, wx + 0.08, top + 0.14, (255, 255, 252))
            s.box(wx, top + 0.06, wx + 0.07, top + 0.13, (120, 176, 214))
        s.box(x + 0.035, 0.49, x + 0.115, 0.66, roof)
        s.box(x + 0.165, 0.51, x + 0.265, 0.585, (120, 176, 214))
        s.puff(x + 0.315, 0.61, 0.042, (92, 168, 92))
    s.band(0.65, 0.72, (214, 208, 200))
    s.band(0.715, 0.735, (176, 170, 166))
    s.band(0.735, 1, (126, 128, 138))
    for x in steps(s, 0.24):
        s.box(x, 0.845, x + 0.13, 0.865, (248, 246, 238))


def mountain(s: Scenery) -> None:
    """Peaks with snow on them, above firs and a lake."""
    s.sky((0, (120, 184, 238)), (0.55, (232, 242, 246)))
    for depth, gap in ((0, 0.38), (1, 0.5)):
        for x in steps(s, gap):
            top = float(s.rng.uniform(0.10, 0.17)) + 0.12 * depth
            _peak(s, x + 0.2 * depth, top, 0.30, depth)
    s.hills(0.56, 0.02, (74, 126, 106), 4)
    s.band(0.60, 0.70, (104, 180, 216))
    for x, y in s.spots(6):
        s.fill(ellipse(x, 0.615 + 0.06 * y, 0.07, 0.005), (176, 222, 240))
    for x in steps(s, 0.17):
        tall = float(s.rng.uniform(0.10, 0.16))
        for part in (0.0, 0.4):
            top = 0.72 - tall * (1 - part * 0.8)
            s.fill(
                polygon((x, top), (x + 0.045, top + tall * 0.62), (x - 0.045, top + tall * 0.62)),
                (40, 96, 82),
            )
    s.hills(0.70, 0.01, (98, 148, 92), 4)
    s.hills(0.85, 0.015, (84, 132, 82), 3)


def _peak(s: Scenery, x: float, top: float, half: float, depth: int) -> None:
    rock, shade = (((150, 164, 194), (124, 138, 174)), ((118, 130, 160), (94, 106, 140)))[depth]
    steep = half / 0.5  # half width for each unit of height
    s.fill(polygon((x, top), (x + half, top + 0.5), (x - half, top + 0.5)), rock)
    s.fill(polygon((x, top), (x + half, top + 0.5), (x + half * 0.2, top + 0.5)), shade)
    cap = [
        (0.0, 0.0),
        (0.15, 1.0),
        (0.09, 0.45),
        (0.12, 0.1),
        (0.15, -0.3),
        (0.10, -0.55),
        (0.14, -1.0),
    ]
    s.fill(polygon(*((x + side * y * steep, top + y) for y, side in cap)), (250, 252, 255))


def flower_field(s: Scenery) -> None:
    """Bands of flowers up to the hills."""
    s.sky((0, (150, 206, 250)), (0.56, (255, 244, 214)))
    for x, y in s.spots(2):
        s.puff(x, 0.14 + 0.12 * y, 0.05, (255, 255, 255))
    s.hills(0.50, 0.02, (150, 200, 140), 3)
    bands: tuple[tuple[float, Color, Color], ...] = (
        (0.56, (178, 130, 214), (214, 176, 240)), (0.62, (240, 118, 160), (255, 176, 200)),
        (0.69, (252, 200, 84), (255, 230, 150)), (0.77, (106, 176, 96), (106, 176, 96)),
    )  # fmt: skip
    for y, color, light in bands:
        s.hills(y, 0.006, color, 6)
        for x, part in s.spots(24):
            s.disc(x, y + 0.015 + 0.04 * part, 0.011, light)
    petals: tuple[Color, ...] = ((255, 128, 160), (255, 250, 250), (252, 198, 70), (196, 146, 236))
    for row, y in enumerate((0.80, 0.868, 0.995)):
        for i, (x, _) in enumerate(s.spots(9)):
            _flower(s, x, y, 0.019 + 0.004 * row, petals[(i + row) % 4])


def _flower(s: Scenery, x: float, y: float, r: float, color: Color) -> None:
    s.line(polygon((x, y), (x, y + 2 * r)), (70, 140, 74), 0.008)
    for dx, dy in ((0.0, -1.0), (0.95, -0.31), (0.59, 0.81), (-0.59, 0.81), (-0.95, -0.31)):
        s.disc(x + dx * r * 0.8, y + dy * r * 0.8, r * 0.66, color)
    s.disc(x, y, r * 0.5, (236, 160, 50) if color != (252, 198, 70) else (150, 96, 50))


def autumn(s: Scenery) -> None:
    """Red and golden trees that lose their leaves."""
    s.sky((0, (250, 226, 178)), (0.6, (255, 244, 216)))
    for x, y in s.spots(6):
        s.box(x - 0.014, 0.4, x + 0.014, 0.64, (170, 124, 92))
        s.puff(x, 0.34 + 0.08 * y, 0.085, (248, 190, 92))
    s.hills(0.62, 0.01, (222, 166, 96), 4)
    for i, (x, _) in enumerate(s.spots(3)):
        s.fill(
            polygon((x - 0.03, 0.1), (x + 0.03, 0.1), (x + 0.05, 0.70), (x - 0.05, 0.70)),
            (110, 72, 62),
        )
        deep, bright = (((200, 66, 44), (228, 96, 54)), ((226, 120, 40), (248, 154, 64)))[i % 2]
        s.puff(x, 0.08, 0.15, deep)
        s.puff(x - 0.04, 0.04, 0.11, bright)
    s.hills(0.69, 0.01, (206, 142, 84), 4)
    s.hills(0.85, 0.015, (190, 124, 74), 3)
    leaves: tuple[Color, ...] = ((214, 70, 44), (250, 188, 70), (232, 120, 46))
    for i, (x, y) in enumerate((*s.spots(14), *s.spots(12))):
        s.fill(_leaf(x, 0.24 + 0.74 * y, 0.022, float(s.rng.uniform(0, 360))), leaves[i % 3])


def _leaf(x: float, y: float, r: float, turn: float) -> Points:
    angle = np.radians(turn + np.arange(10) * 36)
    reach = np.where(np.arange(10) % 2, 0.42, 1.0) * r
    return np.stack([x + reach * np.cos(angle), y + reach * np.sin(angle)], axis=1).astype(
        np.float32
    )
