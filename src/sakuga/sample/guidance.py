"""Combinators over a velocity: classifier-free guidance, renorm, truncation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sakuga.sample.solvers import Velocity

VelocityPair = Callable[[Tensor, float], tuple[Tensor, Tensor]]


def guide(
    conditional: Tensor,
    unconditional: Tensor,
    scale: float,
    renorm: float = 0.0,
    rows: bool = False,
) -> Tensor:
    """Push a velocity away from the unconditional one (arXiv 2207.12598).

        v = v_uncond + scale · (v_cond - v_uncond)

    With `renorm` r > 0 each sample is scaled down to at most r · ‖v_cond‖, the norms
    over all of (C, h, w); never up (Lumina 2, arXiv 2503.21758, CFG-Renorm). With `rows` each
    row of latents has the norm that it has in v_cond, as diffusers' Lumina2Pipeline has it.
    All tensors (B, C, h, w).
    """
    guided = torch.lerp(unconditional, conditional, scale)
    if rows:
        guided = match_rows(guided, conditional)
    return cap_norm(guided, conditional, renorm) if renorm > 0 else guided


def cap_norm(v: Tensor, reference: Tensor, ratio: float) -> Tensor:
    """Scale each sample of (B, ...) down to at most `ratio` times its reference's norm."""
    axes = tuple(range(1, v.dim()))
    cap = ratio * torch.linalg.vector_norm(reference, dim=axes, keepdim=True)
    norm = torch.linalg.vector_norm(v, dim=axes, keepdim=True)
    return v * torch.where(norm > cap, cap / norm, 1.0)


def match_rows(v: Tensor, reference: Tensor) -> Tensor:
    """Scale each row of (B, C, h, w), along w, to its reference's norm; a row of zeros stays."""
    norm = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
    wanted = torch.linalg.vector_norm(reference, dim=-1, keepdim=True)
    return v * torch.where(norm > 0, wanted / norm, 1.0)


def guided(
    both: VelocityPair,
    scale: float,
    renorm: float = 0.0,
    truncation: float | None = None,
    conditional: Velocity | None = None,
    rows: bool = False,
) -> Velocity:
    """Make one velocity of a conditional and an unconditional one, `both(x, t)`.

    Guidance runs while t < `truncation`, strictly and in float32 (Lumina 2, CFG-Trunc), or
    always if None; from there on `conditional(x, t)` is evaluated alone, which saves half
    the work (without it, the first of both). `renorm`, `rows`: as `guide` takes them.
    """
    alone = conditional or (lambda x, t: both(x, t)[0])

    def velocity(x: Tensor, t: float) -> Tensor:
        # A time is a float32 to the model; as a float64 it could miss a limit that it meets.
        if truncation is not None and not torch.tensor(t, dtype=torch.float32) < truncation:
            return alone(x, t)
        return guide(*both(x, t), scale, renorm, rows)

    return velocity


def first(early: Velocity, until: float, late: Velocity) -> Velocity:
    """One velocity up to a time, and another from then on."""
    return lambda x, t: early(x, t) if t < until else late(x, t)
