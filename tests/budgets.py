"""Drawing within budgets, in tests of the simulated card and of a real one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from sakuga.api.events import Event, Finished, Result
from sakuga.api.receipt import StagePlan
from sakuga.api.request import Request
from sakuga.engine.engine import Engine
from sakuga.memory.plan import Priced, smallest_limit
from sakuga.memory.stages import stages_of


def results(events: Iterable[Event]) -> list[Result]:
    """The pictures of a drawing."""
    return [event.result for event in events if isinstance(event, Finished)]


def ladders(engine: Engine, request: Request) -> dict[str, tuple[StagePlan, ...]]:
    """All rungs of every stage."""
    run = engine.plan(engine.resolve(request))
    options = replace(run.options, pinned=None)
    return {
        stage.name: Priced.of(stage, run.inventory, run.work, engine.runner.card, options).rungs
        for stage in stages_of(run.inventory, run.work)
    }


def limits(engine: Engine, request: Request) -> list[int]:
    """Every limit at which the plan changes, from the largest to the smallest that works."""
    front = ladders(engine, request)
    least = max(plans[-1].reserved_bytes for plans in front.values())
    needs = {plan.reserved_bytes for plans in front.values() for plan in plans}
    return sorted({smallest_limit(need) for need in needs if need >= least}, reverse=True)


def apart(one: Result, other: Result) -> tuple[int, float]:
    """The largest difference of two pictures, 0-255, and the share of values that differ."""
    first, second = (np.frombuffer(each.picture.rgb, np.uint8).astype(int) for each in (one, other))
    found = np.abs(first - second)
    return int(found.max()), float((found > 0).mean())
