"""Draws the contact sheet of the model card: random scenes of one to four characters.

python bench/sheet.py OUT.png
"""

from __future__ import annotations

import sys
from random import Random

import numpy as np
import torch
from PIL import Image

from sakuga.chibi.measure import Painter
from sakuga.chibi.prompts import CAREFUL, joined, write_prompt
from sakuga.chibi.scene import random_scene

COLUMNS, SEED = 4, 2**31 + 3


def main(out: str) -> None:
    """One row each of one, two and four characters, as drawn, none chosen by hand."""
    painter = Painter.packaged()
    rng, words = np.random.default_rng(SEED), Random(SEED)
    counts = [count for count in (1, 2, 4) for _ in range(COLUMNS)]
    scenes = [random_scene(rng, count=count) for count in counts]
    texts = [joined(write_prompt(scene, words, CAREFUL)) for scene in scenes]
    pixels = ((painter.paint(texts, SEED) + 1) * 127.5).round().byte().cpu()
    rows = [torch.cat(list(pixels[i : i + COLUMNS]), dim=2) for i in range(0, 12, COLUMNS)]
    Image.fromarray(torch.cat(rows, dim=1).permute(1, 2, 0).numpy()).save(out, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
