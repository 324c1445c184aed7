"""Heads and faces: very big eyes, small noses, mouths and brows that say the feeling."""

from __future__ import annotations

from functools import cache

from sakuga.chibi.shapes import Stroke, arc, both, curve, ellipse, polygon

_EYE_X, _EYE_Y = 0.102, -0.622


@cache
def head(gender: str) -> tuple[Stroke, ...]:
    """Neck, ears and the bare face; a boy's neck and jaw are broader."""
    jaw, neck = (0.085, 0.05) if gender == "1boy" else (0.07, 0.036)
    face = curve(
        (0.0, -0.447), (jaw, -0.462), (0.165, -0.515), (0.215, -0.61), (0.218, -0.72),
        (0.15, -0.85), (0.0, -0.89), (-0.15, -0.85), (-0.218, -0.72), (-0.215, -0.61),
        (-0.165, -0.515), (-jaw, -0.462),
    )  # fmt: skip
    return (
        Stroke(polygon((-neck, -0.47), (neck, -0.47), (neck, -0.42), (-neck, -0.42)), "skin.shade"),
        *both(Stroke(ellipse(0.218, -0.61, 0.028, 0.04, 14), "skin", "skin.line")),
        Stroke(face, "skin", "skin.line"),
    )


@cache
def features(gender: str, expression: str) -> tuple[Stroke, ...]:
    """Blush, eyes, nose and mouth, under the fringe."""
    return (
        *both(Stroke(ellipse(0.148, -0.532, 0.04, 0.022, 16), "blush")),
        *_eyes(gender, expression),
        *_MOUTHS[expression](),
    )


def _eyes(gender: str, expression: str) -> tuple[Stroke, ...]:
    wide = expression == "surprised"
    rx, ry = (0.043, 0.056) if wide else (0.046, 0.064)
    x, y = _EYE_X, _EYE_Y
    top = y - (0.082 if wide else 0.07)
    white = curve(
        (x - 0.058, y + 0.01), (x - 0.04, top + 0.012), (x, top), (x + 0.045, top + 0.012),
        (x + 0.066, y + 0.0), (x + 0.05, y + 0.055), (x, y + 0.071), (x - 0.045, y + 0.055),
    )  # fmt: skip
    outer = 0.03 if gender == "1girl" else 0.012
    slant = {"angry": 0.03, "sad": -0.028}.get(expression, 0.0)
    tip = (x + 0.07 + outer * 0.6, y - 0.015 - outer - slant * 0.5)
    lid = curve(
        (x - 0.066, y - 0.012 + slant), (x - 0.045, top + 0.008 + slant), (x, top - 0.01),
        (x + 0.05, top + 0.004 - slant * 0.6), tip, tip, (x + 0.074, y + 0.012),
        (x + 0.05, top + 0.03 - slant * 0.6), (x, top + 0.016), (x - 0.045, top + 0.03 + slant),
    )  # fmt: skip
    iy = y + 0.004
    parts = (
        *both(Stroke(white, "white")),
        *both(Stroke(ellipse(x, iy, rx, ry), "iris.top")),
        *both(Stroke(ellipse(x, iy + 0.012, rx * 0.9, ry * 0.78), "iris")),
        *both(Stroke(ellipse(x, iy + 0.036, rx * 0.66, ry * 0.38, 16), "iris.glow")),
        *both(Stroke(ellipse(x, iy - 0.006, rx * 0.36, ry * 0.42, 16), "iris.pupil")),
        *both(Stroke(lid, "ink")),
        Stroke(ellipse(x - 0.018, iy - 0.03, 0.017, 0.021, 14), "white"),
        Stroke(ellipse(-x - 0.018, iy - 0.03, 0.017, 0.021, 14), "white"),
        Stroke(ellipse(x + 0.02, iy + 0.032, 0.009, 0.011, 10), "white"),
        Stroke(ellipse(-x + 0.02, iy + 0.032, 0.009, 0.011, 10), "white"),
    )
    if expression == "sad":
        tear = curve((x + 0.05, y + 0.05), (x + 0.078, y + 0.10), (x + 0.05, y + 0.122),
                     (x + 0.022, y + 0.10))  # fmt: skip
        return (*parts, *both(Stroke(tear, "tear")))
    return parts


def _smile() -> tuple[Stroke, ...]:
    return (Stroke(arc(0, -0.525, 0.04, 0.026, 15, 165, 10), None, "mouth", 1.2, closed=False),)


def _laugh() -> tuple[Stroke, ...]:
    mouth = curve((-0.062, -0.535), (-0.062, -0.535), (0.0, -0.53), (0.062, -0.535),
                  (0.062, -0.535), (0.042, -0.482), (0.0, -0.465), (-0.042, -0.482))  # fmt: skip
    tongue = ellipse(0, -0.481, 0.03, 0.013, 14)
    return (Stroke(mouth, "mouth", "mouth", 0.8), Stroke(tongue, "tongue"))


def _pout() -> tuple[Stroke, ...]:
    return (Stroke(arc(0, -0.488, 0.036, 0.024, 200, 340, 10), None, "mouth", 1.2, closed=False),)


def _snarl() -> tuple[Stroke, ...]:
    mouth = curve((-0.05, -0.487), (-0.05, -0.487), (-0.03, -0.522), (0.03, -0.522),
                  (0.05, -0.487), (0.05, -0.487), (0.0, -0.495))  # fmt: skip
    return (Stroke(mouth, "white", "mouth", 1.1),)


def _gasp() -> tuple[Stroke, ...]:
    return (Stroke(ellipse(0, -0.497, 0.024, 0.033, 16), "mouth", "mouth", 0.8),)


_MOUTHS = {
    "smile": _smile,
    "open_mouth": _laugh,
    "sad": _pout,
    "angry": _snarl,
    "surprised": _gasp,
}

# From the inner to the outer end of the right brow.
_BROWS = {
    "smile": ((0.055, -0.722), (0.105, -0.742), (0.155, -0.722)),
    "open_mouth": ((0.055, -0.735), (0.105, -0.762), (0.155, -0.738)),
    "sad": ((0.05, -0.768), (0.10, -0.742), (0.16, -0.712)),
    "angry": ((0.035, -0.692), (0.10, -0.728), (0.165, -0.758)),
    "surprised": ((0.06, -0.765), (0.105, -0.795), (0.15, -0.768)),
}


@cache
def brows(gender: str, expression: str) -> tuple[Stroke, ...]:
    """Brows, drawn over the fringe so that the feeling always shows; a boy's are bolder."""
    width = 1.25 if gender == "1girl" else 2.0
    width += 0.5 if expression in ("angry", "sad") else 0.0
    line = curve(*_BROWS[expression], closed=False, per=5)
    return both(Stroke(line, None, "brow", width, closed=False))
