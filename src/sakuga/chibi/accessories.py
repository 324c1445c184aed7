"""Things worn on the head and around the neck; none hides hair, eyes or their colours."""

from __future__ import annotations

from functools import cache

from sakuga.chibi.shapes import Stroke, arc, both, curve, ellipse, limb, polygon


def _glasses() -> tuple[Stroke, ...]:
    return (
        *both(Stroke(ellipse(0.104, -0.612, 0.088, 0.082, 24), None, "frame", 1.25)),
        Stroke(arc(0, -0.612, 0.02, 0.014, 180, 360, 6), None, "frame", 1.25, closed=False),
    )


def _bow() -> tuple[Stroke, ...]:
    wing = curve((0.0, -0.93), (0.0, -0.93), (0.085, -0.995), (0.125, -0.985), (0.13, -0.92),
                 (0.12, -0.865), (0.075, -0.865))  # fmt: skip
    fold = polygon((0.015, -0.93), (0.08, -0.955), (0.08, -0.905))
    return (
        *both(Stroke(wing, "bow", "bow.line")),
        *both(Stroke(fold, "bow.shade")),
        Stroke(ellipse(0, -0.93, 0.032, 0.034, 14), "bow", "bow.line"),
    )


def _ears() -> tuple[Stroke, ...]:
    ear = curve((0.045, -0.895), (0.045, -0.895), (0.09, -0.96), (0.168, -1.0), (0.168, -1.0),
                (0.215, -0.90), (0.212, -0.815), (0.212, -0.815))  # fmt: skip
    inner = curve((0.09, -0.895), (0.09, -0.895), (0.125, -0.94), (0.16, -0.965), (0.16, -0.965),
                  (0.185, -0.90), (0.183, -0.85), (0.183, -0.85))  # fmt: skip
    return (*both(Stroke(ear, "hair", "hair.line")), *both(Stroke(inner, "blush")))


def _headphones() -> tuple[Stroke, ...]:
    band = arc(0, -0.70, 0.252, 0.262, 195, 345, 22)
    cup = curve((0.215, -0.70), (0.265, -0.72), (0.30, -0.66), (0.295, -0.58), (0.25, -0.545),
                (0.215, -0.57))  # fmt: skip
    return (
        Stroke(band, None, "phones.line", 3.2, closed=False),
        Stroke(band, None, "phones", 1.6, closed=False),
        *both(Stroke(cup, "phones", "phones.line")),
        *both(Stroke(ellipse(0.262, -0.633, 0.021, 0.045, 14), "cushion")),
    )


def _flower() -> tuple[Stroke, ...]:
    x, y, r = -0.165, -0.815, 0.042
    petals = [
        Stroke(ellipse(x + dx * r, y + dy * r, 0.036, 0.036, 14), "petal", "stripe.line")
        for dx, dy in ((0.0, -1.0), (0.95, -0.31), (0.59, 0.81), (-0.59, 0.81), (-0.95, -0.31))
    ]
    return (*petals, Stroke(ellipse(x, y, 0.027, 0.027, 14), "pollen", "pollen.line", 0.7))


def _beret() -> tuple[Stroke, ...]:
    dome = curve((-0.20, -0.865), (-0.17, -0.94), (-0.06, -0.985), (0.08, -0.985), (0.205, -0.94),
                 (0.24, -0.865), (0.15, -0.85), (0.0, -0.862))  # fmt: skip
    shine = limb([(-0.09, -0.945), (0.0, -0.962), (0.09, -0.955)], [0.012, 0.026, 0.012])
    return (
        Stroke(dome, "beret", "beret.line"),
        Stroke(shine, "beret.light"),
        Stroke(limb([(0.03, -0.98), (0.05, -0.998)], [0.024, 0.02]), "beret.shade", "beret.line"),
    )


def _scarf() -> tuple[Stroke, ...]:
    tail = polygon((0.035, -0.42), (0.10, -0.42), (0.115, -0.26), (0.045, -0.255))
    wrap = curve((-0.135, -0.47), (-0.06, -0.452), (0.06, -0.452), (0.135, -0.47), (0.15, -0.42),
                 (0.09, -0.385), (0.0, -0.375), (-0.09, -0.385), (-0.15, -0.42))  # fmt: skip
    return (
        Stroke(tail, "scarf", "scarf.line"),
        Stroke(polygon((0.042, -0.315), (0.107, -0.32), (0.111, -0.29), (0.044, -0.285)), "stripe"),
        Stroke(wrap, "scarf", "scarf.line"),
        *both(Stroke(polygon((0.05, -0.45), (0.085, -0.455), (0.098, -0.388), (0.06, -0.38)),
                   "stripe")),
    )  # fmt: skip


_ON_HEAD = {
    "glasses": _glasses,
    "hair_bow": _bow,
    "cat_ears": _ears,
    "headphones": _headphones,
    "flower": _flower,
    "beret": _beret,
}


@cache
def on_head(accessory: str) -> tuple[Stroke, ...]:
    """What is drawn last, over the hair."""
    return _ON_HEAD[accessory]() if accessory in _ON_HEAD else ()


@cache
def around_neck(accessory: str) -> tuple[Stroke, ...]:
    """What is drawn over the garment and under the head."""
    return _scarf() if accessory == "scarf" else ()
