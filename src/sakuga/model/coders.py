"""The encoder and decoder of the autoencoder, by the key names of diffusers.

Convolutional ResNet blocks at 1, 1/2, 1/4 ... of the size with one attention block at
the smallest (Latent Diffusion, arXiv 2112.10752, appendix).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sakuga.model.spec import VAESpec

NORM_EPS = 1e-6
MOST_SCORES = 2**26


class ResnetBlock(nn.Module):
    """Two convolutions around a shortcut; a 1x1 one where the width changes."""

    def __init__(self, width_in: int, width: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width_in, eps=NORM_EPS)
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, width, eps=NORM_EPS)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(width_in, width, 1) if width_in != width else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, h, w) to (B, width, h, w)."""
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        out: Tensor = y + (x if self.conv_shortcut is None else self.conv_shortcut(x))
        return out


class AttentionBlock(nn.Module):
    """One head over all places of the picture, some queries at a time.

    Where no fused kernel takes a head this wide, a card holds the scores; of 2048 x 2048
    pixels they would be 65,536 by 65,536.
    """

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, width, eps=NORM_EPS)
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape."""
        tokens = self.group_norm(x).flatten(2).transpose(1, 2).unsqueeze(1)  # (B, 1, h·w, width)
        queries, keys, values = self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)
        mixed = [
            F.scaled_dot_product_attention(some, keys, values)
            for some in queries.split(_at_once(queries, keys, values), dim=2)
        ]
        mixed = self.to_out[0](torch.cat(mixed, dim=2)).squeeze(1).transpose(1, 2)
        out: Tensor = x + mixed.unflatten(2, x.shape[2:])
        return out


def _at_once(queries: Tensor, keys: Tensor, values: Tensor) -> int:
    """How many queries: all where a kernel keeps no scores, which is quickest with many."""
    params = torch.backends.cuda.SDPAParams(queries, keys, values, None, 0.0, False, False)
    if queries.is_cuda and torch.backends.cuda.can_use_efficient_attention(params):
        return queries.shape[2]
    return max(1, MOST_SCORES // keys.shape[2])


class MidBlock(nn.Module):
    """The smallest scale: ResNet, attention, ResNet."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock(width, width, groups) for _ in range(2))
        self.attentions = nn.ModuleList([AttentionBlock(width, groups)])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape."""
        out: Tensor = self.resnets[1](self.attentions[0](self.resnets[0](x)))
        return out


class Downsample(nn.Module):
    """Halve the size; the odd row and column of padding go right and below."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to (B, width, h/2, w/2)."""
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return out


class Upsample(nn.Module):
    """Double the size by repeating pixels, then smooth."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to (B, width, 2h, 2w)."""
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class DownBlock(nn.Module):
    """The ResNets of one scale on the way down, and the step to the next."""

    def __init__(self, widths: tuple[int, int], depth: int, groups: int, last: bool) -> None:
        super().__init__()
        steps = pairwise((widths[0], *[widths[1]] * depth))
        self.resnets = nn.ModuleList(ResnetBlock(a, b, groups) for a, b in steps)
        self.downsamplers = nn.ModuleList([] if last else [Downsample(widths[1])])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, widths[0], h, w) to (B, widths[1], h/2, w/2), or (h, w) if last."""
        for part in (*self.resnets, *self.downsamplers):
            x = part(x)
        return x


class UpBlock(nn.Module):
    """The ResNets of one scale on the way up, and the step to the next."""

    def __init__(self, widths: tuple[int, int], depth: int, groups: int, last: bool) -> None:
        super().__init__()
        steps = pairwise((widths[0], *[widths[1]] * depth))
        self.resnets = nn.ModuleList(ResnetBlock(a, b, groups) for a, b in steps)
        self.upsamplers = nn.ModuleList([] if last else [Upsample(widths[1])])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, widths[0], h, w) to (B, widths[1], 2h, 2w), or (h, w) if last."""
        for part in (*self.resnets, *self.upsamplers):
            x = part(x)
        return x


class Encoder(nn.Module):
    """Pixels to the moments of latents."""

    def __init__(self, spec: VAESpec) -> None:
        super().__init__()
        widths, groups = spec.block_out_channels, spec.norm_num_groups
        self.conv_in = nn.Conv2d(spec.in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            DownBlock(step, spec.layers_per_block, groups, last=place == len(widths))
            for place, step in enumerate(pairwise((widths[0], *widths)), start=1)
        )
        self.mid_block = MidBlock(widths[-1], groups)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=NORM_EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * spec.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, 2·C, h, w): means, then log-variances."""
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))
        return out


class Decoder(nn.Module):
    """Latents to pixels."""

    def __init__(self, spec: VAESpec) -> None:
        super().__init__()
        widths, groups = spec.block_out_channels[::-1], spec.norm_num_groups
        self.conv_in = nn.Conv2d(spec.latent_channels, widths[0], 3, padding=1)
        self.mid_block = MidBlock(widths[0], groups)
        self.up_blocks = nn.ModuleList(
            UpBlock(step, spec.layers_per_block + 1, groups, last=place == len(widths))
            for place, step in enumerate(pairwise((widths[0], *widths)), start=1)
        )
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=NORM_EPS)
        self.conv_out = nn.Conv2d(widths[-1], spec.in_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, 3, H, W)."""
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(x)))
        return out
