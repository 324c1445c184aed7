"""From noise to picture: time grids, and solvers of dx/dt = v(x, t) over them.

Time runs from 0 (noise) to 1 (picture), x_t = (1 - t)·noise + t·picture, so every
velocity also estimates the picture: x0 = x + (1 - t)·v. A solver is a row of `SOLVERS`:
explicit Runge-Kutta methods are their Butcher tableau, multistep methods their update.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor

from sakuga.errors import RequestError

Velocity = Callable[[Tensor, float], Tensor]
Estimate = tuple[float, Tensor]  # a time, and the picture as it was estimated there
Update = Callable[[Tensor, Sequence[Estimate], float], Tensor]

LINEAR_SPAN = 0.025  # share of the time that linear_quadratic walks in equal steps


@dataclass(frozen=True, slots=True)
class Step:
    """A finished step: `index` of `of`, the state `x` at time `t`, the picture expected."""

    index: int
    of: int
    t: float
    x: Tensor
    x0: Tensor


@dataclass(frozen=True, slots=True)
class Tableau:
    """An explicit Runge-Kutta method: stage times, stage weights, final weights."""

    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Solver:
    """How one step is taken.

    `order` by name, and how many estimates a multistep method keeps; `evaluations` of the
    model in each step; `start` of its shifted grid, before the shift; `source` of the
    formula.
    """

    name: str
    order: int
    evaluations: int
    method: Tableau | Update
    source: str
    start: float = 0.0
    min_steps: int = 1

    @property
    def held(self) -> int:
        """The most latents that are alive while the velocity is asked for.

        The noise, the state, and the picture of the step before; older estimates; or within
        a step, its own state and picture, and the slopes so far.
        """
        if isinstance(self.method, Tableau):
            return 4 if self.evaluations == 1 else 5 + self.evaluations
        return 3 + self.order


def solve(velocity: Velocity, x: Tensor, times: Sequence[float], solver: str) -> Iterator[Step]:
    """Integrate `velocity(x, t)` from `x` at `times[0]` to `times[-1]`, a Step at a time.

    `times`: increasing, in [0, 1], as `grid` makes them. A consumer may stop at any step.
    Raises RequestError at once for an unknown solver or too few steps.
    """
    chosen = find_solver(solver, steps=len(times) - 1)
    if isinstance(chosen.method, Tableau):
        return _runge_kutta(velocity, x, times, chosen.method)
    return _multistep(velocity, x, times, chosen.method, chosen.order)


def evaluation_times(times: Sequence[float], solver: str) -> tuple[float, ...]:
    """The distinct times at which `solver` asks for the velocity on its way along `times`.

    In the order of asking, each to the last bit. Found by walking the grid with a velocity
    of zero, because where a solver looks does not depend on what it sees. Raises as `solve`.
    """
    seen: dict[float, None] = {}

    def still(x: Tensor, t: float) -> Tensor:
        seen[t] = None
        return x

    for _ in solve(still, torch.zeros(()), times, solver):
        pass
    return tuple(seen)


def find_solver(name: str, steps: int) -> Solver:
    """Give the solver called `name`, or a RequestError; so too if it needs more steps."""
    if name not in SOLVERS:
        near = get_close_matches(name, SOLVERS, n=1)
        fix = f"Did you mean {near[0]}?" if near else f"Choose from {', '.join(SOLVERS)}."
        raise RequestError("a solver is chosen by name", repr(name), fix)
    solver = SOLVERS[name]
    if steps < solver.min_steps:
        raise RequestError(
            f"{name} takes at least {solver.min_steps} steps",
            str(steps),
            "Ask for more steps or a lower order.",
        )
    return solver


def grid(
    steps: int, solver: str = "euler", schedule: str = "shifted", shift: float = 6.0
) -> tuple[float, ...]:
    """Times of `steps` steps: steps + 1 of them, the last exactly 1.

    "shifted": equal steps u, then t = u / (u + s - s·u), which dwells near the noise for
    s > 1 (SD3, arXiv 2403.03206, eq. 23); dpm starts at u = 0.001 instead of 0, where its
    log-SNR is infinite. "linear_quadratic" ignores the shift: the first half of the steps
    walk to t = 0.025 evenly, the second half faster and faster (Movie Gen, arXiv
    2410.13720, section 3.4.2). Raises RequestError for what has no grid.
    """
    start = find_solver(solver, steps).start
    if schedule == "linear_quadratic":
        return _linear_quadratic(steps)
    if schedule != "shifted":
        raise RequestError(
            "a schedule is chosen by name",
            repr(schedule),
            "Choose from shifted, linear_quadratic.",
        )
    if not 0 < shift < math.inf:
        raise RequestError("shift must be above 0", str(shift), "1 leaves the times as they are.")
    # In the precision of the original: where a time meets a truncation, the last bit decides
    # which velocity is taken. dpm keeps float64, for its logarithms magnify rounding.
    dtype = torch.float64 if start else torch.float32
    even = torch.linspace(start, 1, steps + 1, dtype=dtype)[:-1]
    return (*(even / (even + shift - shift * even)).tolist(), 1.0)


def _linear_quadratic(steps: int) -> tuple[float, ...]:
    linear = steps // 2
    if linear == 0:
        return (0.0, 1.0)
    slope, rest = LINEAR_SPAN / linear, steps - linear
    # The parabola leaves the line with its slope and reaches 1 with the last step.
    bend = (1 - LINEAR_SPAN - slope * rest) / rest**2
    curve = (LINEAR_SPAN + slope * j + bend * j * j for j in range(rest))
    return (*(slope * i for i in range(linear)), *curve, 1.0)


def _runge_kutta(
    velocity: Velocity, x: Tensor, times: Sequence[float], tableau: Tableau
) -> Iterator[Step]:
    for index in range(1, len(times)):
        t, dt = times[index - 1], times[index] - times[index - 1]
        slopes: list[Tensor] = []
        for c, a in zip(tableau.c, tableau.a, strict=True):
            # The end of a step is a point of the grid, to the last bit.
            at = times[index] if c == 1.0 else t + c * dt
            state = _combine(x, dt, a, slopes)
            slopes.append(velocity(state, at))
            x0 = state + (1 - at) * slopes[-1]
        x = _combine(x, dt, tableau.b, slopes)
        yield Step(index, len(times) - 1, times[index], x, x0)


def _combine(x: Tensor, dt: float, weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    for weight, slope in zip(weights, slopes, strict=True):
        if weight:
            x = x + (dt * weight) * slope
    return x


def _multistep(
    velocity: Velocity, x: Tensor, times: Sequence[float], update: Update, order: int
) -> Iterator[Step]:
    steps = len(times) - 1
    estimates: list[Estimate] = []  # latest first
    for index in range(1, steps + 1):
        t = times[index - 1]
        estimates = [(t, x + (1 - t) * velocity(x, t)), *estimates]
        # No step looks further back than there are steps to come: the last, across an
        # infinite log-SNR, takes the estimate itself.
        estimates = estimates[: min(order, steps + 1 - index)]
        x = update(x, estimates, times[index])
        yield Step(index, steps, times[index], x, estimates[0][1])


def dpm_update(x: Tensor, estimates: Sequence[Estimate], t_next: float) -> Tensor:
    """Take a DPM-Solver++ multistep step (arXiv 2211.01095) of order `len(estimates)`.

    The data-prediction form with alpha = t, sigma = 1 - t, lambda = log(alpha / sigma);
    orders 2 and 3 as in the authors' code, where the derivatives of the estimate are
    divided differences in lambda. The third takes the second divided difference for the
    second derivative, which is twice that; so it errs less than the second order but
    converges no faster. Kept, because pictures drawn elsewhere were drawn with it.
    """
    t, pictures = estimates[0][0], [picture for _, picture in estimates]
    lambdas = [_log_snr(time) for time, _ in estimates]
    h = _log_snr(t_next) - lambdas[0]
    phi1 = math.expm1(-h)
    x = (1 - t_next) / (1 - t) * x - t_next * phi1 * pictures[0]
    if len(pictures) == 1:
        return x
    r0 = (lambdas[0] - lambdas[1]) / h
    d1 = (pictures[0] - pictures[1]) / r0
    if len(pictures) == 2:
        return x - 0.5 * t_next * phi1 * d1
    r1 = (lambdas[1] - lambdas[2]) / h
    older = (pictures[1] - pictures[2]) / r1
    d2 = (d1 - older) / (r0 + r1)
    phi2 = phi1 / h + 1
    phi3 = phi2 / h - 0.5
    return x + t_next * phi2 * (d1 + r0 * d2) - t_next * phi3 * d2


def res_update(x: Tensor, estimates: Sequence[Estimate], t_next: float) -> Tensor:
    """Take a RES multistep step (arXiv 2308.02157, section 4) of order `len(estimates)`.

    An exponential integrator in -log(sigma), sigma = 1 - t, with the estimate taken as
    linear through its last two values. phi1 and phi2 as in the paper, at -h.
    """
    (t, latest), *older = estimates
    if t_next == 1.0:
        return latest
    h = math.log((1 - t) / (1 - t_next))
    phi1 = -math.expm1(-h) / h
    x = math.exp(-h) * x + h * phi1 * latest
    if not older:
        return x
    [(t_before, before)] = older
    c2 = math.log((1 - t) / (1 - t_before)) / h  # where the older estimate lies: below 0
    phi2 = (1 - phi1) / h
    return x + h * phi2 / c2 * (before - latest)


def _log_snr(t: float) -> float:
    if t in (0.0, 1.0):
        return math.copysign(math.inf, t - 0.5)
    return math.log(t / (1 - t))


def _runge_kutta_solver(name: str, order: int, tableau: Tableau, source: str) -> Solver:
    return Solver(name, order, len(tableau.b), tableau, source)


SOLVERS: dict[str, Solver] = {
    solver.name: solver
    for solver in (
        _runge_kutta_solver("euler", 1, Tableau((0.0,), ((),), (1.0,)), "Euler 1768"),
        _runge_kutta_solver(
            "midpoint",
            2,
            Tableau((0.0, 1 / 2), ((), (1 / 2,)), (0.0, 1.0)),
            "Runge 1895",
        ),
        _runge_kutta_solver(
            "heun2",
            2,
            Tableau((0.0, 1.0), ((), (1.0,)), (1 / 2, 1 / 2)),
            "Heun 1900, the trapezoid form; torchdiffeq's heun2",
        ),
        _runge_kutta_solver(
            "heun3",
            3,
            Tableau((0.0, 1 / 3, 2 / 3), ((), (1 / 3,), (0.0, 2 / 3)), (1 / 4, 0.0, 3 / 4)),
            "Heun 1900, third order; torchdiffeq's heun3",
        ),
        _runge_kutta_solver(
            "rk4",
            4,
            Tableau(
                (0.0, 1 / 3, 2 / 3, 1.0),
                ((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)),
                (1 / 8, 3 / 8, 3 / 8, 1 / 8),
            ),
            "Kutta 1901, the 3/8 rule; torchdiffeq's rk4",
        ),
        *(
            Solver(
                f"dpm{order}",
                order,
                1,
                dpm_update,
                "DPM-Solver++ multistep, arXiv 2211.01095",
                start=0.001,
                min_steps=order,
            )
            for order in (1, 2, 3)
        ),
        Solver("res_multistep", 2, 1, res_update, "RES multistep, arXiv 2308.02157"),
    )
}
