"""Measures the embedded model as it ships, and prints the tables of its model card.

    python bench/chibi.py [--pictures 256] [--counts 1 2 3 4] [--flat] [--json OUT]

A drawing takes some five seconds of one CPU core, so the default 1,024 of them want a card or an
hour; `--counts` splits the work between processes, and the scenes stay the same.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import torch

from sakuga.chibi.data import draw_renders
from sakuga.chibi.judge import Judge, hits
from sakuga.chibi.measure import Painter, Score, accuracy_table, measure, psnr
from sakuga.chibi.package import open_judge
from sakuga.chibi.prompts import CAREFUL, CAREFUL_FLAT

SEED = 2**31 + 1  # beyond every seed of training
BATCH = 8  # scenes drawn at once; the scenes do not depend on it


def main() -> None:
    """Measure, print, and keep the scores if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--flat", action="store_true", help="prompts as flat tags, not XML")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--drawings-only", action="store_true", help="leave out the parts")
    options = parser.parse_args()
    painter = Painter.packaged()
    judge = open_judge().to(painter.device)
    if not options.drawings_only:
        measure_parts(painter, judge)
    writer = CAREFUL_FLAT if options.flat else CAREFUL
    scores: list[Score] = []
    for count in options.counts:
        scores.append(measure(painter, judge, count, options.pictures, SEED, writer, BATCH))
        print(accuracy_table(scores[-1:]), flush=True)
    print(accuracy_table(scores))
    if options.json:
        options.json.write_text(json.dumps([dataclasses.asdict(s) for s in scores], indent=1))


@torch.inference_mode()
def measure_parts(painter: Painter, judge: Judge) -> None:
    """The autoencoder's loss and the judge's accuracy on renders that nobody trained on."""
    renders = draw_renders((SEED,), 256)
    device = painter.device
    pixels = renders.pixels.to(device).float() / 127.5 - 1
    print(f"autoencoder: {psnr(painter.vae, pixels):.2f} dB PSNR on 256 held-out renders")
    boxes, codes = renders.boxes[:, :, 0], renders.codes
    parts = zip(pixels.split(64), boxes.split(64), codes.split(64), strict=True)
    read = [hits(judge, p, b.to(device), c.to(device)) for p, b, c in parts]
    for slot in read[0]:
        right = torch.cat([one[slot].flatten() for one in read]).nanmean().item()
        print(f"judge, {slot.replace('_', ' ')}: {100 * right:.2f}%")


if __name__ == "__main__":
    main()
