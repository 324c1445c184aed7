"""Garments around the trunk: one silhouette for each, in figure heights with the soles at y = 0."""

from __future__ import annotations

from functools import cache

from sakuga.chibi.shapes import Stroke, arc, both, curve, ellipse, limb, polygon


def _torso(bottom: float = -0.185, flare: float = 0.115, fill: str = "cloth") -> Stroke:
    shape = curve(
        (-0.05, -0.448), (0.05, -0.448), (0.098, -0.425), (0.105, -0.33), (flare, bottom),
        (flare, bottom), (0.0, bottom + 0.012), (-flare, bottom), (-flare, bottom),
        (-0.105, -0.33), (-0.098, -0.425),
    )  # fmt: skip
    return Stroke(shape, fill, f"{fill}.line")


def _skirt(fill: str, top: float, bottom: float, hem: float) -> tuple[Stroke, ...]:
    waist = 0.10
    shape = curve(
        (-waist, top), (-waist, top), (waist, top), (waist, top), (hem, bottom), (hem, bottom),
        (hem * 0.5, bottom + 0.018), (0.0, bottom + 0.022), (-hem * 0.5, bottom + 0.018),
        (-hem, bottom), (-hem, bottom),
    )  # fmt: skip
    pleats = [
        Stroke(polygon((x * waist, top + 0.02), (x * hem, bottom + 0.008)), None, f"{fill}.line",
             0.7, closed=False)
        for x in (-0.45, 0.0, 0.45)
    ]  # fmt: skip
    return (Stroke(shape, fill, f"{fill}.line"), *pleats)


def _shorts(fill: str) -> tuple[Stroke, ...]:
    shape = polygon((-0.11, -0.22), (0.11, -0.22), (0.125, -0.125), (0.015, -0.125), (0.0, -0.16),
                    (-0.015, -0.125), (-0.125, -0.125))  # fmt: skip
    return (Stroke(shape, fill, f"{fill}.line"),)


def _shade_side(bottom: float) -> Stroke:
    return Stroke(
        polygon((0.06, -0.43), (0.096, -0.42), (0.108, bottom), (0.055, bottom)), "cloth.shade"
    )


def _uniform(gender: str) -> tuple[Stroke, ...]:
    lower = () if gender == "1boy" else _skirt("lower", -0.235, -0.125, 0.155)
    collar = polygon((-0.10, -0.44), (0.10, -0.44), (0.105, -0.375), (0.0, -0.315),
                     (-0.105, -0.375))  # fmt: skip
    vee = polygon((-0.042, -0.45), (0.042, -0.45), (0.0, -0.385))
    knot = ((0.0, -0.335), (0.062, -0.365), (0.058, -0.29))
    return (
        _torso(-0.215, 0.105),
        *lower,
        Stroke(collar, "collar", "collar.line"),
        Stroke(vee, "skin.shade"),
        *both(Stroke(polygon(*knot), "accent", "accent.line")),
        Stroke(ellipse(0, -0.335, 0.022, 0.022, 10), "accent", "accent.line"),
    )


def _jacket(gender: str) -> tuple[Stroke, ...]:
    lower = () if gender == "1boy" else _skirt("denim", -0.22, -0.13, 0.13)
    shirt = polygon((-0.05, -0.445), (0.05, -0.445), (0.052, -0.195), (-0.052, -0.195))
    flap = curve((0.03, -0.45), (0.03, -0.45), (0.098, -0.43), (0.115, -0.33), (0.138, -0.165),
                 (0.138, -0.165), (0.05, -0.158), (0.05, -0.158), (0.05, -0.30))  # fmt: skip
    lapel = polygon((0.025, -0.455), (0.085, -0.44), (0.075, -0.36), (0.042, -0.335))
    pocket = polygon((0.075, -0.225), (0.12, -0.235))
    return (
        *lower,
        Stroke(shirt, "trim", "trim.line"),
        Stroke(polygon((-0.042, -0.26), (0.042, -0.26), (0.042, -0.29), (-0.042, -0.29)), "accent"),
        *both(Stroke(flap, "cloth", "cloth.line")),
        *both(Stroke(lapel, "cloth.shade", "cloth.line")),
        *both(Stroke(pocket, None, "cloth.line", 1.0, closed=False)),
    )


