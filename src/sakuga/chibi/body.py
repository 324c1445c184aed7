"""Bodies: six poses as joints, seven garments hung on them. Figure heights, soles at y = 0."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from sakuga.chibi.shapes import Pair, Stroke, both, curve, ellipse, limb, moved, polygon


@dataclass(frozen=True, slots=True)
class Pose:
    """Joints: (shoulder, elbow, hand) of each arm and (hip, knee, foot) of each leg.

    `tilt`: of the head, in degrees.
    """

    arms: tuple[tuple[Pair, Pair, Pair], ...]
    legs: tuple[tuple[Pair, Pair, Pair], ...]
    tilt: float = 0.0


_DOWN_L = ((-0.085, -0.405), (-0.135, -0.32), (-0.165, -0.235))
_DOWN_R = ((0.085, -0.405), (0.135, -0.32), (0.165, -0.235))
_UP_L = ((-0.085, -0.405), (-0.205, -0.44), (-0.305, -0.605))
_UP_R = ((0.085, -0.405), (0.205, -0.44), (0.305, -0.605))
_STRAIGHT = (
    ((-0.052, -0.20), (-0.054, -0.11), (-0.056, -0.025)),
    ((0.052, -0.20), (0.054, -0.11), (0.056, -0.025)),
)
POSES = {
    "standing": Pose((_DOWN_L, _DOWN_R), _STRAIGHT),
    "dynamic_pose": Pose(
        (
            ((-0.085, -0.40), (-0.19, -0.365), (-0.315, -0.315)),
            ((0.085, -0.405), (0.20, -0.43), (0.315, -0.52)),
        ),
        (
            ((-0.052, -0.20), (-0.14, -0.135), (-0.235, -0.135)),
            ((0.052, -0.20), (0.10, -0.115), (0.165, -0.03)),
        ),
        tilt=-7.0,
    ),
    "arms_up": Pose((_UP_L, _UP_R), _STRAIGHT),
    "waving": Pose((_DOWN_L, _UP_R), _STRAIGHT, tilt=4.0),
    "hands_on_hips": Pose(
        (
            ((-0.085, -0.405), (-0.215, -0.335), (-0.105, -0.25)),
            ((0.085, -0.405), (0.215, -0.335), (0.105, -0.25)),
        ),
        _STRAIGHT,
    ),
    "sitting": Pose(
        (
            ((-0.085, -0.405), (-0.135, -0.315), (-0.075, -0.215)),
            ((0.085, -0.405), (0.135, -0.315), (0.075, -0.215)),
        ),
        (
            ((-0.06, -0.19), (-0.085, -0.16), (-0.085, -0.035)),
            ((0.06, -0.19), (0.085, -0.16), (0.085, -0.035)),
        ),
    ),
}
_BARE_ARMS = ("dress", "t-shirt")
_SOFT_SLEEVE = {"hoodie": 1.25, "sweater": 1.15, "casual_jacket": 1.12}


@cache
def body(gender: str, garment: str, pose: str) -> tuple[Stroke, ...]:
    """Everything below the head: seat, legs, garment and arms."""
    joints = POSES[pose]
    seat = _stool() if pose == "sitting" else ()
    hood = _HOOD if garment == "hoodie" else ()
    return (
        *seat,
        *hood,
        *_legs(gender, garment, joints),
        *_GARMENTS[garment](gender),
        *_arms(garment, joints),
    )


def _stool() -> tuple[Stroke, ...]:
    return (
        *both(Stroke(polygon((0.10, -0.13), (0.15, -0.13), (0.185, 0.0), (0.14, 0.0)),
                   "stool.shade", "stool.line")),
        Stroke(curve((-0.185, -0.20), (-0.185, -0.20), (0.185, -0.20), (0.185, -0.20),
                   (0.195, -0.165), (0.18, -0.12), (0.18, -0.12), (-0.18, -0.12), (-0.18, -0.12),
                   (-0.195, -0.165)), "stool", "stool.line"),
    )  # fmt: skip


_LOWER = {
    "school_uniform": "lower",
    "casual_jacket": "denim",
    "dress": "khaki",
    "hoodie": "denim",
    "kimono": "lower",
    "sweater": "khaki",
    "t-shirt": "denim",
}


def _legs(gender: str, garment: str, joints: Pose) -> tuple[Stroke, ...]:
    parts: list[Stroke] = []
    for hip, knee, foot in joints.legs:
        side = 1 if foot[0] > 0 else -1
        if gender == "1boy":
            cloth = _LOWER[garment]
            ankle = _between(knee, foot, 0.72)
            leg = limb([hip, knee, ankle], [0.10, 0.088, 0.086], 3)
            parts.append(Stroke(leg, cloth, f"{cloth}.line"))
        else:
            parts.append(
                Stroke(limb([hip, knee, foot], [0.075, 0.068, 0.058]), "skin", "skin.line")
            )
            calf = (knee[0] * 0.5 + foot[0] * 0.5, knee[1] * 0.5 + foot[1] * 0.5)
            parts.append(Stroke(limb([calf, foot], [0.066, 0.062]), "sock", "sock.line"))
        shoe = curve((-0.042, -0.005), (-0.042, -0.005), (-0.036, -0.04), (0.0, -0.05),
                     (0.042, -0.032), (0.056, -0.005), (0.056, -0.005))  # fmt: skip
        shoe = shoe * (side, 1.0)
        parts.append(
            Stroke(moved(shoe.astype("float32"), foot[0], foot[1] + 0.027), "shoe", "shoe.line")
        )
    return tuple(parts)


def _arms(garment: str, joints: Pose) -> tuple[Stroke, ...]:
    parts: list[Stroke] = []
    for shoulder, elbow, hand in joints.arms:
        skin = Stroke(limb([shoulder, elbow, hand], [0.062, 0.056, 0.056], 7), "skin", "skin.line")
        parts.append(skin)
        if garment in _BARE_ARMS:
            sleeve = limb([shoulder, _between(shoulder, elbow, 0.55)], [0.075, 0.095], 3)
        elif garment == "kimono":
            parts += _hanging_sleeve(shoulder, elbow, hand)
            continue
        else:
            wide = _SOFT_SLEEVE.get(garment, 1.0)
            cuff = _between(elbow, hand, 0.70)
            sleeve = limb([shoulder, elbow, cuff], [0.07 * wide, 0.072 * wide, 0.076 * wide], 3)
        parts.append(Stroke(sleeve, "cloth", "cloth.line"))
        if garment in ("sweater", "hoodie", "school_uniform"):
            key = "collar" if garment == "school_uniform" else "cloth.shade"
            parts.append(_cuff(elbow, hand, key))
    return tuple(parts)


def _hanging_sleeve(shoulder: Pair, elbow: Pair, hand: Pair) -> tuple[Stroke, ...]:
    """A kimono's sleeve: a tube along the arm and a pocket that hangs from its second half."""
    cuff = _between(elbow, hand, 0.75)
    inner = elbow if abs(elbow[0]) < abs(cuff[0]) + 0.05 else _between(elbow, cuff, 0.3)
    drop = 0.105
    pocket = curve(
        inner, inner, cuff, cuff, (cuff[0], cuff[1] + drop), (cuff[0], cuff[1] + drop),
        ((cuff[0] + inner[0]) / 2, max(cuff[1], inner[1]) + drop + 0.01),
        (inner[0], inner[1] + drop * 0.8),
    )  # fmt: skip
    tube = limb([shoulder, elbow, cuff], [0.07, 0.075, 0.085], 3)
    return Stroke(pocket, "cloth.shade", "cloth.line"), Stroke(tube, "cloth", "cloth.line")


def _between(a: Pair, b: Pair, share: float) -> Pair:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share


def _cuff(elbow: Pair, hand: Pair, key: str) -> Stroke:
    ends = _between(elbow, hand, 0.62), _between(elbow, hand, 0.76)
    return Stroke(limb(ends, [0.084, 0.084], 1), key)


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


_HOOD = (
    Stroke(
        curve((-0.165, -0.50), (-0.17, -0.43), (-0.10, -0.395), (0.10, -0.395), (0.17, -0.43),
              (0.165, -0.50)), "cloth.shade", "cloth.line"),
)  # fmt: skip


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


_GARMENTS = {
    "school_uniform": _uniform,
    "casual_jacket": _jacket,
    "dress": _dress,
    "hoodie": _hoodie,
    "kimono": _kimono,
    "sweater": _sweater,
    "t-shirt": _tshirt,
}
