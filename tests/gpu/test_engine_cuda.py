"""The engine on a card: the same promises, kept while the host runs a step behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engines import open_engine
from sakuga.api.engine_spec import Budget
from sakuga.api.events import Finished, Stepped, Warned
from sakuga.api.request import Request
from sakuga.errors import NonFiniteOutput

ASK = Request("1girl, blue_hair", seed=5, steps=3)


def events(model: Path, **words: str) -> list:
    return list(open_engine(model, device="cuda", **words).generate(ASK))


def pixels(found: list) -> list[bytes]:
    return [event.result.picture.rgb for event in found if isinstance(event, Finished)]


def test_auto_is_bfloat16_and_events_keep_their_order(tiny_model) -> None:
    found = events(tiny_model)
    steps = [event for event in found if isinstance(event, Stepped)]
    assert [(step.index, step.of) for step in steps] == [(1, 3), (2, 3), (3, 3)]
    assert all(len(step.previews) == 1 for step in steps)
    plan = found[-1].result.receipt.plan
    assert (plan.device, plan.dtype, plan.threads) == ("cuda:0", "bfloat16", 0)
    assert plan.chip == torch.cuda.get_device_name(0)


def test_the_same_request_gives_the_same_pixels(tiny_model) -> None:
    assert pixels(events(tiny_model)) == pixels(events(tiny_model))


def test_float32_draws_what_the_cpu_draws(tiny_model) -> None:
    (card,) = pixels(events(tiny_model, dtype="float32"))
    cpu = open_engine(tiny_model).generate(ASK)
    (host,) = pixels(list(cpu))
    # TF32 is off by default, so only the order of sums differs; one level of rounding each.
    assert max(abs(a - b) for a, b in zip(card, host, strict=True)) <= 2


@pytest.mark.parametrize("place", ["gemma", "step1", "step3", "decode"])
def test_one_nan_is_drawn_again_and_two_end_it(tiny_model, place) -> None:
    found = events(tiny_model, faults=f"nan@{place}")
    assert sum(isinstance(event, Warned) for event in found) == 1
    assert len(pixels(found)) == 1
    with pytest.raises(NonFiniteOutput):
        events(tiny_model, faults=f"nan@{place}:2")


def test_stopping_leaves_no_memory_behind(tiny_model) -> None:
    engine = open_engine(tiny_model, device="cuda")
    list(engine.generate(ASK))
    before = torch.cuda.memory_allocated()
    for _ in range(20):
        found = engine.generate(ASK)
        next(event for event in found if isinstance(event, Stepped))
        found.close()
    assert torch.cuda.memory_allocated() == before


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_the_host_never_waits_between_steps(tiny_model) -> None:
    """But for the event of the step before: no copy, no scalar is fetched, none is sent."""
    engine = open_engine(tiny_model, device="cuda", budget=Budget(vram="4GB"))
    ask = replace(ASK, steps=8, guidance=4.0)
    list(engine.generate(ask))  # libraries may wait while they are set up
    found = engine.generate(ask)
    try:
        for event in found:
            if isinstance(event, Stepped) and event.index == 2:
                torch.cuda.set_sync_debug_mode("error")
            if isinstance(event, Stepped) and event.index == 6:
                break
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert isinstance(list(found)[-1], Finished)
