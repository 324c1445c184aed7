"""Masks: which pixels of a picture are drawn anew, and how far each of them is.

A mask is white where the picture changes. It may grow, and its edge may be feathered outwards:
within the grown mask a pixel is drawn wholly, and over `feather` pixels around it less and less.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sakuga.errors import RequestError
from sakuga.files.pictures import load_grey, look_at

Array = NDArray[Any]
HALF = 128  # of 255; from here on a pixel is white


def read_mask(source: str, size: tuple[int, int], *, invert: bool) -> tuple[Array, tuple[str, ...]]:
    """A mask (H, W) of a picture of `size`, true where it is drawn, and notes on the file.

    Raises RequestError for one of another size, or one that leaves nothing to draw.
    """
    seen = look_at(source)
    if seen.size != size:
        raise RequestError(
            "a mask has the size of its picture",
            f"{seen.name}: {seen.width}x{seen.height} for {size[0]}x{size[1]}",
            "Save it in the picture's size.",
        )
    loaded = load_grey(source)
    mask = loaded.pixels < HALF if invert else loaded.pixels >= HALF
    if not mask.any():
        got, fix = ("white", "Leave out --mask-invert") if invert else ("black", "Or invert it")
        raise RequestError(
            "a mask is white where the picture is drawn anew", f"{seen.name}: all {got}",
            f"Paint white what should change. {fix}{'' if invert else ': --mask-invert'}.",
        )  # fmt: skip
    return mask, loaded.notes


def grown(mask: Array, by: int) -> Array:
    """A mask (H, W) with all pixels within `by` of it, along either side."""
    return mask if by == 0 else np.greater(_counted(mask, by), 0)


def feathered(mask: Array, over: int) -> Array:
    """How far each pixel is drawn, 0 to 255: wholly in a mask, not at all `over` pixels off."""
    reach = over // 2
    wide = grown(mask, over - reach)
    if reach == 0:
        return wide.astype(np.uint8) * np.uint8(255)
    every = _counted(np.ones_like(mask), reach)
    share: Array = (_counted(wide, reach) * 255 + every // 2) // every
    return share.astype(np.uint8)


def _counted(mask: Array, reach: int) -> Array:
    """How many of the pixels within `reach` of each are in a mask; those outside are in none."""
    found = mask.astype(np.int32)
    for axis in (0, 1):
        length = found.shape[axis]
        sums = np.cumsum(found, axis=axis)
        last = np.minimum(np.arange(length) + reach, length - 1)
        before = np.arange(length) - reach - 1
        start = np.take(sums, np.maximum(before, 0), axis=axis)
        start[(slice(None),) * axis + (before < 0,)] = 0
        found = np.take(sums, last, axis=axis) - start
    return found


def box_of(mask: Array) -> tuple[int, int, int, int]:
    """The smallest (left, top, right, bottom) around a mask; right and bottom lie behind it."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
