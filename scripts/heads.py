"""Teaches the finder of heads of the binding benchmark, and writes its file.

    python scripts/heads.py [--pictures 2400] [--steps 2500] [--device cpu]

Renders of all sizes, cut and turned at random, blurred a little as drawings are.
"""

from __future__ import annotations

import argparse
import math

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from sakuga.chibi.binding.heads import CELL, FILE, LOOKED_AT, HeadFinder, find_heads, looked_at
from sakuga.chibi.data import draw_renders, to_unit
from sakuga.chibi.train import roughen

SIZES = ((256, 256), (192, 192), (384, 256), (256, 384), (320, 256), (512, 256), (384, 384))
SEED = 11
CHUNK = 48


def pictures_of(count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Pictures as the finder takes them, with their faces (B, M, 4); a chunk for each size."""
    chunks = []
    for index in range(math.ceil(count / CHUNK)):
        renders = draw_renders((SEED, seed, index), CHUNK, SIZES[index % len(SIZES)])
        chunks.append((looked_at(to_unit(renders.pixels)), renders.boxes[:, :, 1]))
        print("drawn", (index + 1) * CHUNK, flush=True)
    return chunks


def heat_of(faces: Tensor, size: tuple[int, int]) -> Tensor:
    """The map (B, h, w) that faces (B, M, 4) ask for: a bump as wide as a sixth of each."""
    height, width = size
    middle = (faces[..., :2] + faces[..., 2:]) / 2 * torch.tensor([width, height])
    reach = ((faces[..., 2] - faces[..., 0]) * width / 6).clamp(min=0.8)
    y, x = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    far = (x - middle[..., None, None, 0]) ** 2 + (y[:, None] - middle[..., None, None, 1]) ** 2
    bumps = torch.exp(-far / (2 * reach[..., None, None] ** 2))
    there = (faces[..., 2] > faces[..., 0])[..., None, None]
    return (bumps * there).amax(dim=1)


def varied(pictures: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """A window of each picture, larger or smaller, mirrored at times; with the faces in it."""
    count = len(pictures)
    scale = torch.empty(count, 1).uniform_(0.75, 1.15)
    shift = torch.empty(count, 2).uniform_(-0.25, 0.25)
    flip = torch.where(torch.rand(count, 1) < 0.5, -1.0, 1.0)
    zero = torch.zeros(count)
    theta = torch.stack((
        torch.stack((scale[:, 0] * flip[:, 0], zero, shift[:, 0]), 1),
        torch.stack((zero, scale[:, 0], shift[:, 1]), 1),
    ), 1)  # fmt: skip
    grid = F.affine_grid(theta, list(pictures.shape), align_corners=False)
    seen = F.grid_sample(pictures, grid, align_corners=False, padding_mode="border")
    corners = (2 * faces - 1).unflatten(-1, (2, 2))
    back = (corners - shift[:, None, None]) / scale[:, None, None]
    back[..., 0] *= flip[:, None]
    moved = ((back + 1) / 2).sort(dim=2).values.flatten(2)
    there = (faces[..., 2] > faces[..., 0])[..., None]
    return seen, moved * there


def loss_of(logits: Tensor, heat: Tensor) -> Tensor:
    """Cross entropy that counts what is far from right, and middles most."""
    plain = F.binary_cross_entropy_with_logits(logits, heat, reduction="none")
    weight = (logits.sigmoid() - heat).abs().square() * (1 + 6 * heat)
    return (plain * weight.detach()).sum() / len(logits)


def main() -> None:
    """Draw, teach, look at renders that were not taught, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=2400)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    chunks, unseen = pictures_of(options.pictures, 0), pictures_of(7 * CHUNK, 1)
    finder = HeadFinder().to(options.device)
    optimiser = torch.optim.AdamW(finder.parameters(), lr=3e-3, weight_decay=0.01)
    for step in range(options.steps):
        pictures, faces = chunks[step % len(chunks)]
        index = torch.randint(len(pictures), (16,))
        seen, where = varied(pictures[index], faces[index])
        heat = heat_of(where, (seen.shape[-2] // CELL, seen.shape[-1] // CELL))
        loss = loss_of(finder(roughen(seen).to(options.device)), heat.to(options.device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.param_groups[0]["lr"] = 3e-3 * min(1, step / 50, 1.6 * (1 - step / options.steps))
        optimiser.step()
        if step % 100 == 0:
            print("step", step, round(loss.item(), 3), flush=True)
    finder.eval()
    right = 0
    for pictures, faces in unseen:
        found = find_heads(finder, pictures.to(options.device))
        right += sum(
            len(one) == int((each[:, 2] > each[:, 0]).sum())
            for one, each in zip(found, faces, strict=True)
        )
    print(f"right number on {right} of {7 * CHUNK} renders that were not taught ({LOOKED_AT} px)")
    save_file({key: value.cpu().half() for key, value in finder.state_dict().items()}, FILE)


if __name__ == "__main__":
    main()
