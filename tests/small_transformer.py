"""A small transformer with the real one's ratios, for tests on a card."""

from __future__ import annotations

import torch

from sakuga.model.nextdit import NextDiT
from sakuga.model.spec import NextDiTSpec

CARD = torch.device("cuda:0")
SPEC = NextDiTSpec(
    dim=192, n_layers=6, n_refiner_layers=2, n_heads=4, n_kv_heads=2, axes_dims=(16, 16, 16),
    cap_feat_dim=20, clip_text_dim=12, multiple_of=16, in_channels=4,
)  # fmt: skip


def random_transformer() -> NextDiT:
    """One with gates and a last layer that are not zero, in float32 on the host."""
    torch.manual_seed(0)
    made = NextDiT(SPEC).eval().requires_grad_(False)
    for parameter in made.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.1)
    return made
