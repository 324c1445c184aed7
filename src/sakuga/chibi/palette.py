"""Colours by name, and the shades that go with them."""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

Color: TypeAlias = tuple[int, int, int]

HAIR: dict[str, Color] = {
    "black": (56, 52, 68),
    "brown": (128, 80, 54),
    "blonde": (250, 216, 116),
    "orange": (248, 140, 46),
    "red": (208, 44, 54),
    "pink": (252, 152, 190),
    "purple": (142, 88, 200),
    "blue": (56, 104, 218),
    "aqua": (104, 218, 226),
    "green": (80, 174, 92),
    "white": (246, 246, 252),
    "grey": (152, 156, 170),
}
EYES: dict[str, Color] = {
    "blue": (44, 100, 244),
    "red": (230, 36, 44),
    "green": (58, 184, 60),
    "teal": (0, 200, 194),
    "yellow": (252, 204, 34),
    "purple": (150, 66, 226),
    "brown": (142, 84, 42),
    "pink": (255, 112, 184),
}
GARMENTS: dict[str, Color] = {
    "red": (218, 52, 60),
    "blue": (58, 98, 210),
    "green": (68, 162, 94),
    "yellow": (252, 208, 72),
    "purple": (144, 86, 194),
    "pink": (252, 158, 190),
    "white": (248, 248, 252),
    "black": (62, 60, 72),
}
# What goes with a garment's colour: the trim, and the small accent on top of it.
_WITH_WHITE: Color = (74, 92, 150)
_TRIM: Color = (250, 250, 252)
_ACCENTS: dict[str, Color] = {
    "red": (252, 210, 90),
    "blue": (226, 64, 68),
    "green": (252, 220, 110),
    "yellow": (230, 92, 66),
    "purple": (252, 204, 96),
    "pink": (120, 150, 224),
    "white": (226, 64, 68),
    "black": (226, 64, 68),
}
_INK: Color = (58, 40, 52)
_SKIN: Color = (255, 226, 206)


def mix(a: Color, b: Color, share: float) -> Color:
    """`a` with `share` (0..1) of `b` in it."""
    return (
        round(a[0] + (b[0] - a[0]) * share),
        round(a[1] + (b[1] - a[1]) * share),
        round(a[2] + (b[2] - a[2]) * share),
    )


def _tones(name: str, base: Color) -> dict[str, Color]:
    """A colour with its shadow, its light and its outline."""
    cool = (44, 30, 70)
    return {
        name: base,
        f"{name}.shade": mix(base, cool, 0.22),
        f"{name}.light": mix(base, (255, 252, 244), 0.5),
        f"{name}.line": mix(mix(base, cool, 0.62), (40, 20, 30), 0.25),
    }


@cache
def _fixed() -> dict[str, Color]:
    colors: dict[str, Color] = {
        "ink": _INK,
        "white": (255, 255, 255),
        "blush": (255, 176, 172),
        "mouth": (168, 52, 66),
        "tongue": (244, 132, 132),
        "tear": (130, 204, 250),
    }
    for name, base in {
        "skin": _SKIN,
        "trim": _TRIM,
        "denim": (78, 96, 140),
        "khaki": (196, 170, 134),
        "shoe": (122, 78, 66),
        "sock": (244, 244, 248),
        "stool": (196, 144, 96),
        "bow": (232, 48, 78),
        "phones": (70, 74, 92),
        "cushion": (250, 168, 60),
        "petal": (255, 250, 252),
        "pollen": (252, 196, 40),
        "beret": (150, 44, 66),
        "scarf": (244, 232, 206),
        "stripe": (226, 88, 72),
        "frame": (48, 44, 60),
    }.items():
        colors |= _tones(name, base)
    colors["skin.line"] = (150, 92, 84)
    return colors


def palette(hair: str, eyes: str, garment: str) -> dict[str, Color]:
    """Every colour that a character's parts may name, from its three colour values."""
    iris = EYES[eyes]
    cloth = GARMENTS[garment]
    white = garment == "white"
    dark = hair in ("black", "brown")  # brows must show on the fringe
    colors = _fixed() | _tones("hair", HAIR[hair]) | _tones("cloth", cloth)
    colors |= _tones("accent", _ACCENTS[garment])
    colors |= _tones("collar", _WITH_WHITE if white else _TRIM)
    # Skirts and trousers that belong to a uniform: the same colour, one step deeper.
    colors |= _tones("lower", mix(cloth, (40, 36, 90), 0.12))
    colors |= {
        "iris": iris,
        "iris.top": mix(iris, (24, 12, 40), 0.5),
        "iris.glow": mix(iris, (255, 255, 240), 0.42),
        "iris.pupil": mix(iris, (16, 8, 28), 0.78),
        "brow": mix(HAIR[hair], (255, 244, 236), 0.42) if dark else mix(HAIR[hair], _INK, 0.7),
    }
    return colors