def _dress(gender: str) -> tuple[Stroke, ...]:
    hem = 0.20 if gender == "1girl" else 0.165
    skirt = curve(
        (-0.085, -0.30), (-0.085, -0.30), (0.085, -0.30), (0.085, -0.30), (0.14, -0.20),
        (hem, -0.095), (hem, -0.095), (hem * 0.6, -0.072), (hem * 0.3, -0.09), (0.0, -0.066),
        (-hem * 0.3, -0.09), (-hem * 0.6, -0.072), (-hem, -0.095), (-hem, -0.095),
        (-0.14, -0.20),
    )  # fmt: skip
    frill = curve(
        (-hem * 0.97, -0.118), (-hem * 0.97, -0.118), (0.0, -0.098), (hem * 0.97, -0.118),
        (hem * 0.97, -0.118), (hem + 0.004, -0.085), (hem * 0.6, -0.062), (hem * 0.3, -0.08),
        (0.0, -0.056), (-hem * 0.3, -0.08), (-hem * 0.6, -0.062), (-hem - 0.004, -0.085),
    )  # fmt: skip
    sash = polygon((-0.09, -0.315), (0.09, -0.315), (0.095, -0.275), (-0.095, -0.275))
    return (
        _torso(-0.29, 0.088),
        Stroke(skirt, "cloth", "cloth.line"),
        Stroke(frill, "collar", "collar.line"),
        Stroke(sash, "accent", "accent.line"),
        *both(Stroke(ellipse(0.028, -0.425, 0.034, 0.018, 12), "collar", "collar.line", 0.8)),
    )


def _hoodie(gender: str) -> tuple[Stroke, ...]:
    lower = () if gender == "1boy" else _shorts("denim")
    pocket = polygon((-0.06, -0.265), (0.06, -0.265), (0.088, -0.195), (-0.088, -0.195))
    hem = polygon((-0.128, -0.185), (0.128, -0.185), (0.12, -0.15), (-0.12, -0.15))
    rim = curve((-0.10, -0.452), (-0.055, -0.40), (0.0, -0.385), (0.055, -0.40), (0.10, -0.452),
                (0.06, -0.43), (0.0, -0.415), (-0.06, -0.43))  # fmt: skip
    return (
        *lower,
        _torso(-0.175, 0.135),
        Stroke(hem, "cloth.shade", "cloth.line"),
        Stroke(pocket, "cloth.shade", "cloth.line"),
        Stroke(rim, "cloth.shade", "cloth.line"),
        *both(Stroke(limb([(0.03, -0.395), (0.032, -0.32)], [0.014, 0.018]), "collar")),
    )


def _kimono(gender: str) -> tuple[Stroke, ...]:
    hem = 0.125
    robe = curve(
        (-0.06, -0.448), (0.06, -0.448), (0.10, -0.42), (0.105, -0.30), (hem, -0.055),
        (hem, -0.055), (0.0, -0.04), (-hem, -0.055), (-hem, -0.055), (-0.105, -0.30),
        (-0.10, -0.42),
    )  # fmt: skip
    obi = polygon((-0.112, -0.315), (0.112, -0.315), (0.116, -0.23), (-0.116, -0.23))
    over = polygon((0.055, -0.452), (0.09, -0.44), (-0.02, -0.312), (-0.06, -0.312))
    under = polygon((-0.055, -0.452), (-0.09, -0.44), (-0.012, -0.345), (0.01, -0.375))
    return (
        Stroke(robe, "cloth", "cloth.line"),
        Stroke(polygon((0.01, -0.23), (0.045, -0.05)), None, "cloth.line", 1.0, closed=False),
        *both(Stroke(ellipse(0.085, -0.095, 0.02, 0.02, 12), "accent.light")),
        Stroke(ellipse(-0.03, -0.15, 0.02, 0.02, 12), "accent.light"),
        Stroke(polygon((-0.045, -0.45), (0.045, -0.45), (0.0, -0.385)), "skin.shade"),
        Stroke(under, "collar", "collar.line", 0.8),
        Stroke(over, "collar", "collar.line", 0.8),
        Stroke(obi, "accent", "accent.line"),
        Stroke(polygon((-0.112, -0.28), (0.112, -0.28), (0.112, -0.262), (-0.112, -0.262)),
             "accent.shade"),
    )  # fmt: skip


