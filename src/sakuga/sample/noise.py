"""The noise that a seed stands for, and the way from one noise to another."""

from __future__ import annotations

import torch
from torch import Tensor


def seeded(shape: tuple[int, ...], seed: int) -> Tensor:
    """Float32 noise from a generator on the CPU, so that every device gets the same bits."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def turned(noise: Tensor, other: Tensor, share: float) -> Tensor:
    """Noise turned by a share of the angle to another: 0 is itself, 1 the other, to the bit.

    Along the straight line between them noise would grow weaker; along the arc (Shoemake 1985,
    slerp) it stays noise.
    """
    if share in (0, 1):
        return other if share else noise
    first, second = noise.double().flatten(), other.double().flatten()
    cosine = first @ second / (first.norm() * second.norm())
    angle = torch.acos(cosine.clamp(-1, 1))
    if angle.sin() < 1e-6:  # one noise, or its mirror: there is no arc
        return noise
    parts = torch.sin((1 - share) * angle), torch.sin(share * angle)
    found = (parts[0] * noise.double() + parts[1] * other.double()) / torch.sin(angle)
    return found.float()
