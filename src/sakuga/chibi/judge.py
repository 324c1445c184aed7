"""Says what a picture shows, figure by figure. Learns from renders alone, never from drawings."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sakuga.chibi.scene import CODE_LENGTH, MAX_CHARACTERS
from sakuga.chibi.vocabulary import CHARACTER_SLOTS, SCENE_SLOTS, VALUES

FIGURE_SLOTS = CHARACTER_SLOTS[:-1]  # a figure's position is where one looks, not what one sees
CROP = (128, 96)  # height and width at which a figure, or a whole picture, is looked at


class Eye(nn.Module):
    """A small residual network with one linear head over all choices of its slots."""

    def __init__(self, slots: tuple[str, ...], width: int) -> None:
        super().__init__()
        self.sizes = {slot: len(VALUES[slot]) for slot in slots}
        widths = (width, 2 * width, 3 * width, 4 * width)
        self.stages = nn.ModuleList(
            _Stage(before, after) for before, after in zip((3, *widths), widths, strict=False)
        )
        self.head = nn.Linear(widths[-1] * 4 * 3, sum(self.sizes.values()))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Look at (B, 3, 128, 96) in [-1, 1]; logits (B, values) for each slot."""
        for stage in self.stages:
            x = stage(x)
        x = F.dropout(F.adaptive_avg_pool2d(x, (4, 3)).flatten(1), 0.1, self.training)
        parts = self.head(x).split(list(self.sizes.values()), dim=1)
        return dict(zip(self.sizes, parts, strict=True))


class _Stage(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(before, after, 4, stride=2, padding=1)
        self.norm = nn.GroupNorm(8, after)
        self.conv1 = nn.Conv2d(after, after, 3, padding=1)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.down(x))
        out: Tensor = x + self.conv2(F.silu(self.conv1(F.silu(x))))
        return out


class Judge(nn.Module):
    """One eye for figures, one for the scene around them."""

    def __init__(self) -> None:
        super().__init__()
        self.figure = Eye(FIGURE_SLOTS, width=24)
        self.scene = Eye(SCENE_SLOTS, width=16)

    def forward(self, pictures: Tensor, boxes: Tensor) -> dict[str, Tensor]:
        """Read (B, 3, H, W) pictures in [-1, 1] at the boxes (B, M, 4) of their characters.

        Returns logits: (B, M, values) for a figure's slots, (B, values) for a scene's.
        """
        crops = crop(pictures, boxes)
        figures = {k: v.unflatten(0, (-1, MAX_CHARACTERS)) for k, v in self.figure(crops).items()}
        whole = F.interpolate(pictures, CROP, mode="bilinear", antialias=True)
        scene: dict[str, Tensor] = self.scene(whole)
        return figures | scene


def crop(pictures: Tensor, boxes: Tensor) -> Tensor:
    """Cut boxes (B, M, 4), fractions x0 y0 x1 y1, out of (B, 3, H, W): (B·M, 3, 128, 96)."""
    per_picture = boxes.shape[1]
    x0, y0, x1, y1 = boxes.flatten(0, 1).unbind(-1)
    zero = torch.zeros_like(x0)
    across = torch.stack((x1 - x0, zero, x0 + x1 - 1), dim=-1)
    down = torch.stack((zero, y1 - y0, y0 + y1 - 1), dim=-1)
    theta = torch.stack((across, down), dim=1)
    grid = F.affine_grid(theta, [len(theta), 3, *CROP], align_corners=False)
    repeated = pictures.repeat_interleave(per_picture, dim=0)
    return F.grid_sample(repeated, grid, align_corners=False, padding_mode="border")


def targets(codes: Tensor) -> dict[str, Tensor]:
    """The truth in scene codes (B, CODE_LENGTH): (B, M) for figures, (B,) for scenes.

    -1 stands where there is no figure.
    """
    rows = codes[:, CODE_LENGTH - MAX_CHARACTERS * len(CHARACTER_SLOTS) :].long()
    rows = rows.unflatten(1, (MAX_CHARACTERS, len(CHARACTER_SLOTS)))
    truth = {slot: rows[..., i] for i, slot in enumerate(CHARACTER_SLOTS) if slot in FIGURE_SLOTS}
    scene = {"background": codes[:, 1].long(), "lighting": codes[:, 2].long()}
    # VALUES lists rim light as (yes, no); a scene's code is 1 for yes.
    return truth | scene | {"rim_light": 1 - codes[:, 3].long()}


def judge_loss(judge: Judge, pictures: Tensor, boxes: Tensor, codes: Tensor) -> Tensor:
    """Mean cross entropy over all slots that have a truth."""
    logits, truth = judge(pictures, boxes), targets(codes)
    losses = [
        F.cross_entropy(logits[slot].flatten(0, -2), truth[slot].flatten(), ignore_index=-1)
        for slot in logits
    ]
    return torch.stack(losses).mean()


@torch.inference_mode()
def hits(judge: Judge, pictures: Tensor, boxes: Tensor, codes: Tensor) -> Mapping[str, Tensor]:
    """Which slots the judge reads as the codes say: float (B, M) or (B,), NaN where nobody is."""
    truth = targets(codes)
    right = {
        slot: (logits.argmax(-1) == truth[slot]).float()
        for slot, logits in judge(pictures, boxes).items()
    }
    return {slot: right[slot].masked_fill(truth[slot] < 0, torch.nan) for slot in right}
