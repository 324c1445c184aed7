"""A picture under way: framed for a model, and what was drawn laid back into it.

The canvas is what comes out in the end. A model draws what lies in its frame, in its own size;
where the frame is larger than the canvas, the outermost pixels are repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Box = tuple[int, int, int, int]  # left, top, right, bottom, which may lie outside of a canvas


@dataclass(frozen=True, slots=True)
class Canvas:
    """Pixels (H, W, 3), how far each is drawn (H, W) from 0 to 255, and what is drawn.

    `alpha`: None where everything is. `frame`: what the model sees. `size`: (width, height) in
    which it does.
    """

    pixels: Array
    alpha: Array | None
    frame: Box
    size: tuple[int, int]

    def framed(self) -> Array:
        """What the model sees, (h, w, 3)."""
        return scaled(cropped(self.pixels, self.frame), self.size)

    def free(self, cell: int) -> Array | None:
        """Which cells of `cell` x `cell` pixels of the frame are drawn, (h, w); None if all are."""
        if self.alpha is None:
            return None
        seen: Array = np.asarray(scaled(cropped(self.alpha, self.frame), self.size) > 0)
        high, wide = seen.shape[0] // cell, seen.shape[1] // cell
        return np.asarray(seen.reshape(high, cell, wide, cell).any(axis=(1, 3)))

    def with_drawn(self, drawn: Array) -> Array:
        """The canvas with what was drawn of its frame, (h, w, 3), in place."""
        left, top, right, bottom = self.frame
        found = scaled(drawn, (right - left, bottom - top))
        height, width = self.pixels.shape[:2]
        inside = (slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width)))
        seen = found[
            inside[0].start - top : inside[0].stop - top,
            inside[1].start - left : inside[1].stop - left,
        ]
        whole = self.pixels.copy()
        whole[inside] = (
            seen if self.alpha is None else _mixed(whole[inside], seen, self.alpha[inside])
        )
        return whole


def _mixed(below: Array, above: Array, alpha: Array) -> Array:
    """Two pictures by the share of the one above; both ends are exact."""
    share = alpha[..., None].astype(np.uint16)
    mixed = (below * (255 - share) + above * share + 127) // 255
    return mixed.astype(np.uint8)


def cropped(pixels: Array, box: Box) -> Array:
    """What lies in a box; beyond the edge its pixels are repeated."""
    left, top, right, bottom = box
    rows = np.arange(top, bottom).clip(0, pixels.shape[0] - 1)
    columns = np.arange(left, right).clip(0, pixels.shape[1] - 1)
    found: Array = pixels[rows][:, columns]
    return found


def scaled(pixels: Array, size: tuple[int, int]) -> Array:
    """A picture in another size, by Lanczos; in its own as it is."""
    if pixels.shape[1::-1] == size:
        return pixels
    from PIL import Image  # noqa: PLC0415

    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def covering(pixels: Array, size: tuple[int, int]) -> Array:
    """A picture in another size and shape: scaled until it covers that, and cut to its centre."""
    height, width = pixels.shape[:2]
    wide, high = size
    across, down = min(width, height * wide / high), min(height, width * high / wide)
    left, top = (width - across) / 2, (height - down) / 2
    from PIL import Image  # noqa: PLC0415

    image = Image.fromarray(pixels).resize(
        size, Image.Resampling.LANCZOS, box=(left, top, left + across, top + down)
    )
    return np.asarray(image)
