"""Four lights: what each does to a place, and, more gently, to the figures in it.

Light multiplies each channel and lifts it. Figures are tinted mildly so that teal eyes stay
teal in the evening; the place carries the mood, with a glow from one corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from sakuga.chibi.palette import Color


@dataclass(frozen=True, slots=True)
class Tint:
    """Per channel: level -> gain * level + lift, in 0..255."""

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    lift: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def on(self, color: Color) -> Color:
        """One colour under this tint."""
        r, g, b = (
            round(min(max(level * gain + lift, 0), 255))
            for level, gain, lift in zip(color, self.gain, self.lift, strict=True)
        )
        return r, g, b


@dataclass(frozen=True, slots=True)
class Light:
    """A light: its tints of place and figures, the rim it draws, its glow and its strength."""

    place: Tint
    figure: Tint
    rim: Color
    glow: Color = (0, 0, 0)
    strength: float = 0.0


LIGHTS: dict[str, Light] = {
    "studio_lighting": Light(Tint(), Tint(), rim=(255, 244, 170)),
    "soft_lighting": Light(
        Tint((0.74, 0.72, 0.73), (60, 57, 58)),
        Tint((0.86, 0.85, 0.85), (34, 32, 33)),
        rim=(255, 232, 200),
    ),
    "golden_hour": Light(
        Tint((1.0, 0.87, 0.62), (14, 4, 0)),
        Tint((1.0, 0.95, 0.85), (6, 0, -4)),
        rim=(255, 240, 130),
        glow=(255, 206, 104),
        strength=0.75,
    ),
    "moonlight": Light(
        Tint((0.56, 0.64, 0.88), (0, 2, 20)),
        Tint((0.79, 0.85, 0.97), (-2, 0, 8)),
        rim=(176, 224, 255),
        glow=(196, 214, 255),
        strength=0.4,
    ),
}


def lit_place(image: Image.Image, lighting: str) -> Image.Image:
    """A place under a light: tinted, with the glow in its upper left corner."""
    light = LIGHTS[lighting]
    levels = np.arange(256)
    channels = [
        np.clip(levels * gain + lift, 0, 255).round().astype(int)
        for gain, lift in zip(light.place.gain, light.place.lift, strict=True)
    ]
    image = image.point(np.concatenate(channels).tolist())
    if light.strength:
        image.paste(light.glow, mask=_glow(image.width, image.height, light.strength))
    return image


@cache
def _glow(width: int, height: int, strength: float) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width] / height
    mask = np.clip(1 - np.hypot(x - 0.1, y) / 0.8, 0, 1) ** 1.5 * strength * 255
    return Image.fromarray(mask.round().astype(np.uint8))
