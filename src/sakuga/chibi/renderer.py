"""Pictures from scenes: the ground truth the small model is trained on.

Everything is drawn twice as large with flat outlined shapes and then reduced, which is all the
antialiasing there is. A figure is a sequence of parts; a part knows the names of its colours.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sakuga.chibi import accessories, backgrounds, body, face, hair
from sakuga.chibi.palette import Color, mix, palette
from sakuga.chibi.scene import Character, Place, Scene, layout
from sakuga.chibi.shapes import Part

_OVERSAMPLING = 2
_NECK = -0.45
_JITTER = 0.012  # of the picture, in place and size

# Light multiplies each channel, then lifts it: (gain, lift) in RGB.
_LIGHTS: dict[str, tuple[tuple[float, float, float], tuple[int, int, int]]] = {
    "studio_lighting": ((1.0, 1.0, 1.0), (0, 0, 0)),
    "soft_lighting": ((0.80, 0.78, 0.79), (48, 46, 46)),
    "golden_hour": ((1.0, 0.90, 0.70), (10, 4, 0)),
    "moonlight": ((0.64, 0.72, 0.92), (0, 4, 18)),
}
# The colour and strength of the glow that light throws into one corner.
_GLOWS: dict[str, tuple[Color, float]] = {
    "golden_hour": ((255, 196, 90), 0.55),
    "moonlight": ((16, 22, 70), 0.45),
}
_RIMS: dict[str, Color] = {
    "studio_lighting": (255, 255, 250),
    "soft_lighting": (255, 250, 244),
    "golden_hour": (255, 240, 170),
    "moonlight": (206, 230, 255),
}


def render(scene: Scene, *, size: int = 256, seed: int = 0) -> NDArray[np.uint8]:
    """Draw a scene as (size, size, 3) RGB.

    The same scene, size and seed give the same pixels; `seed` moves what the scene leaves open:
    small shifts of place and proportion, and the view of the background. `size` is in pixels,
    made for 128-512.
    """
    rng = np.random.default_rng(seed)
    image = backgrounds.paint(scene.background, size * _OVERSAMPLING, rng)
    brush = _Brush(image)
    places = layout(scene)
    jitters = rng.uniform(-1, 1, (len(places), 3)) * _JITTER
    back_to_front = sorted(range(len(places)), key=lambda i: (places[i].ground, i))
    for i in back_to_front:
        brush.stand(places[i], jitters[i])
        rim = _RIMS[scene.lighting] if scene.rim_light else None
        _figure(brush, scene.characters[i], rim)
    return np.asarray(_lit(image.reduce(_OVERSAMPLING), scene.lighting))


class _Brush:
    """Draws parts, given in figure heights, where the current figure stands."""

    def __init__(self, image: Image.Image) -> None:
        self._draw = ImageDraw.Draw(image)
        self._side = image.width

    def stand(self, place: Place, jitter: NDArray[np.float64]) -> None:
        """Move to a figure's place; `jitter` is (dx, dy, d height) in fractions."""
        height = place.height * (1 + jitter[2])
        self._scale = height * self._side
        self._origin = (
            (place.x + jitter[0] * place.height) * self._side,
            (place.ground + jitter[1] * 0.5) * self._side,
        )
        self._line = min(max(self._scale * 0.0125, 2.6), 5.5) * max(self._side / 512, 0.7)
        self.tilt(0.0)

    def tilt(self, degrees: float) -> None:
        """Turn what follows around the neck."""
        angle = np.radians(degrees)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        neck = np.array([0.0, _NECK])
        self._matrix = (turn * self._scale).astype(np.float32)
        self._shift = ((neck - neck @ turn) * self._scale + self._origin).astype(np.float32)

    def draw(self, parts: Iterable[Part], colors: dict[str, Color]) -> None:
        """Fill and outline each part in turn."""
        for part in parts:
            xy = (part.points @ self._matrix + self._shift).ravel().tolist()
            if part.fill:
                self._draw.polygon(xy, fill=colors[part.fill])
            if part.line:
                if part.closed:
                    xy += xy[:2]
                width = max(1, round(self._line * part.width))
                self._draw.line(xy, fill=colors[part.line], width=width)

    def halo(self, parts: Iterable[Part], color: Color) -> None:
        """Light around the outlined parts, to be drawn over by the parts themselves."""
        width = round(self._line * 3.4)
        for part in parts:
            if part.line and part.fill:
                xy = (part.points @ self._matrix + self._shift).ravel().tolist()
                self._draw.line(xy + xy[:2], fill=color, width=width)

    def shadow(self, half: float) -> None:
        """A patch of shade on the ground."""
        x, y = self._origin
        rx, ry = half * self._scale, 0.03 * self._scale
        self._draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=(96, 88, 108))


def _figure(brush: _Brush, character: Character, rim: Color | None) -> None:
    gender, pose = character.gender, character.pose
    colors = palette(character)
    back = hair.back_hair(character.hair_style)
    middle = body.body(gender, character.garment, pose)
    front = (
        *face.head(gender),
        *face.features(gender, character.expression),
        *hair.front_hair(character.hair_style),
        *face.brows(gender, character.expression),
        *accessories.on_head(character.accessory),
    )
    tilt = body.POSES[pose].tilt
    groups = (
        (tilt, back),
        (0.0, (*middle, *accessories.around_neck(character.accessory))),
        (tilt, front),
    )
    brush.shadow(0.2)
    if rim:
        for angle, parts in groups:
            brush.tilt(angle)
            brush.halo(parts, rim)
    for angle, parts in groups:
        brush.tilt(angle)
        brush.draw(parts, colors)


def _lit(image: Image.Image, lighting: str) -> Image.Image:
    """The picture under a light: a tint that keeps every hue apart, and a glow from a corner."""
    if lighting in _GLOWS:
        color, strength = _GLOWS[lighting]
        image.paste(color, mask=_glow(image.width, strength))
    return image.point(_curve(lighting))


@cache
def _curve(lighting: str) -> list[int]:
    levels = np.arange(256)
    gain, lift = _LIGHTS[lighting]
    channels = [np.clip(levels * g + a, 0, 255).round().astype(int) for g, a in zip(gain, lift, strict=True)]
    return np.concatenate(channels).tolist()


@cache
def _glow(side: int, strength: float) -> Image.Image:
    y, x = np.mgrid[0:side, 0:side] / side
    distance = np.hypot(x, y * 1.15)
    mask = np.clip(1 - distance / 0.75, 0, 1) ** 1.5 * strength * 255
    return Image.fromarray(mask.round().astype(np.uint8))
