import itertools
import math

import pytest
import torch

from sakuga.errors import RequestError
from sakuga.sample.solvers import SOLVERS, dpm_update, evaluation_times, grid, res_update, solve

DTYPE = torch.float64
MATRIX = torch.tensor([[-1.0, 0.7], [-0.4, 0.3]], dtype=DTYPE)
START = torch.tensor([[1.0, -0.5], [0.2, 2.0]], dtype=DTYPE)
FLOW_NAMES = ["euler", "midpoint", "heun2", "heun3", "rk4", "dpm1", "dpm2", "dpm3", "res_multistep"]


def smooth(x, t):
    return x @ MATRIX.T + math.sin(3 * t)


def last(steps):
    *_, end = steps
    return end


def exact(x, start, end):
    times = [start + (end - start) * i / 400 for i in range(401)]
    return last(solve(smooth, x, times, "rk4")).x


def error(solver, steps):
    """Of the way from t = 0.2 to 0.8, where no log-SNR is infinite."""
    times = [0.2 + 0.6 * i / steps for i in range(steps + 1)]
    return (last(solve(smooth, START, times, solver)).x - exact(START, 0.2, 0.8)).norm().item()


def test_the_table_is_complete_and_true():
    assert list(SOLVERS) == FLOW_NAMES
    for name, solver in SOLVERS.items():
        assert solver.name == name
        assert solver.source
        calls = []
        times = grid(6, name)
        list(solve(lambda x, t, calls=calls: calls.append(t) or smooth(x, t), START, times, name))
        assert len(calls) == 6 * solver.evaluations
        assert min(calls) >= 0
        assert max(calls) <= 1


@pytest.mark.parametrize("name", FLOW_NAMES)
def test_where_a_solver_looks_is_known_beforehand(name):
    asked, times = [], grid(6, name)
    list(solve(lambda x, t: asked.append(t) or smooth(x, t), START, times, name))
    assert evaluation_times(times, name) == tuple(dict.fromkeys(asked))


@pytest.mark.parametrize("name", FLOW_NAMES)
def test_solvers_converge_with_their_order(name):
    # dpm3 as its authors coded it takes half the second derivative: order 2 in effect.
    order = 2 if name == "dpm3" else SOLVERS[name].order
    assert math.log2(error(name, 40) / error(name, 80)) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize(
    ("update", "estimates", "order"),
    [
        (dpm_update, 1, 1),
        (dpm_update, 2, 2),
        (dpm_update, 3, 2),
        (res_update, 1, 1),
        (res_update, 2, 2),
    ],
)
def test_one_step_from_exact_estimates_errs_with_one_order_more(update, estimates, order):
    def one_step(h):
        times = [0.5 - i * h for i in range(estimates)]
        states = [exact(START, 0.2, t) for t in times]
        known = [(t, x + (1 - t) * smooth(x, t)) for t, x in zip(times, states, strict=True)]
        return (update(states[0], known, 0.5 + h) - exact(states[0], 0.5, 0.5 + h)).norm()

    assert math.log2(one_step(0.01) / one_step(0.005)) == pytest.approx(order + 1, abs=0.1)


@pytest.mark.parametrize("name", FLOW_NAMES)
@pytest.mark.parametrize("schedule", ["shifted", "linear_quadratic"])
def test_a_straight_path_is_followed_exactly(name, schedule):
    picture, times = torch.tensor([[3.0, 4.0]], dtype=DTYPE), grid(5, name, schedule)
    steps = list(solve(lambda x, t: picture - START, START, times, name))
    # dpm starts a little after the noise, as if it were there.
    missed = times[0] * (picture - START)
    for step in steps:
        torch.testing.assert_close(step.x0, picture - missed)
    torch.testing.assert_close(steps[-1].x, picture - missed)


def test_steps_tell_where_they_are_and_wait_to_be_asked():
    calls = []
    times = grid(4, shift=1.0)
    steps = solve(lambda x, t: calls.append(t) or smooth(x, t), START, times, "euler")
    assert calls == []
    first = next(steps)
    assert calls == [0.0]
    assert (first.index, first.of, first.t) == (1, 4, 0.25)
    torch.testing.assert_close(first.x, START + 0.25 * smooth(START, 0.0))
    torch.testing.assert_close(first.x0, START + smooth(START, 0.0))
    assert [step.index for step in steps] == [2, 3, 4]


def test_the_latest_estimate_is_taken_where_the_model_was_asked_last():
    step = next(solve(smooth, START, (0.0, 0.5, 1.0), "midpoint"))
    middle = START + 0.25 * smooth(START, 0.0)
    torch.testing.assert_close(step.x0, middle + 0.75 * smooth(middle, 0.25))


@pytest.mark.parametrize(("name", "steps"), [("dpm2", 1), ("dpm3", 2), ("euler", 0)])
def test_too_few_steps_are_refused_before_any_work(name, steps):
    with pytest.raises(RequestError, match=f"{name} takes at least"):
        solve(smooth, START, [i / max(steps, 1) for i in range(steps + 1)], name)
    with pytest.raises(RequestError):
        grid(steps, name)


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(RequestError, match="Did you mean heun"):
        solve(smooth, START, (0.0, 1.0), "heun")
    with pytest.raises(RequestError, match="linear_quadratic"):
        grid(4, schedule="cosine")


@pytest.mark.parametrize("shift", [0.0, -1.0, math.nan, math.inf])
def test_a_shift_that_is_none_is_refused(shift):
    with pytest.raises(RequestError, match="shift"):
        grid(4, shift=shift)


@pytest.mark.parametrize("name", FLOW_NAMES)
@pytest.mark.parametrize("schedule", ["shifted", "linear_quadratic"])
@pytest.mark.parametrize("steps", [3, 4, 17, 200])
def test_grids_rise_to_exactly_one(name, schedule, steps):
    times = grid(steps, name, schedule)
    assert len(times) == steps + 1
    assert all(a < b for a, b in itertools.pairwise(times))
    assert times[-1] == 1.0
    assert 0 <= times[0] < 0.001


def test_the_shift_dwells_near_the_noise():
    assert grid(4, shift=1.0) == pytest.approx((0.0, 0.25, 0.5, 0.75, 1.0))
    assert grid(2, shift=6.0)[1] == pytest.approx(1 / 7)
    assert grid(2, "dpm2", shift=6.0)[0] == pytest.approx(0.001 / 5.995)


@pytest.mark.parametrize(("shift", "steps"), [(6.0, 9), (6.0, 18), (1.0, 14), (3.0, 24)])
def test_a_shifted_grid_is_the_originals_to_the_last_bit(shift, steps):
    # At shift 6 one time of 9 steps is a quarter; only in float32 is it not below it.
    even = torch.linspace(0, 1, steps + 1)
    assert grid(steps, shift=shift) == tuple((even / (even + shift - shift * even)).tolist())
    assert grid(9, shift=6.0)[6] >= 0.25


def test_linear_quadratic_walks_then_runs():
    times = grid(50, schedule="linear_quadratic")
    # Its first half are the first 25 steps of a linear grid of 1000 (Movie Gen, section 3.4.2).
    assert times[:26] == pytest.approx([i / 1000 for i in range(26)])
    rises = [b - a for a, b in itertools.pairwise(times)][25:]
    bends = [b - a for a, b in itertools.pairwise(rises)]
    assert bends == pytest.approx([bends[0]] * len(bends))
    assert bends[0] > 0
