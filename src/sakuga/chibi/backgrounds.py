"""Where figures stand: places read at a glance, of big calm shapes, no detail under three pixels.

Drawn once per variant, wider than the picture, so that a crop and a mirror give fresh views.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

from sakuga.chibi import backgrounds_inside as inside
from sakuga.chibi import backgrounds_outside as outside
from sakuga.chibi import backgrounds_sky as sky
from sakuga.chibi.lighting import light_place
from sakuga.chibi.scenery import WIDTH, Scenery

VARIANTS = 3
_PAINTERS: dict[str, Callable[[Scenery], None]] = {
    "cityscape_at_dusk": outside.city,
    "beach": outside.beach,
    "forest": outside.forest,
    "classroom": inside.classroom,
    "night_sky": sky.night,
    "cherry_blossoms": outside.sakura,
    "snow": outside.snow,
    "blue_sky": outside.blue_sky,
    "simple_background": inside.simple,
    "sunset": sky.sunset,
    "rain": sky.rain,
    "underwater": sky.underwater,
    "space": sky.space,
    "fireworks": sky.fireworks,
    "street": outside.street,
    "mountain": outside.mountain,
    "flower_field": outside.flower_field,
    "autumn_leaves": outside.autumn,
    "library": inside.library,
    "bedroom": inside.bedroom,
    "stage": inside.stage,
    "pink_background": inside.plain((250, 182, 206), (252, 196, 216)),
    "blue_background": inside.plain((92, 160, 238), (112, 174, 242)),
    "black_background": inside.plain((4, 4, 8), (10, 10, 16)),
}


@cache
def _wide(background: str, variant: int, width: int, side: int) -> Image.Image:
    scenery = Scenery(width, side, variant)
    _PAINTERS[background](scenery)
    return scenery.image


def paint(
    background: str, lighting: str, size: tuple[int, int], rng: np.random.Generator
) -> Image.Image:
    """A view of the place, `size` (width, height) in pixels, to draw on; `rng` chooses which."""
    width, height = size
    land = round((WIDTH - 1) * height) + max(width, height)
    wide = _wide(background, int(rng.integers(VARIANTS)), land, height)
    x = int(rng.integers(wide.width - width + 1))
    view = light_place(wide.crop((x, 0, x + width, height)), lighting, x)
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else view
