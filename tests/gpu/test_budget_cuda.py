"""The engine on a card within a budget: the same pixels, never more than the limit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from budgets import apart, limits, results
from engines import open_engine
from sakuga.api.engine_spec import Budget
from sakuga.api.events import Result, Warned
from sakuga.api.request import Request
from sakuga.engine.engine import Engine

ASK = Request("1girl, blue_hair", seed=5, steps=2, width=128, height=128)
MIB = 2**20


def opened(model: str | Path, vram: str, dtype: str = "float32", **words) -> Engine:
    budget = Budget(vram=vram, **words)
    return open_engine(model, device="cuda", dtype=dtype, budget=budget)


def drawn(engine: Engine, request: Request = ASK) -> Result:
    (result,) = results(engine.generate(request))
    return result


def test_every_feasible_budget_draws_the_same_picture_within_it() -> None:
    # torch convolves float32 with the 10 bits of TF32 unless told not to, and those show
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        every_feasible_budget()


def every_feasible_budget() -> None:
    free = drawn(opened("chibi", "auto"))
    steps = limits(opened("chibi", "8GB"), ASK)[::-1]
    for limit in steps[:: max(1, len(steps) // 8)]:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        result = drawn(opened("chibi", str(limit)))
        assert torch.cuda.max_memory_reserved() <= limit, result.receipt.notes
        most, share = apart(free, result)
        assert most <= 1
        assert share <= 0.001


def test_memory_that_shrinks_is_met_rung_by_rung() -> None:
    engine = opened("chibi", "8GB")
    ask = replace(ASK, number=4, width=256, height=256)
    request = engine.resolve(ask)
    peak = engine.plan(request).plan.peak_bytes
    expected = results(engine.generate(ask))
    # Another program takes what the plan counts on: the allocator may reserve less than it says.
    make = engine.plan

    def plan(request):
        run = make(request)
        engine.device.limit = peak - 40 * MIB
        return run

    engine.plan = plan
    torch.cuda.empty_cache()
    events = list(engine.generate(ask))
    warned = [event for event in events if isinstance(event, Warned)]
    assert {event.code for event in warned} == {"out_of_memory"}
    shrunk = results(events)
    assert shrunk[0].receipt.notes
    for one, other in zip(expected, shrunk, strict=True):
        assert apart(one, other)[0] <= 2


def test_kept_networks_stay_and_draw_the_same() -> None:
    engine = opened("chibi", "8GB", keep_resident=True)
    first = drawn(engine)
    assert first.receipt.plan.kept
    held = torch.cuda.memory_allocated()
    assert held > 30 * MIB
    second = drawn(engine)
    assert torch.cuda.memory_allocated() == held
    assert first.picture == second.picture == drawn(opened("chibi", "8GB")).picture
    engine.device.kept.release()
    assert torch.cuda.memory_allocated() < held
