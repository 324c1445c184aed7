"""Muon: momentum whose direction is made orthogonal, for the matrices of a network.

K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); the step is
scaled to AdamW's root mean square as in J. Liu et al., "Muon is scalable for LLM training"
(arXiv 2502.16982, eq. 4), so that one learning rate serves both. For matrices it takes the steps
of `torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"`; unlike it, it takes convolution
kernels too, and orthogonalises all matrices of one shape in a single batch, so that a card gets
few large operations instead of many small ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Descend along orthogonalised Nesterov momentum; every parameter needs two axes or more."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Update every parameter that has a gradient; `closure` is not supported."""
        assert closure is None
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[p.shape[0], p[0].numel()].append((p, p.grad))
            for shape, pairs in by_shape.items():
                params, grads = zip(*pairs, strict=True)
                self._step_shape(shape, params, grads, group)

    def _step_shape(
        self,
        shape: tuple[int, int],
        params: tuple[Tensor, ...],
        grads: tuple[Tensor, ...],
        group: dict[str, Any],
    ) -> None:
        for p in params:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        momenta = [self.state[p]["momentum"] for p in params]
        beta, lr = group["momentum"], group["lr"]
        torch._foreach_lerp_(momenta, grads, 1 - beta)
        ahead = torch._foreach_lerp(grads, momenta, beta)
        directions = orthogonalise(torch.stack([g.reshape(shape) for g in ahead]))
        torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        updates = [d.view_as(p).to(p.dtype) for d, p in zip(directions, params, strict=True)]
        torch._foreach_add_(params, updates, alpha=-lr * 0.2 * max(shape) ** 0.5)


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Push the singular values of `matrices` (P, R, C) near one, in bfloat16.

    Newton-Schulz with the quintic coefficients of Jordan et al.: they trade exactness, values
    end between about 0.7 and 1.2, for speed.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
