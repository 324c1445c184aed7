"""Finds the heads in a drawing, wherever they are: how many, and where. Learns from renders alone.

The judge looks where a figure should be; this says whether one is there, and who else is.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

FILE = Path(__file__).parent / "heads.safetensors"
LOOKED_AT = 128  # the root of the area, in pixels, at which a picture is looked at
CELL = 4  # pixels of it for each value of the map
_LEAST = 0.45  # of the map, where a head is

Head = tuple[float, float]  # its middle in fractions of the picture, from the left and the top


class HeadFinder(nn.Module):
    """A small network from pictures to a map that is 1 in the middle of each head."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        widths = [width * times for times in (1, 2, 3, 4, 4)]
        self.down = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=2, padding=1)
            for before, after in pairwise([3, *widths])
        )
        self.same = nn.ModuleList(nn.Conv2d(each, each, 3, padding=1) for each in widths)
        self.up = nn.ModuleList(
            nn.Conv2d(after, before, 1) for before, after in pairwise(widths[1:])
        )
        self.head = nn.Conv2d(widths[1], 1, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits (B, h, w) of the map for (B, 3, 4h, 4w) in [-1, 1]; sides are multiples of 32."""
        x, kept = pictures, []
        for down, same in zip(self.down, self.same, strict=True):
            x = F.silu(down(x))
            x = x + F.silu(same(x))
            kept.append(x)
        for up, skip in zip(reversed(self.up), kept[-2:0:-1], strict=True):
            x = F.silu(F.interpolate(up(x), scale_factor=2.0) + skip)
        logits: Tensor = self.head(x)[:, 0]
        return logits


def looked_at(pictures: Tensor) -> Tensor:
    """Pictures of one size as the finder takes them: of its area, sides multiples of 32."""
    height, width = pictures.shape[-2:]
    scale = LOOKED_AT / math.sqrt(height * width)
    size = [max(1, round(side * scale / 32)) * 32 for side in (height, width)]
    return F.interpolate(pictures, size, mode="bilinear", antialias=True)


@torch.inference_mode()
def find_heads(finder: HeadFinder, pictures: Tensor) -> list[list[Head]]:
    """The heads in each of (B, 3, H, W) pictures in [-1, 1]."""
    heat = finder(looked_at(pictures)).sigmoid()
    peaks = (heat == F.max_pool2d(heat[:, None], 7, stride=1, padding=3)[:, 0]) & (heat > _LEAST)
    height, width = heat.shape[-2:]
    found: list[list[Head]] = [[] for _ in pictures]
    for index, y, x in peaks.nonzero().tolist():
        found[index].append(((x + 0.5) / width, (y + 0.5) / height))
    return found


def open_finder() -> HeadFinder:
    """The finder that ships with the package, in float32."""
    finder = HeadFinder().eval().requires_grad_(False)
    finder.load_state_dict({key: value.float() for key, value in load_file(FILE).items()})
    return finder
