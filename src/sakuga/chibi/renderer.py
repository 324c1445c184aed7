"""Pictures from scenes: the ground truth the small model is trained on.

Everything is drawn twice as large with flat outlined shapes and then reduced, which is all the
antialiasing there is. A figure is a sequence of parts; a part knows the names of its colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sakuga.chibi import accessories, backgrounds, body, face, hair
from sakuga.chibi.lighting import LIGHTS
from sakuga.chibi.palette import Color, mix, palette
from sakuga.chibi.scene import Character, Place, Scene, layout
from sakuga.chibi.shapes import Stencil, Stroke, rim, stencil

_OVERSAMPLING = 2
_NECK = -0.45
_RIM = 1.9  # reach of the rim light, in outlines
_JITTER = 0.012  # of a figure's height, in place and size


def render(scene: Scene, *, size: tuple[int, int] = (256, 256), seed: int = 0) -> NDArray[np.uint8]:
    """Draw a scene as (height, width, 3) RGB.

    The same scene, size and seed give the same pixels; `seed` moves what the scene leaves open:
    small shifts of place and proportion, and the view of the background. `size` is (width,
    height) in pixels, made for sides of 128-512.
    """
    rng = np.random.default_rng(seed)
    width, height = size
    large = (width * _OVERSAMPLING, height * _OVERSAMPLING)
    image = backgrounds.paint(scene.background, scene.lighting, large, rng)
    brush = _Brush(image)
    places = layout(scene, width / height)
    jitters = rng.uniform(-_JITTER, _JITTER, (len(places), 4))
    for i in sorted(range(len(places)), key=lambda i: (places[i].ground, i)):
        brush.stand(places[i], jitters[i])
        _figure(brush, scene.characters[i], scene)
    return np.array(image.reduce(_OVERSAMPLING))


class _Brush:
    """Draws stencils, given in figure heights, where the current figure stands."""

    def __init__(self, image: Image.Image) -> None:
        self._image = image
        self._draw = ImageDraw.Draw(image)
        self._size = np.array(image.size)

    def stand(self, place: Place, jitter: NDArray[np.float64]) -> None:
        """Move to a figure's place; `jitter`: (dx, dy, d width, d height) in figure heights."""
        height = place.height * self._size[1]
        self._scale = height * (1 + jitter[2:])
        self._origin = np.array([place.x, place.ground]) * self._size + jitter[:2] * height
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

    def draw(self, stencil: Stencil, colors: dict[str, Color]) -> None:
        """Fill and line every part of a stencil in turn."""
        grown = stencil.points + self._line * stencil.growth
        flat = (grown @ self._matrix + self._shift).ravel().tolist()
        for start, stop, color, width in stencil.cuts:
            xy = flat[2 * start : 2 * stop]
            if width:
                pixels = max(1, round(self._line * width * self._height))
                self._draw.line(xy, fill=colors[color], width=pixels)
            else:
                self._draw.polygon(xy, fill=colors[color])

    def shadow(self) -> None:
        """A patch of shade on the ground, of the ground's own colour."""
        x, y = self._origin
        rx, ry = 0.2 * self._scale[0], 0.028 * self._scale[1]
        spot = (int(x), min(int(y), self._image.height - 1))
        red, green, blue = self._image.getpixel(spot)  # type: ignore[misc]
        shade = mix((int(red), int(green), int(blue)), (30, 20, 60), 0.3)
        self._draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=shade)


def _figure(brush: _Brush, character: Character, scene: Scene) -> None:
    colors = _lit_palette(
        character.hair_color, character.eye_color, character.garment_color, scene.lighting
    )
    groups = _groups(character)
    brush.shadow()
    for layer in ("rim", "figure") if scene.rim_light else ("figure",):
        for degrees, group in groups:
            brush.tilt(degrees)
            brush.draw(group.rim if layer == "rim" else group.figure, colors)


@dataclass(frozen=True, slots=True)
class _Group:
    """Parts that turn together, and the rim of light around them."""

    figure: Stencil
    rim: Stencil


def _group(parts: Sequence[Stroke]) -> _Group:
    return _Group(stencil(parts), rim(parts, _RIM))


def _groups(character: Character) -> tuple[tuple[float, _Group], ...]:
    """A figure's parts from back to front, each group with the tilt of its neck in degrees."""
    c = character
    tilt = body.POSES[c.pose].tilt
    return (
        (tilt, _back(c.hair_style)),
        (0.0, _middle(c.gender, c.garment, c.pose, c.accessory)),
        (tilt, _front(c.gender, c.expression, c.hair_style, c.accessory)),
    )


@cache
def _back(hair_style: str) -> _Group:
    return _group(hair.back_hair(hair_style))


@cache
def _middle(gender: str, garment: str, pose: str, accessory: str) -> _Group:
    return _group((*body.body(gender, garment, pose), *accessories.around_neck(accessory)))


@cache
def _front(gender: str, expression: str, hair_style: str, accessory: str) -> _Group:
    return _group(
        (
            *face.head(gender),
            *face.features(gender, expression),
            *hair.front_hair(hair_style),
            *face.brows(gender, expression),
            *accessories.on_head(accessory),
        )
    )


@cache
def _lit_palette(hair_color: str, eyes: str, garment: str, lighting: str) -> dict[str, Color]:
    light = LIGHTS[lighting]
    colors = palette(hair_color, eyes, garment)
    return {name: light.figure.on(c) for name, c in colors.items()} | {"rim": light.rim}
