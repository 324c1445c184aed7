"""The solvers: on a velocity in closed form, or on any other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from replay.case import TOLERANCE, Case, CaseError, Sheet, pick
from sakuga.sample.solvers import grid, solve

CLOSED_FORM = "v(x,t)[i] = A @ x[i] + b0 + b1*t[i] + b2*sin(3*t[i]); t: 0 noise -> 1 data"


def closed_form(case: Case, sheet: Sheet) -> None:
    """Replay each sampling of the closed-form velocity."""
    if case.about["velocity"] != CLOSED_FORM:
        raise CaseError(f"the velocity {case.about['velocity']!r} is not known")
    a, b0, b1, b2 = (case.input(name) for name in ("A", "b0", "b1", "b2"))

    def velocity(x: Tensor, t: float) -> Tensor:
        return x @ a.T + b0 + b1 * t + b2 * math.sin(3 * t)

    for call in case.about["calls"]:
        compare_run(sheet, velocity, case.input("z"), call, dpm_tolerance=5e-5)


def compare_run(
    sheet: Sheet,
    velocity: Callable[[Tensor, float], Tensor],
    z: Tensor,
    call: Mapping[str, Any],
    dpm_tolerance: float,
) -> None:
    """Run one sampling from `z` and compare its grid, evaluation times and states.

    dpm has its own tolerance: the original's first estimate divides by 1.7e-4, which
    magnifies its float32 rounding.
    """
    name = call["output"]
    solver, times = (ode_run if call["sampler"] == "sample_ode" else dpm_run)(call)
    evaluated: list[float] = []

    def watched(x: Tensor, t: float) -> Tensor:
        evaluated.append(t)
        return velocity(x, t)

    states = [z, *(step.x for step in solve(watched, z, times, solver))]
    exact = torch.tensor(times, dtype=torch.float64)
    if call["sampler"] == "sample_ode":
        tolerance = TOLERANCE
        sheet.compare(f"{name}/t_grid", exact)
    else:
        tolerance = dpm_tolerance
        sheet.compare(f"{name}/sigma_grid", 1 - exact)
    sheet.compare(f"{name}/eval_t", torch.tensor(evaluated, dtype=torch.float64))
    sheet.compare(f"{name}/trajectory", torch.stack(states), tolerance=tolerance)


def ode_run(call: Mapping[str, Any]) -> tuple[str, tuple[float, ...]]:
    """Our solver and grid for a call of `sample_ode`, whose `num_steps` counts points."""
    asked = pick(
        call,
        ("num_steps", "sampling_method", "time_shifting_factor"),
        {"sampler": "sample_ode", "output": ..., "atol": ..., "rtol": ...},
        "a call",
    )
    solver, steps = asked["sampling_method"], asked["num_steps"] - 1
    return solver, grid(steps, solver, shift=asked["time_shifting_factor"] or 1.0)


def dpm_run(call: Mapping[str, Any]) -> tuple[str, tuple[float, ...]]:
    """Our solver and grid for a call of `sample_dpm`."""
    fixed = {"sampler": "sample_dpm", "method": "multistep", "skip_type": "time_uniform_flow"}
    either = {"output": ..., "return_intermediate": ...}
    asked = pick(call, ("steps", "order", "flow_shift"), fixed | either, "a call")
    solver = f"dpm{asked['order']}"
    return solver, grid(asked["steps"], solver, shift=asked["flow_shift"])
