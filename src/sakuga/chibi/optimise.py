"""One step of training: who optimises which parameters, and the average that is kept of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sakuga.chibi.muon import Muon


def make_optimisers(
    module: nn.Module, skip: tuple[str, ...], lr: float
) -> list[torch.optim.Optimizer]:
    """Muon for hidden matrices and kernels, AdamW for all that is thin, or named in `skip`."""
    hidden: list[Tensor] = []
    rest: list[Tensor] = []
    for name, p in module.named_parameters():
        thin = p.ndim < 2 or any(part in name for part in skip)
        (rest if thin else hidden).append(p)
    return [
        Muon(hidden, lr=lr, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=lr / 4, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def advance(
    module: nn.Module,
    optimisers: list[torch.optim.Optimizer],
    rate: float,
    average: nn.Module,
    decay: float,
) -> None:
    """One step along clipped gradients, and one of the average towards the module."""
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    take_step(optimisers, rate)
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - decay)


def take_step(optimisers: list[torch.optim.Optimizer], rate: float) -> None:
    """One step of every optimiser at `rate` times its own learning rate."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * rate
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)


def half_precision(device: torch.device) -> torch.autocast:
    """Compute in bfloat16 on a card, in float32 on the CPU."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
