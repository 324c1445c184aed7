"""Characters held in their places: image tokens elsewhere are held off the text that tells of them.

    scores(image token, token of character c) -= strength · how far the image token is outside of c

Nothing else changes: text tokens see all, and so do image tokens of whatever is no character.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sakuga.engine.run import Run
from sakuga.model.layers import Bias, channels_of
from sakuga.model.packing import Packing
from sakuga.prompt.regions import Box

EDGE = 0.06  # of a side, over which a place ends


def until(run: Run) -> float:
    """The time up to which places count: of a first share of the steps that are walked."""
    return run.times[math.ceil(run.request.walked * (run.request.regions_until or 1))]


def with_regions(packing: Packing, branches: Sequence[int], run: Run) -> Packing:
    """A packing whose segments of the prompt, branch 0, keep characters in their places."""
    strength, regions = run.request.regions or 0.0, run.texts.regions
    pairs = []
    lengths = packing.text.segments.lengths
    for length, size, branch in zip(lengths, packing.sizes, branches, strict=True):
        query = torch.zeros(length + size[0] * size[1], channels_of(len(regions)))
        key = torch.zeros_like(query)
        for channel, region in enumerate(regions if branch == 0 else ()):
            query[length:, channel] = strength * outside(region.box, size).flatten()
            key[region.begin : min(region.end, length), channel] = -1.0
        pairs.append((query, key))
    segments = packing.joint.segments
    bias = Bias(*(segments.join(list(side)) for side in zip(*pairs, strict=True)))
    return replace(packing, joint=replace(packing.joint, bias=bias))


def outside(box: Box, size: tuple[int, int]) -> Tensor:
    """How far each of (rows, columns) tokens is outside of a box: 0 in it, 1 beyond its edge."""
    left, top, right, bottom = box
    rows, columns = size
    y = (torch.arange(rows) + 0.5)[:, None] / rows
    x = (torch.arange(columns) + 0.5)[None] / columns
    away = torch.maximum(
        torch.maximum(left - x, x - right).expand(rows, columns),
        torch.maximum(top - y, y - bottom).expand(rows, columns),
    )
    return (away / EDGE).clamp(0, 1)
