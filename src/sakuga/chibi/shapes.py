"""Outlines as points: the few curves every drawing is made of.

A shape is a float32 array (n, 2) of x, y with y downwards, in the units of whoever draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Points: TypeAlias = NDArray[np.float32]
Pair: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Stroke:
    """One stroke of the brush: a shape, the names of its fill and of its outline.

    `width`: of the outline, in outlines; `closed`: False for a line that only has an outline.
    """

    points: Points
    fill: str | None
    line: str | None = None
    width: float = 1.0
    closed: bool = True


def polygon(*corners: Pair) -> Points:
    """Straight edges through the corners."""
    return np.array(corners, dtype=np.float32)


def curve(*knots: Pair, closed: bool = True, per: int = 6) -> Points:
    """A uniform Catmull-Rom spline through the knots, `per` points from each to the next.

    A knot given twice in a row is a corner.
    """
    p = np.array(knots, dtype=np.float32)
    if closed:
        before, start, end, after = np.roll(p, 1, 0), p, np.roll(p, -1, 0), np.roll(p, -2, 0)
    else:
        padded = np.concatenate([p[:1], p, p[-1:]])
        before, start, end, after = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    moves = np.abs(end - start).sum(axis=1) > 0
    before, start, end, after = (a[moves, None] for a in (before, start, end, after))
    t = np.linspace(0, 1, per, endpoint=False, dtype=np.float32)[None, :, None]
    # Catmull and Rom (1974), tension 1/2, in Horner form.
    cubic = -before + 3 * start - 3 * end + after
    square = 2 * before - 5 * start + 4 * end - after
    points = start + t * ((end - before) + t * (square + t * cubic)) / 2
    points = points.reshape(-1, 2)
    whole = points if closed else np.concatenate([points, p[-1:]])
    return whole.astype(np.float32)


def ellipse(x: float, y: float, rx: float, ry: float, n: int = 24) -> Points:
    """An ellipse around (x, y)."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1).astype(np.float32)


def arc(x: float, y: float, rx: float, ry: float, start: float, end: float, n: int = 14) -> Points:
    """Stroke of an ellipse, from `start` to `end` degrees, clockwise from the right."""
    angle = np.radians(np.linspace(start, end, n))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1).astype(np.float32)


def limb(knots: Sequence[Pair], widths: Sequence[float], cap: int = 5) -> Points:
    """A tube along a spline through the knots, round at its far end; `widths` per knot."""
    spine = curve(*knots, closed=False, per=5)
    tangent = np.gradient(spine, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-6)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    at = np.linspace(0, len(widths) - 1, len(spine))
    half = np.interp(at, np.arange(len(widths)), widths)[:, None] / 2
    turn = np.linspace(0, np.pi, cap + 2)[1:-1, None]
    end = spine[-1] + half[-1] * (np.cos(turn) * normal[-1] + np.sin(turn) * tangent[-1])
    sides = (spine + half * normal, end, (spine - half * normal)[::-1])
    return np.concatenate(sides).astype(np.float32)


def _outward(points: Points) -> Points:
    """Where the points of a closed shape move when it grows by one unit: (n, 2).

    Mitred: each vector reaches the crossing of the two shifted edges, up to twice the shift.
    """
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    area = (points[:, 0] * np.roll(points, -1, axis=0)[:, 1]).sum()
    area -= (points[:, 1] * np.roll(points, -1, axis=0)[:, 0]).sum()
    sign = np.sign(area)
    normals = [
        sign * np.stack([edge[:, 1], -edge[:, 0]], axis=1)
        / np.maximum(np.linalg.norm(edge, axis=1, keepdims=True), 1e-9)
        for edge in (before, after)
    ]  # fmt: skip
    cosine = (normals[0] * normals[1]).sum(axis=1, keepdims=True)
    mitre: Points = (normals[0] + normals[1]) / np.maximum(1 + cosine, 0.5)
    return mitre


def flipped(points: Points) -> Points:
    """The mirror image across x = 0."""
    return (points * np.array([-1, 1], dtype=np.float32)).astype(np.float32)


def moved(points: Points, dx: float, dy: float) -> Points:
    """The shape shifted by (dx, dy)."""
    return (points + np.array([dx, dy], dtype=np.float32)).astype(np.float32)


def both(part: Stroke) -> tuple[Stroke, Stroke]:
    """A part and its mirror image."""
    mirror = Stroke(flipped(part.points), part.fill, part.line, part.width, part.closed)
    return part, mirror


@dataclass(frozen=True, slots=True)
class Stencil:
    """Parts laid end to end, so that one product moves them all.

    Drawn at `points + line * growth` (n, 2), `line` being the width of outlines. `cuts`: start,
    stop, name of the colour, and width in outlines of a line, or 0 for a filled shape.
    """

    points: Points
    growth: Points
    cuts: tuple[tuple[int, int, str, float], ...]


def stencil(parts: Sequence[Stroke]) -> Stencil:
    """The parts in their order; an outline lies half inside and half outside its shape."""
    layers: list[tuple[Points, Points, str, float]] = []
    for part in parts:
        still = np.zeros_like(part.points)
        if part.fill and part.line:
            half = (0.5 * part.width * _outward(part.points)).astype(np.float32)
            layers.append((part.points, half, part.line, 0.0))
            layers.append((part.points, -half, part.fill, 0.0))
        elif part.fill:
            layers.append((part.points, still, part.fill, 0.0))
        elif part.line:
            path = np.concatenate([part.points, part.points[:1]]) if part.closed else part.points
            layers.append((path, np.zeros_like(path), part.line, part.width))
    return _laid(layers)


def rim(parts: Sequence[Stroke], reach: float) -> Stencil:
    """The outlined parts grown by `reach` outlines, for a light around them all."""
    return _laid(
        [
            (part.points, (reach * _outward(part.points)).astype(np.float32), "rim", 0.0)
            for part in parts
            if part.fill and part.line
        ]
    )


def _laid(layers: list[tuple[Points, Points, str, float]]) -> Stencil:
    stops = np.cumsum([len(points) for points, _, _, _ in layers]).tolist()
    starts = [0, *stops[:-1]]
    return Stencil(
        points=np.concatenate([points for points, _, _, _ in layers]),
        growth=np.concatenate([growth for _, growth, _, _ in layers]),
        cuts=tuple(
            (start, stop, color, width)
            for start, stop, (_, _, color, width) in zip(starts, stops, layers, strict=True)
        ),
    )
