"""Hair: one silhouette for each style, in figure heights with the soles at the origin.

The skull is centred at (0, -0.70); eyes lie around y = -0.63, so fringes end near -0.70.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from sakuga.chibi.shapes import Points, Stroke, both, curve, ellipse, limb, moved


def _lock(points: Points) -> Stroke:
    return Stroke(points, "hair", "hair.line")


def _far(points: Points) -> Stroke:
    """Hair behind the neck lies in its own shadow."""
    return Stroke(points, "hair.shade", "hair.line")


def _strand(*knots: tuple[float, float]) -> Stroke:
    return Stroke(curve(*knots, closed=False, per=5), None, "hair.shade", 1.1, closed=False)


def _tie(x: float, y: float, r: float) -> tuple[Stroke, Stroke]:
    return both(Stroke(ellipse(x, y, r, r * 0.9, 12), "accent", "accent.line"))


def _twintails() -> tuple[Stroke, ...]:
    tail = curve(
        (0.19, -0.87), (0.30, -0.90), (0.355, -0.76), (0.345, -0.52), (0.352, -0.30),
        (0.30, -0.07), (0.30, -0.07), (0.275, -0.19), (0.235, -0.12), (0.235, -0.12),
        (0.235, -0.32), (0.255, -0.52), (0.245, -0.70),
    )  # fmt: skip
    shade = curve((0.25, -0.60), (0.275, -0.45), (0.262, -0.25), (0.245, -0.18), (0.245, -0.34))
    shine = limb([(0.275, -0.79), (0.315, -0.765), (0.34, -0.70)], [0.02, 0.03, 0.012])
    return (
        *both(_lock(tail)),
        *both(Stroke(shade, "hair.shade")),
        *both(Stroke(shine, "hair.light")),
        *_tie(0.215, -0.845, 0.036),
    )


def _pigtails() -> tuple[Stroke, ...]:
    tuft = curve(
        (0.20, -0.60), (0.27, -0.635), (0.335, -0.58), (0.352, -0.48), (0.345, -0.40),
        (0.345, -0.40), (0.305, -0.43), (0.275, -0.375), (0.275, -0.375), (0.245, -0.43),
        (0.205, -0.52),
    )  # fmt: skip
    shine = limb([(0.265, -0.585), (0.30, -0.56), (0.325, -0.51)], [0.012, 0.026, 0.01])
    return (
        *both(_lock(tuft)),
        *both(Stroke(shine, "hair.light")),
        *_tie(0.215, -0.575, 0.034),
    )


def _long() -> tuple[Stroke, ...]:
    mass = curve(
        (0.0, -0.90), (0.20, -0.86), (0.262, -0.70), (0.262, -0.45), (0.285, -0.16),
        (0.285, -0.16), (0.215, -0.115), (0.15, -0.15), (0.15, -0.15), (0.08, -0.105),
        (0.0, -0.14), (0.0, -0.14), (-0.08, -0.105), (-0.15, -0.15), (-0.15, -0.15),
        (-0.215, -0.115), (-0.285, -0.16), (-0.285, -0.16), (-0.262, -0.45), (-0.262, -0.70),
        (-0.20, -0.86),
    )  # fmt: skip
    side = curve(
        (0.225, -0.68), (0.262, -0.62), (0.262, -0.45), (0.285, -0.16), (0.285, -0.16),
        (0.235, -0.13), (0.225, -0.30), (0.205, -0.50),
    )  # fmt: skip
    return (_far(mass), *both(Stroke(side, "hair")))


def _bob() -> tuple[Stroke, ...]:
    mass = curve(
        (0.0, -0.90), (0.20, -0.86), (0.265, -0.70), (0.285, -0.54), (0.235, -0.425),
        (0.10, -0.42), (0.0, -0.42), (-0.10, -0.42), (-0.235, -0.425), (-0.285, -0.54),
        (-0.265, -0.70), (-0.20, -0.86),
    )  # fmt: skip
    side = curve((0.22, -0.70), (0.262, -0.68), (0.284, -0.54), (0.236, -0.43), (0.20, -0.50))
    return (_far(mass), *both(Stroke(side, "hair")))


def _ponytail() -> tuple[Stroke, ...]:
    tail = curve(
        (0.03, -0.93), (0.13, -0.995), (0.27, -0.95), (0.345, -0.78), (0.352, -0.52),
        (0.30, -0.30), (0.225, -0.20), (0.225, -0.20), (0.235, -0.32), (0.20, -0.28),
        (0.20, -0.28), (0.255, -0.50), (0.255, -0.74), (0.17, -0.86),
    )  # fmt: skip
    shade = curve((0.25, -0.76), (0.285, -0.62), (0.27, -0.42), (0.22, -0.30), (0.255, -0.52))
    shine = limb([(0.20, -0.935), (0.265, -0.89), (0.305, -0.80)], [0.012, 0.034, 0.012])
    tie = Stroke(ellipse(0.085, -0.935, 0.045, 0.038, 12), "accent", "accent.line")
    nape = curve(
        (0.0, -0.88), (0.22, -0.80), (0.245, -0.62), (0.20, -0.50), (0.0, -0.46),
        (-0.20, -0.50), (-0.245, -0.62), (-0.22, -0.80),
    )  # fmt: skip
    return (
        _lock(tail),
        Stroke(shade, "hair.shade"),
        Stroke(shine, "hair.light"),
        tie,
        _far(nape),
    )


def _nape() -> tuple[Stroke, ...]:
    mass = curve(
        (0.0, -0.88), (0.22, -0.80), (0.25, -0.62), (0.205, -0.475), (0.0, -0.45),
        (-0.205, -0.475), (-0.25, -0.62), (-0.22, -0.80),
    )  # fmt: skip
    return (_far(mass),)


def _buns() -> tuple[Stroke, ...]:
    bun = ellipse(0.205, -0.885, 0.092, 0.09)
    swirl = _strand((0.165, -0.87), (0.20, -0.835), (0.25, -0.86), (0.255, -0.91))
    shine = limb([(0.175, -0.935), (0.205, -0.95), (0.24, -0.935)], [0.01, 0.022, 0.01])
    return (
        *_nape(),
        *both(_lock(bun)),
        *both(swirl),
        *both(Stroke(shine, "hair.light")),
    )


def _spikes() -> tuple[Stroke, ...]:
    """Swept tufts: each tip a corner, each valley round."""
    right = (
        ((0.035, -0.925), (0.10, -0.998)),
        ((0.175, -0.895), (0.262, -0.935)),
        ((0.262, -0.82), (0.348, -0.785)),
        ((0.272, -0.69), (0.345, -0.62)),
        ((0.262, -0.57), (0.29, -0.462)),
        ((0.19, -0.50), (0.16, -0.43)),
    )
    knots = [knot for valley, tip in right for knot in (valley, tip, tip)]
    left = [(-x, y) for x, y in reversed(knots)]
    crest = ((-0.02, -0.925), (-0.012, -0.99), (-0.012, -0.99))
    return (_lock(curve(*knots, (0.0, -0.46), *left, *crest, per=4)),)


_BACK = {
    "long_twintails": lambda: (*_twintails(), *_nape()),
    "short_pigtails": lambda: (*_pigtails(), *_nape()),
    "long_hair": _long,
    "short_hair": _bob,
    "ponytail": _ponytail,
    "twin_braids": _nape,
    "double_bun": _buns,
    "spiky_hair": _spikes,
}

# The lower edge of the fringe from the left temple to the right one.
_FRINGES = {
    "peaks": (
        (-0.238, -0.60), (-0.238, -0.60), (-0.19, -0.665), (-0.17, -0.73), (-0.10, -0.66),
        (-0.10, -0.66), (-0.075, -0.735), (-0.045, -0.765), (0.0, -0.665), (0.0, -0.665),
        (0.045, -0.765), (0.075, -0.735), (0.10, -0.66), (0.10, -0.66), (0.17, -0.73),
        (0.19, -0.665), (0.238, -0.60), (0.238, -0.60),
    ),
    "straight": (
        (-0.238, -0.56), (-0.238, -0.56), (-0.19, -0.56), (-0.19, -0.56), (-0.178, -0.695),
        (-0.178, -0.695), (-0.10, -0.685), (0.0, -0.68), (0.10, -0.685), (0.178, -0.695),
        (0.178, -0.695), (0.19, -0.56), (0.19, -0.56), (0.238, -0.56), (0.238, -0.56),
    ),
    "swept": (
        (-0.24, -0.57), (-0.24, -0.57), (-0.20, -0.64), (-0.165, -0.75), (-0.165, -0.75),
        (-0.11, -0.712), (0.0, -0.685), (0.11, -0.685), (0.19, -0.66), (0.24, -0.57),
        (0.24, -0.57),
    ),
    "parted": (
        (-0.24, -0.55), (-0.24, -0.55), (-0.205, -0.62), (-0.175, -0.70), (-0.09, -0.765),
        (-0.01, -0.85), (-0.01, -0.85), (0.07, -0.765), (0.16, -0.705), (0.205, -0.62),
        (0.24, -0.55), (0.24, -0.55),
    ),
    "jagged": (
        (-0.25, -0.58), (-0.25, -0.58), (-0.185, -0.70), (-0.185, -0.70), (-0.14, -0.645),
        (-0.14, -0.645), (-0.085, -0.73), (-0.085, -0.73), (-0.02, -0.65), (-0.02, -0.65),
        (0.04, -0.735), (0.04, -0.735), (0.12, -0.65), (0.12, -0.65), (0.18, -0.71),
        (0.18, -0.71), (0.25, -0.58), (0.25, -0.58),
    ),
}  # fmt: skip
_FRINGE_OF = {
    "long_twintails": "peaks",
    "short_pigtails": "swept",
    "long_hair": "straight",
    "short_hair": "swept",
    "ponytail": "parted",
    "twin_braids": "parted",
    "double_bun": "peaks",
    "spiky_hair": "jagged",
}


def _cap(style: str) -> tuple[Stroke, ...]:
    """The crown and the fringe, with the band of light around the head."""
    fringe = _FRINGES[_FRINGE_OF[style]]
    crown = ((0.248, -0.72), (0.205, -0.85), (0.11, -0.915), (0.0, -0.93))
    left = [(-x, y) for x, y in crown[-2::-1]]
    cap = curve(*fringe, *crown, *left, per=5)
    band = curve(
        (-0.195, -0.795), (-0.12, -0.845), (0.0, -0.862), (0.12, -0.845), (0.195, -0.795),
        (0.195, -0.795), (0.15, -0.792), (0.105, -0.815), (0.075, -0.795), (0.03, -0.825),
        (-0.02, -0.80), (-0.06, -0.82), (-0.11, -0.79), (-0.15, -0.805), (-0.195, -0.795),
    )  # fmt: skip
    lit = (cap - (0.0, -0.87)) * (0.965, 0.90) + (0.0, -0.87)
    brow = [knot for knot in fringe if abs(knot[0]) < 0.18]
    shadow = curve(*brow, (0.16, -0.86), (0.16, -0.86), (-0.16, -0.86), (-0.16, -0.86))
    return (
        Stroke(moved(shadow, 0.0, 0.017), "skin.shade"),
        Stroke(cap, "hair.shade", "hair.line"),
        Stroke(lit.astype(np.float32), "hair"),
        Stroke(band, "hair.light"),
    )


def _braids() -> tuple[Stroke, ...]:
    lobes: list[Stroke] = []
    for i in range(5):
        x, y = 0.232 - 0.008 * i, -0.545 + 0.072 * i
        slant = 0.018 if i % 2 else -0.018
        lobe = curve(
            (x - 0.052, y - slant), (x, y - 0.045), (x + 0.052, y + slant), (x, y + 0.045), per=5
        )
        lobes += both(_lock(lobe))
        lobes += both(Stroke(ellipse(x + 0.012, y - 0.014, 0.018, 0.01, 10), "hair.light"))
    brush = curve((0.18, -0.19), (0.222, -0.19), (0.232, -0.105), (0.20, -0.075), (0.168, -0.105))
    return (*both(_lock(brush)), *lobes, *_tie(0.20, -0.185, 0.03))


@cache
def back_hair(style: str) -> tuple[Stroke, ...]:
    """What hangs or stands behind the head and body."""
    return _BACK[style]()


@cache
def front_hair(style: str) -> tuple[Stroke, ...]:
    """What lies over the face and shoulders."""
    return (*_braids(), *_cap(style)) if style == "twin_braids" else _cap(style)
