"""The engine on a card within a budget: the same pixels, never more than the limit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from sakuga.engine import Engine
from sakuga.memory.costs import STAGES, Costs
from sakuga.memory.plan import Budget, rungs, smallest_limit
from sakuga.request import Finished, Request, Result, Warned

ASK = Request("1girl, blue_hair", seed=5, steps=2, width=128, height=128)
MIB = 2**20


def opened(model: str | Path, vram: str, dtype: str = "float32", **words) -> Engine:
    budget = Budget(vram=vram, **words)
    return Engine.open(str(model), device="cuda", dtype=dtype, budget=budget)


def drawn(engine: Engine, request: Request = ASK) -> Result:
    (result,) = [e.result for e in engine.generate(request) if isinstance(e, Finished)]
    return result


def limits(engine: Engine) -> list[int]:
    """Every limit at which a plan changes."""
    request = engine.resolve(ASK)
    work = engine.plan(request, engine.read(request)).work
    costs = Costs(engine.stages.inventory, work, engine.stages.card, engine.options.dtype, None)
    front = {stage: rungs(stage, costs, engine.options) for stage in STAGES}
    least = max(plans[-1].peak_bytes for plans in front.values())
    peaks = {plan.peak_bytes for plans in front.values() for plan in plans}
    return sorted(smallest_limit(peak) for peak in peaks if peak >= least)


def test_every_feasible_budget_draws_the_same_picture_within_it() -> None:
    # torch convolves float32 with the 10 bits of TF32 unless told not to, and those show
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        every_feasible_budget()


def every_feasible_budget() -> None:
    free = drawn(opened("chibi", "auto"))
    steps = limits(opened("chibi", "8GB"))
    for limit in steps[:: max(1, len(steps) // 8)]:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        result = drawn(opened("chibi", str(limit)))
        assert torch.cuda.max_memory_reserved() <= limit, result.receipt.notes
        pairs = zip(free.picture.rgb, result.picture.rgb, strict=True)
        apart = [abs(a - b) for a, b in pairs]
        assert max(apart) <= 1
        assert sum(map(bool, apart)) <= len(apart) // 1000


def test_memory_that_shrinks_is_met_rung_by_rung() -> None:
    engine = opened("chibi", "8GB")
    ask = replace(ASK, number=4, width=256, height=256)
    request = engine.resolve(ask)
    peak = engine.plan(request, engine.read(request)).plan.peak_bytes
    expected = [e.result for e in engine.generate(ask) if isinstance(e, Finished)]
    # Another program takes what the plan counts on: the allocator may reserve less than it says.
    make, planned = engine.plan, engine.home.limit

    def plan(request, reading):
        engine.home.limit = planned
        drawing = make(request, reading)
        engine.home.limit = peak - 40 * MIB
        return drawing

    engine.plan = plan
    torch.cuda.empty_cache()
    events = list(engine.generate(ask))
    warned = [event for event in events if isinstance(event, Warned)]
    assert {event.code for event in warned} == {"out_of_memory"}
    drawn = [event.result for event in events if isinstance(event, Finished)]
    assert drawn[0].receipt.notes
    for one, other in zip(expected, drawn, strict=True):
        pairs = zip(one.picture.rgb, other.picture.rgb, strict=True)
        assert max(abs(a - b) for a, b in pairs) <= 2


def test_kept_networks_stay_and_draw_the_same() -> None:
    engine = opened("chibi", "8GB", keep_resident=True)
    first = drawn(engine)
    assert first.receipt.plan.kept
    held = torch.cuda.memory_allocated()
    assert held > 30 * MIB
    second = drawn(engine)
    assert torch.cuda.memory_allocated() == held
    assert first.picture == second.picture == drawn(opened("chibi", "8GB")).picture
    engine.home.release()
    assert torch.cuda.memory_allocated() < held
