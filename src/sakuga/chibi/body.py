"""Bodies: poses as joints, the legs and arms that follow them. Figure heights, soles at y = 0."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from sakuga.chibi.garments import trunk
from sakuga.chibi.shapes import Pair, Stroke, arc, both, curve, limb, moved, polygon


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
    "outstretched_arms": Pose(
        (
            ((-0.085, -0.40), (-0.20, -0.385), (-0.315, -0.39)),
            ((0.085, -0.40), (0.20, -0.385), (0.315, -0.39)),
        ),
        _STRAIGHT,
    ),
    "crossed_arms": Pose(
        (
            ((-0.085, -0.405), (-0.17, -0.275), (0.10, -0.262)),
            ((0.085, -0.405), (0.17, -0.30), (-0.10, -0.30)),
        ),
        _STRAIGHT,
        tilt=3.0,
    ),
}
_BARE_ARMS = ("dress", "t-shirt")
_SOFT_SLEEVE = {"hoodie": 1.25, "sweater": 1.15, "casual_jacket": 1.12, "coat": 1.3}
_CUFFS = {
    "school_uniform": "collar",
    "sweater": "cloth.shade",
    "hoodie": "cloth.shade",
    "maid": "collar",
    "coat": "fur",
    "suit": "trim",
}
_LONG_LEGS = ("armor", "suit")  # worn by all over both legs


_HOOD = (
    Stroke(
        curve((-0.165, -0.50), (-0.17, -0.43), (-0.10, -0.395), (0.10, -0.395), (0.17, -0.43),
              (0.165, -0.50)), "cloth.shade", "cloth.line"),
)  # fmt: skip


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
        *trunk(garment, gender),
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
    "maid": "lower",
    "coat": "denim",
    "armor": "steel",
    "suit": "lower",
}


def _legs(gender: str, garment: str, joints: Pose) -> tuple[Stroke, ...]:
    parts: list[Stroke] = []
    for hip, knee, foot in joints.legs:
        side = 1 if foot[0] > 0 else -1
        if gender == "1boy" or garment in _LONG_LEGS:
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
        cloth = "steel" if garment == "armor" else "cloth"
        parts.append(Stroke(sleeve, cloth, f"{cloth}.line"))
        if garment == "armor":
            parts += _plates(shoulder, elbow, hand)
        elif garment in _CUFFS and shoulder[0] * hand[0] > 0:  # no room for them across the trunk
            parts.append(_cuff(elbow, hand, _CUFFS[garment]))
    return tuple(parts)


def _plates(shoulder: Pair, elbow: Pair, hand: Pair) -> tuple[Stroke, ...]:
    """Armour on an arm: a round plate on the shoulder, a gauntlet around the wrist."""
    side = 1 if shoulder[0] > 0 else -1
    x, y = shoulder[0] + 0.024 * side, shoulder[1] + 0.002
    plate = curve((x - 0.055, y + 0.02), (x - 0.05, y - 0.03), (x, y - 0.05), (x + 0.05, y - 0.03),
                  (x + 0.055, y + 0.02), (x, y + 0.045))  # fmt: skip
    gauntlet = limb([_between(elbow, hand, 0.3), _between(elbow, hand, 0.8)], [0.078, 0.096], 1)
    return (
        Stroke(gauntlet, "cloth", "cloth.line"),
        Stroke(plate, "cloth", "cloth.line"),
        Stroke(
            arc(x, y + 0.004, 0.036, 0.032, 200, 340, 8), None, "steel.light", 1.3, closed=False
        ),
    )


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
