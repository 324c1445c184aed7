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
from sakuga.chibi.lighting import LIGHTS
from sakuga.chibi.palette import Color, mix, palette
from sakuga.chibi.scene import Character, Place, Scene, layout
from sakuga.chibi.shapes import Part, Points, outward

_OVERSAMPLING = 2
_NECK = -0.45
_JITTER = 0.012  # of a figure's height, in place and size


def render(scene: Scene, *, size: int = 256, seed: int = 0) -> NDArray[np.uint8]:
    """Draw a scene as (size, size, 3) RGB.

    The same scene, size and seed give the same pixels; `seed` moves what the scene leaves open:
    small shifts of place and proportion, and the view of the background. `size` is in pixels,
    made for 128-512.
    """
    rng = np.random.default_rng(seed)
    side = size * _OVERSAMPLING
    image = backgrounds.paint(scene.background, scene.lighting, side, rng)
    brush = _Brush(image)
    places = layout(scene)
    jitters = rng.uniform(-_JITTER, _JITTER, (len(places), 4))
    for i in sorted(range(len(places)), key=lambda i: (places[i].ground, i)):
        brush.stand(places[i], jitters[i])
        _figure(brush, scene.characters[i], scene)
    return np.array(image.reduce(_OVERSAMPLING))


class _Brush:
    """Draws parts, given in figure heights, where the current figure stands."""

    def __init__(self, image: Image.Image) -> None:
        self._image = image
        self._draw = ImageDraw.Draw(image)
        self._side = image.width

    def stand(self, place: Place, jitter: NDArray[np.float64]) -> None:
        """Move to a figure's place; `jitter`: (dx, dy, d width, d height) in figure heights."""
        height = place.height * self._side
        self._scale = height * (1 + jitter[2:])
        self._origin = np.array([place.x, place.ground]) * self._side + jitter[:2] * height
        # Outlines in figure heights, about 1.5 to 2.7 pixels wide in a picture of 256.
        self._line = min(max(0.0125, 0.0058 / place.height), 0.0105 / place.height)
        self._height = height
        self.tilt(0.0)

    def tilt(self, degrees: float) -> None:
        """Turn what follows around the neck."""
        angle = np.radians(degrees)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        neck = np.array([0.0, _NECK])
        self._matrix = (turn * self._scale).astype(np.float32)
        self._shift = ((neck - neck @ turn) * self._scale + self._origin).astype(np.float32)

    def draw(self, parts: Iterable[Part], colors: dict[str, Color]) -> None:
        """Fill and outline each part in turn; an outline lies half inside, half outside."""
        for part in parts:
            half = 0.5 * self._line * part.width
            if part.fill is None or not part.closed:
                xy = self._flat(part.points)
                width = max(1, round(2 * half * self._height))
                line = xy + xy[:2] if part.closed else xy
                self._draw.line(line, fill=colors[part.line or "ink"], width=width)
            elif part.line is None:
                self._draw.polygon(self._flat(part.points), fill=colors[part.fill])
            else:
                edge = half * outward(part)
                self._draw.polygon(self._flat(part.points + edge), fill=colors[part.line])
                self._draw.polygon(self._flat(part.points - edge), fill=colors[part.fill])

    def halo(self, parts: Iterable[Part], color: Color) -> None:
        """Light around the outlined parts, to be drawn over by the parts themselves."""
        for part in parts:
            if part.line and part.fill:
                grown = part.points + 1.9 * self._line * outward(part)
                self._draw.polygon(self._flat(grown), fill=color)

    def _flat(self, points: Points) -> list[float]:
        """Points in pixels, as Pillow wants them: [x, y, x, y, ...]."""
        flat: list[float] = (points @ self._matrix + self._shift).ravel().tolist()
        return flat

    def shadow(self) -> None:
        """A patch of shade on the ground, of the ground's own colour."""
        x, y = self._origin
        rx, ry = 0.2 * self._scale[0], 0.028 * self._scale[1]
        spot = (int(x), min(int(y), self._side - 1))
        red, green, blue = self._image.getpixel(spot)  # type: ignore[misc]
        shade = mix((int(red), int(green), int(blue)), (30, 20, 60), 0.3)
        self._draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=shade)


def _figure(brush: _Brush, character: Character, scene: Scene) -> None:
    colors = _lit_palette(
        character.hair_color, character.eye_color, character.garment_color, scene.lighting
    )
    groups = _groups(character)
    brush.shadow()
    if scene.rim_light:
        for angle, parts in groups:
            brush.tilt(angle)
            brush.halo(parts, LIGHTS[scene.lighting].rim)
    for angle, parts in groups:
        brush.tilt(angle)
        brush.draw(parts, colors)


def _groups(character: Character) -> tuple[tuple[float, tuple[Part, ...]], ...]:
    """A figure's parts from back to front, each group with the tilt of its neck in degrees."""
    gender, pose = character.gender, character.pose
    back = hair.back_hair(character.hair_style)
    middle = (
        *body.body(gender, character.garment, pose),
        *accessories.around_neck(character.accessory),
    )
    front = (
        *face.head(gender),
        *face.features(gender, character.expression),
        *hair.front_hair(character.hair_style),
        *face.brows(gender, character.expression),
        *accessories.on_head(character.accessory),
    )
    tilt = body.POSES[pose].tilt
    return (tilt, back), (0.0, middle), (tilt, front)


@cache
def _lit_palette(hair_color: str, eyes: str, garment: str, lighting: str) -> dict[str, Color]:
    tint = LIGHTS[lighting].figure
    return {name: tint.on(c) for name, c in palette(hair_color, eyes, garment).items()}
