"""Small pictures and masks for tests, as bytes of files."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image


def file_of(pixels: Any, kind: str = "PNG", **options: Any) -> bytes:
    """A file of pixels (H, W, 3) or (H, W), or of a picture of Pillow's."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Random pixels on a ramp, each row unlike the next."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 155, width)[None, :, None] + np.zeros((height, 1, 3))
    return (ramp + random.integers(0, 100, (height, width, 3))).astype(np.uint8)


def window(width: int, height: int, box: tuple[int, int, int, int]) -> bytes:
    """A mask that is white in a box."""
    mask = np.zeros((height, width), np.uint8)
    left, top, right, bottom = box
    mask[top:bottom, left:right] = 255
    return file_of(mask)
