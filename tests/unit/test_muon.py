"""Muon: directions are orthogonal, steps descend."""

import torch
from torch import nn

from sakuga.chibi.muon import Muon, orthogonalise


def test_orthogonalise_pushes_all_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((3, 8, 20), (2, 20, 8), (1, 12, 12)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)).float())
        assert values.min() > 0.3
        assert values.max() < 1.3


def test_it_fits_a_linear_map_and_a_kernel() -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 9, 4))
    pupil = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 9, 4))
    optimiser = Muon([p for p in pupil.parameters() if p.ndim > 1], lr=0.02)
    x = torch.randn(64, 3, 5, 5)
    target = teacher(x).detach()
    first = (pupil(x) - target).square().mean().item()
    for _ in range(60):
        loss = (pupil(x) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.3 * first