def _sweater(gender: str) -> tuple[Stroke, ...]:
    lower = () if gender == "1boy" else _skirt("khaki", -0.21, -0.12, 0.135)
    neck = curve((-0.07, -0.475), (0.07, -0.475), (0.082, -0.43), (0.0, -0.408),
                 (-0.082, -0.43))  # fmt: skip
    hem = polygon((-0.12, -0.20), (0.12, -0.20), (0.115, -0.165), (-0.115, -0.165))
    zigzag = polygon(
        (-0.104, -0.325), (-0.07, -0.35), (-0.035, -0.325), (0.0, -0.35), (0.035, -0.325),
        (0.07, -0.35), (0.104, -0.325), (0.106, -0.29), (0.07, -0.315), (0.035, -0.29),
        (0.0, -0.315), (-0.035, -0.29), (-0.07, -0.315), (-0.106, -0.29),
    )  # fmt: skip
    return (
        *lower,
        _torso(-0.185, 0.125),
        Stroke(zigzag, "collar"),
        Stroke(hem, "cloth.shade", "cloth.line"),
        Stroke(neck, "cloth.shade", "cloth.line"),
    )


def _tshirt(gender: str) -> tuple[Stroke, ...]:
    lower = () if gender == "1boy" else _shorts("denim")
    star = ellipse(0, -0.315, 0.05, 0.05, 10)
    star[1::2] = (star[1::2] - (0, -0.315)) * 0.45 + (0, -0.315)
    return (
        *lower,
        _torso(-0.195, 0.112),
        _shade_side(-0.20),
        Stroke(ellipse(0, -0.442, 0.052, 0.03, 16), "skin.shade", "cloth.line", 0.8),
        Stroke(star, "accent"),
    )


def _maid(gender: str) -> tuple[Stroke, ...]:
    hem = 0.20 if gender == "1girl" else 0.17
    skirt = curve(
        (-0.085, -0.30), (-0.085, -0.30), (0.085, -0.30), (0.085, -0.30), (0.15, -0.20),
        (hem, -0.085), (hem, -0.085), (0.0, -0.062), (-hem, -0.085), (-hem, -0.085),
        (-0.15, -0.20),
    )  # fmt: skip
    wide = hem * 0.64
    apron = curve(
        (-0.07, -0.29), (-0.07, -0.29), (0.07, -0.29), (0.07, -0.29), (wide * 0.9, -0.19),
        (wide, -0.125), (wide * 0.72, -0.098), (wide * 0.42, -0.115), (wide * 0.14, -0.09),
        (-wide * 0.14, -0.09), (-wide * 0.42, -0.115), (-wide * 0.72, -0.098), (-wide, -0.125),
        (-wide * 0.9, -0.19),
    )  # fmt: skip
    bib = polygon((-0.056, -0.395), (0.056, -0.395), (0.062, -0.29), (-0.062, -0.29))
    strap = curve((0.045, -0.435), (0.085, -0.44), (0.105, -0.39), (0.088, -0.345), (0.05, -0.38))
    return (
        _torso(-0.29, 0.09),
        Stroke(skirt, "cloth", "cloth.line"),
        Stroke(apron, "trim", "collar.line"),
        Stroke(bib, "trim", "collar.line"),
        *both(Stroke(strap, "trim", "collar.line")),
        Stroke(polygon((-0.09, -0.308), (0.09, -0.308), (0.092, -0.276), (-0.092, -0.276)),
               "trim.shade", "collar.line"),
        *both(Stroke(polygon((0.0, -0.418), (0.045, -0.44), (0.045, -0.396)), "accent",
                     "accent.line")),
        *both(Stroke(polygon((wide * 0.3, -0.185), (wide * 0.62, -0.185)), None, "collar.line", 1.0,
                     closed=False)),
    )  # fmt: skip


def _coat(gender: str) -> tuple[Stroke, ...]:
    hem = 0.165
    robe = curve(
        (-0.06, -0.448), (0.06, -0.448), (0.105, -0.42), (0.11, -0.30), (hem, -0.065),
        (hem, -0.065), (0.02, -0.055), (0.02, -0.055), (0.0, -0.15), (0.0, -0.15), (-0.02, -0.055),
        (-0.02, -0.055), (-hem, -0.065), (-hem, -0.065), (-0.11, -0.30), (-0.105, -0.42),
    )  # fmt: skip
    fur = [
        Stroke(ellipse(x, y, 0.037, 0.032, 12), "fur", "fur.line")
        for x, y in ((0.105, -0.435), (0.06, -0.41), (0.0, -0.395))
    ]
    belt = polygon((-0.116, -0.275), (0.116, -0.275), (0.122, -0.235), (-0.122, -0.235))
    buttons = [
        part for y in (-0.335, -0.19, -0.125)
        for part in both(Stroke(ellipse(0.05, y, 0.014, 0.014, 10), "gold", "gold.line", 0.7))
    ]  # fmt: skip
    return (
        Stroke(robe, "cloth", "cloth.line"),
        Stroke(polygon((0.0, -0.39), (0.0, -0.15)), None, "cloth.line", 1.0, closed=False),
        *buttons,
        Stroke(belt, "cloth.shade", "cloth.line"),
        Stroke(polygon((-0.03, -0.28), (0.03, -0.28), (0.03, -0.23), (-0.03, -0.23)), "gold",
               "gold.line"),
        *(one for tuft in fur[:2] for one in both(tuft)),
        fur[2],
    )  # fmt: skip


