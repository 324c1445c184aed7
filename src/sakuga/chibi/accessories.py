"""Things worn on the head and around the neck; none hides hair, eyes or their colours."""

from __future__ import annotations

from functools import cache

import numpy as np

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


def _halo() -> tuple[Stroke, ...]:
    ring = ellipse(0, -0.951, 0.165, 0.036, 30)
    return (
        Stroke(ring, None, "gold.line", 3.4),
        Stroke(ring, None, "gold", 1.9),
        Stroke(arc(0, -0.951, 0.165, 0.036, 200, 300, 10), None, "gold.light", 1.0, closed=False),
    )


def _horns() -> tuple[Stroke, ...]:
    horn = curve(
        (0.085, -0.855),
        (0.085, -0.855),
        (0.125, -0.925),
        (0.205, -0.945),
        (0.235, -0.998),
        (0.235, -0.998),
        (0.272, -0.925),
        (0.235, -0.845),
        (0.175, -0.81),
        (0.175, -0.81),
    )
    ridges = (((0.128, -0.91), (0.212, -0.828)), ((0.185, -0.942), (0.262, -0.885)))
    return (
        *both(Stroke(horn, "horn", "horn.line")),
        *(one for r in ridges
          for one in both(Stroke(polygon(*r), None, "horn.light", 1.4, closed=False))),
    )  # fmt: skip


def _rabbit_ears() -> tuple[Stroke, ...]:
    ear = curve((0.03, -0.80), (0.03, -0.80), (0.022, -0.90), (0.05, -0.985), (0.085, -0.998),
                (0.12, -0.96), (0.125, -0.88), (0.10, -0.79), (0.10, -0.79))  # fmt: skip
    inner = curve((0.052, -0.83), (0.05, -0.91), (0.078, -0.968), (0.098, -0.92), (0.085, -0.83))
    return (*both(Stroke(ear, "fur", "fur.line")), *both(Stroke(inner, "blush")))


def _hairband() -> tuple[Stroke, ...]:
    band = np.concatenate([
        arc(0, -0.71, 0.252, 0.205, 208, 332, 20), arc(0, -0.71, 0.244, 0.158, 332, 208, 20),
    ])  # fmt: skip
    shine = arc(0, -0.71, 0.244, 0.186, 238, 302, 12)
    return (
        Stroke(band, "bow", "bow.line"),
        Stroke(shine, None, "bow.light", 1.2, closed=False),
    )


def _brim(y: float, half: float, fill: str) -> Stroke:
    shape = curve((-half, y - 0.005), (-half * 0.6, y - 0.045), (0.0, y - 0.055),
                  (half * 0.6, y - 0.045), (half, y - 0.005), (half * 0.62, y + 0.028),
                  (0.0, y + 0.04), (-half * 0.62, y + 0.028))  # fmt: skip
    return Stroke(shape, fill, f"{fill}.line")


def _witch_hat() -> tuple[Stroke, ...]:
    cone = curve((-0.165, -0.82), (-0.165, -0.82), (-0.12, -0.90), (-0.055, -0.965), (0.05, -0.998),
                 (0.15, -0.965), (0.15, -0.965), (0.085, -0.945), (0.12, -0.90), (0.165, -0.82),
                 (0.165, -0.82), (0.0, -0.80))  # fmt: skip
    band = curve((-0.165, -0.825), (-0.165, -0.825), (-0.143, -0.868), (-0.143, -0.868),
                 (0.0, -0.848), (0.141, -0.868), (0.141, -0.868), (0.165, -0.825), (0.165, -0.825),
                 (0.0, -0.80))  # fmt: skip
    return (
        _brim(-0.815, 0.325, "hat"),
        Stroke(cone, "hat", "hat.line"),
        Stroke(band, "cushion", "cushion.line"),
        Stroke(polygon((-0.032, -0.862), (0.032, -0.862), (0.032, -0.81), (-0.032, -0.81)),
               "hat", "gold.light", 1.4),
    )  # fmt: skip


def _straw_hat() -> tuple[Stroke, ...]:
    dome = curve((-0.17, -0.83), (-0.17, -0.83), (-0.15, -0.94), (-0.07, -0.985), (0.07, -0.985),
                 (0.15, -0.94), (0.17, -0.83), (0.17, -0.83), (0.0, -0.808))  # fmt: skip
    band = curve((-0.171, -0.83), (-0.171, -0.83), (-0.166, -0.882), (-0.166, -0.882),
                 (0.0, -0.86), (0.166, -0.882), (0.166, -0.882), (0.171, -0.83), (0.171, -0.83),
                 (0.0, -0.808))  # fmt: skip
    weave = [arc(0, -0.85, 0.14, dy, 215, 325, 10) for dy in (0.075, 0.115)]
    return (
        _brim(-0.825, 0.325, "straw"),
        Stroke(dome, "straw", "straw.line"),
        *(Stroke(line, None, "straw.shade", 1.0, closed=False) for line in weave),
        Stroke(band, "bow", "bow.line"),
    )


def _crown() -> tuple[Stroke, ...]:
    gold = polygon(
        (-0.135, -0.86),
        (-0.165, -0.965),
        (-0.085, -0.92),
        (0.0, -0.998),
        (0.085, -0.92),
        (0.165, -0.965),
        (0.135, -0.86),
        (0.07, -0.845),
        (0.0, -0.84),
        (-0.07, -0.845),
    )
    return (
        Stroke(gold, "gold", "gold.line"),
        Stroke(curve((-0.13, -0.875), (0.0, -0.857), (0.13, -0.875), closed=False), None,
               "gold.shade", 1.3, closed=False),
        Stroke(ellipse(0, -0.908, 0.027, 0.03, 14), "bow", "bow.line", 0.7),
        *both(Stroke(ellipse(0.088, -0.892, 0.018, 0.02, 12), "gem")),
    )  # fmt: skip


_ON_HEAD = {
    "glasses": _glasses,
    "hair_bow": _bow,
    "cat_ears": _ears,
    "headphones": _headphones,
    "flower": _flower,
    "beret": _beret,
    "halo": _halo,
    "horns": _horns,
    "rabbit_ears": _rabbit_ears,
    "hairband": _hairband,
    "witch_hat": _witch_hat,
    "straw_hat": _straw_hat,
    "crown": _crown,
}


@cache
def on_head(accessory: str) -> tuple[Stroke, ...]:
    """What is drawn last, over the hair."""
    return _ON_HEAD[accessory]() if accessory in _ON_HEAD else ()


@cache
def around_neck(accessory: str) -> tuple[Stroke, ...]:
    """What is drawn over the garment and under the head."""
    return _scarf() if accessory == "scarf" else ()
