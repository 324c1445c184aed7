"""Measures what each storage format costs the embedded model's pictures, and what it saves.

    python bench/formats.py [--pictures 8] [--counts 1 2 3 4] [--device cpu] [--out TABLE.md]

The matrices of the blocks of transformer and Gemma are kept in each format; all computes in
float32. As they ship they lie on the grid of int8 already, which would flatter that format:
each is moved first by up to half a step at random, as the weights were that it was rounded
from, and every format is measured against what those draw in float32, from the same seeds.
Full size is what the same matrices of NewBie-image and its Gemma would take, by arithmetic.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor, nn

from sakuga.chibi.data import scene_boxes
from sakuga.chibi.judge import Judge, hits
from sakuga.chibi.measure import BINDING, Painter
from sakuga.chibi.package import open_judge
from sakuga.chibi.prompts import CAREFUL, joined, write_prompt
from sakuga.chibi.scene import random_scene, to_codes
from sakuga.model.nextdit import NextDiT
from sakuga.model.spec import NEWBIE_3_5B
from sakuga.model.text import GemmaEncoder
from sakuga.weights.formats import FORMATS, StorageFormat, is_block_linear
from sakuga.weights.stored import StoredLinear, keep_stored

SEED = 2**31 + 1  # beyond every seed of training
BATCH = 8
HEAD = """\
| format | bytes | at full size | a picture | against float32 | PSNR, mean | worst | binding |
|---|---|---|---|---|---|---|---|"""


@dataclass(frozen=True, slots=True)
class Asked:
    """Prompts, and what a judge needs to know of the pictures: boxes and codes per scene."""

    texts: tuple[str, ...]
    boxes: Tensor
    codes: Tensor


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one format drew: pictures (B, 3, H, W) in [-1, 1], and the share of hits, 0-1."""

    pictures: Tensor
    binding: float


def main() -> None:
    """Draw with every format, compare with float32, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=8, help="per count of characters")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--rounds", type=int, default=5, help="pictures timed per format")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    whole = off_the_grid(Painter.packaged(options.device))
    judge = open_judge().to(whole.device)
    asked = [ask(count, options.pictures) for count in options.counts]
    painters = {name: stored_in(whole, form) for name, form in FORMATS.items()}
    seconds = time_all(painters, asked[0].texts[0], options.rounds)
    reference = draw(whole, judge, asked)
    lines = [HEAD]
    for name, painter in painters.items():
        drawn = draw(painter, judge, asked)
        lines.append(row(name, painter, seconds, drawn, reference))
        print(lines[-1], flush=True)
    table = "\n".join(lines) + "\n"
    print(table)
    if options.out:
        options.out.write_text(table)


@torch.no_grad()
def off_the_grid(painter: Painter) -> Painter:
    """Move every matrix of a block by up to half a step of int8, at random."""
    for module in (painter.transformer, painter.gemma):
        for name, weight in module.named_parameters():
            if is_block_linear(name):
                step = weight.abs().amax(dim=1, keepdim=True) / 127
                weight.copy_(weight + (torch.rand(weight.shape) - 0.5).to(weight.device) * step)
    return painter


def stored_in(painter: Painter, form: StorageFormat) -> Painter:
    """The same networks, with the matrices of their blocks kept in a format."""
    transformer, gemma = copy.deepcopy(painter.transformer), copy.deepcopy(painter.gemma)
    for module in (transformer, gemma):
        keep_stored(module, form)
    return dataclasses.replace(painter, transformer=transformer, gemma=gemma)


def ask(count: int, pictures: int) -> Asked:
    """Prompts for random scenes of `count` characters."""
    rng, words = np.random.default_rng((SEED, count)), Random(SEED + count)
    scenes = [random_scene(rng, count=count) for _ in range(pictures)]
    codes = np.stack([to_codes(scene) for scene in scenes])
    boxes = np.stack([scene_boxes(one)[:, 0] for one in codes])
    texts = tuple(joined(write_prompt(scene, words, CAREFUL)) for scene in scenes)
    return Asked(texts, torch.from_numpy(boxes), torch.from_numpy(codes))


@torch.inference_mode()
def draw(painter: Painter, judge: Judge, asked: list[Asked]) -> Drawn:
    """Draw all that is asked, from the same seeds whoever draws, and judge it."""
    pictures, found = [], []
    for each in asked:
        for start in range(0, len(each.texts), BATCH):
            part = slice(start, start + BATCH)
            drawn = painter.paint(each.texts[part], SEED + start)
            truth = (all_[part].to(painter.device) for all_ in (each.boxes, each.codes))
            read = hits(judge, drawn, *truth)
            found.append(torch.stack([read[slot].nanmean() for slot in BINDING]).mean())
            pictures.append(drawn)
    return Drawn(torch.cat(pictures), torch.stack(found).mean().item())


def time_all(painters: dict[str, Painter], text: str, rounds: int) -> dict[str, float]:
    """Seconds of one picture per format: the quickest of some in turns, whatever else runs."""
    seconds: dict[str, list[float]] = {name: [] for name in painters}
    for turn in range(rounds + 1):
        for name, painter in painters.items():
            start = time.perf_counter()
            painter.paint([text], SEED).sum().item()
            if turn:  # the first of each pays for what is made once
                seconds[name].append(time.perf_counter() - start)
    return {name: min(taken) for name, taken in seconds.items()}


def row(
    name: str, painter: Painter, seconds: dict[str, float], drawn: Drawn, reference: Drawn
) -> str:
    """One line of the table."""
    error = (drawn.pictures - reference.pictures).square().flatten(1).mean(dim=1)
    ratios = (10 * torch.log10(4 / error)).tolist()
    bytes_ = stored_bytes(painter.transformer) + stored_bytes(painter.gemma)
    cells = (
        name,
        f"{bytes_ / 1e6:.1f} MB",
        f"{full_size(FORMATS[name]) / 1e9:.2f} GB",
        f"{seconds[name]:.2f} s",
        f"{seconds[name] / seconds['float32']:.2f} x",
        decibels(statistics.fmean(ratios)),
        decibels(min(ratios)),
        f"{100 * drawn.binding:.1f}%",
    )
    return f"| {' | '.join(cells)} |"


def decibels(ratio: float) -> str:
    """A ratio in dB; identical pictures have none."""
    return "identical" if ratio == float("inf") else f"{ratio:.1f} dB"


def stored_bytes(module: nn.Module) -> int:
    """Bytes of all weights that a module keeps stored, scales included."""
    linears = [each for each in module.modules() if isinstance(each, StoredLinear)]
    return sum(value.nbytes for linear in linears for value in linear.buffers())


def full_size(form: StorageFormat) -> int:
    """Bytes of the same matrices of the real model's transformer and Gemma."""
    with torch.device("meta"):
        parts = NextDiT(NEWBIE_3_5B.transformer), GemmaEncoder(NEWBIE_3_5B.gemma)
    shapes = (
        tuple(value.shape)
        for part in parts
        for key, value in part.state_dict().items()
        if is_block_linear(key)
    )
    return sum(form.bytes(shape) for shape in shapes)


if __name__ == "__main__":
    main()