def _armor(gender: str) -> tuple[Stroke, ...]:
    breast = curve(
        (-0.05, -0.44), (0.05, -0.44), (0.098, -0.42), (0.112, -0.35), (0.085, -0.265),
        (0.0, -0.235), (-0.085, -0.265), (-0.112, -0.35), (-0.098, -0.42),
    )  # fmt: skip
    fauld = polygon((0.006, -0.25), (0.098, -0.26), (0.142, -0.15), (0.09, -0.115), (0.02, -0.15))
    return (
        _torso(-0.20, 0.10, "steel"),
        *both(Stroke(fauld, "cloth", "cloth.line")),
        *both(Stroke(polygon((0.03, -0.195), (0.122, -0.202)), None, "steel.light", 1.2,
                     closed=False)),
        Stroke(breast, "cloth", "cloth.line"),
        Stroke(polygon((0.0, -0.40), (0.0, -0.25)), None, "cloth.line", 1.2, closed=False),
        Stroke(arc(-0.05, -0.35, 0.036, 0.05, 150, 260, 8), None, "steel.light", 1.5, closed=False),
        Stroke(polygon((-0.105, -0.272), (0.105, -0.272), (0.105, -0.24), (-0.105, -0.24)), "steel",
               "steel.line"),
        Stroke(ellipse(0, -0.256, 0.028, 0.026, 12), "gold", "gold.line"),
        Stroke(curve((-0.075, -0.455), (0.075, -0.455), (0.082, -0.425), (0.0, -0.405),
                     (-0.082, -0.425)), "steel", "steel.line"),
    )  # fmt: skip


def _suit(gender: str) -> tuple[Stroke, ...]:
    shirt = polygon((-0.055, -0.448), (0.055, -0.448), (0.0, -0.275))
    lapel = polygon((0.04, -0.455), (0.088, -0.435), (0.082, -0.36), (0.006, -0.27), (0.002, -0.29))
    tie = polygon((-0.012, -0.408), (0.012, -0.408), (0.022, -0.33), (0.0, -0.285), (-0.022, -0.33))
    return (
        _torso(-0.17, 0.125),
        Stroke(shirt, "white", "trim.line"),
        Stroke(tie, "tie", "tie.line", 0.8),
        Stroke(ellipse(0, -0.418, 0.02, 0.016, 10), "tie", "tie.line", 0.8),
        *both(Stroke(lapel, "cloth.shade", "cloth.line")),
        Stroke(polygon((0.0, -0.27), (0.012, -0.17)), None, "cloth.line", 1.2, closed=False),
        *(Stroke(ellipse(-0.014, y, 0.012, 0.012, 10), "gold", "gold.line", 0.6)
          for y in (-0.25, -0.215)),
        *both(Stroke(polygon((0.05, -0.215), (0.105, -0.222)), None, "cloth.line", 1.2,
                     closed=False)),
        Stroke(polygon((0.05, -0.335), (0.085, -0.345), (0.08, -0.315), (0.054, -0.31)), "white",
               "cloth.line", 0.7),
    )  # fmt: skip


_GARMENTS = {
    "school_uniform": _uniform,
    "casual_jacket": _jacket,
    "dress": _dress,
    "hoodie": _hoodie,
    "kimono": _kimono,
    "sweater": _sweater,
    "t-shirt": _tshirt,
    "maid": _maid,
    "coat": _coat,
    "armor": _armor,
    "suit": _suit,
}


@cache
def trunk(garment: str, gender: str) -> tuple[Stroke, ...]:
    """A garment around the trunk, with the skirt or shorts that go with it."""
    return _GARMENTS[garment](gender)
