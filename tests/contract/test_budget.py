"""Drawing within a budget, on a card that is simulated: the same picture, less and less memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from budgets import apart, ladders, limits, results
from effort import some
from engines import open_engine
from pictures import file_of, noise
from sakuga.adapters.fit import transformer_targets
from sakuga.api.engine_spec import Budget
from sakuga.api.events import Planned, Warned
from sakuga.api.receipt import StagePlan
from sakuga.api.request import Request
from sakuga.engine.engine import Engine
from sakuga.engine.faults import Faults
from sakuga.errors import BudgetTooSmall, Busy, OutOfMemory
from sakuga.memory.plan import smallest_limit
from sakuga.memory.report import Recorder
from sakuga.memory.stages import ENCODE, STAGES
from sakuga.model.spec import CHIBI

PROMPT = "<character_1><appearance>red_eyes, blue_hair</appearance></character_1>"
TWO = Request(PROMPT, negative="long_hair", seed=5, steps=1, width=128, height=128, number=2)
SMALL = Request(PROMPT, seed=5, steps=2, width=64, height=64)
ROOM = "1GB"
LONG = pytest.mark.long


def opened(model: Path | str, vram: str = ROOM, faults: str = "", **words) -> Engine:
    return open_engine(model, budget=Budget(vram=vram, **words), faults=faults)


def deciding(engine: Engine, request: Request) -> tuple[tuple[str, object], ...]:
    """What of the way that a request would be run may change a bit."""
    planned = next(engine.generate(request))
    return tuple(planned.plan.deciding.items())


def test_every_feasible_budget_draws_the_same_pictures_within_it() -> None:
    free = results(open_engine("chibi").generate(TWO))
    steps = limits(opened("chibi"), TWO)
    assert len(steps) > 20
    different = {deciding(opened("chibi", str(limit)), TWO): limit for limit in steps}
    assert len(different) > 6
    for limit in {*some(steps[:-1:6]), steps[-1], *some([*different.values()])}:
        engine = opened("chibi", str(limit))
        drawn = results(engine.generate(TWO))
        assert engine.device.ledger.peak <= limit
        plan = drawn[0].receipt.plan
        assert drawn[0].receipt.notes == ()
        exact = all(stage.strips == stage.parts == stage.batches == 1 for stage in plan.stages)
        for one, other in zip(free, drawn, strict=True):
            most, share = apart(one, other)
            # Streaming changes no bit; strips and parts round as other kernels do.
            assert most <= (0 if exact else 1)
            assert share <= 0.001
    with pytest.raises(BudgetTooSmall) as refused:
        next(opened("chibi", str(steps[-1] - 1)).generate(TWO))
    assert refused.value.smallest == steps[-1]


@pytest.mark.parametrize(
    "weights",
    ["int8", "float8_e4m3", *(pytest.param(one, marks=LONG) for one in ("int4", "bfloat16"))],
)
def test_a_format_asked_for_gives_one_picture_at_every_budget(weights) -> None:
    ask = Request(PROMPT, seed=5, steps=1, width=128, height=128)
    engine = opened("chibi", weights=weights)
    (roomy,) = results(engine.generate(ask))
    assert {one.weights for one in roomy.receipt.plan.stages if one.stage in ("gemma", "denoise")
            } == {weights}  # fmt: skip
    limit = limits(engine, ask)[-1]
    (tight,) = results(opened("chibi", str(limit), weights=weights).generate(ask))
    assert tight.receipt.plan.stages != roomy.receipt.plan.stages
    most, share = apart(roomy, tight)
    assert (most, share <= 0.001) <= (1, True)


def test_a_stage_takes_what_its_plan_says() -> None:
    for limit in some(limits(opened("chibi"), TWO)[::13]):
        for stage, measured in peaks(opened("chibi", str(limit)), TWO):
            assert 0.98 <= stage.peak_bytes / measured <= 1.05


@pytest.mark.parametrize(
    ("solver", "steps"),
    [
        ("euler", 2),
        *(pytest.param(*one, marks=LONG) for one in [("rk4", 1), ("dpm3", 5)]),
    ],
)
def test_many_latents_count(solver, steps) -> None:
    ask = replace(TWO, number=6, steps=steps, solver=solver)
    for stage, measured in peaks(opened("chibi", str(limits(opened("chibi"), ask)[-1])), ask):
        assert 0.98 <= stage.peak_bytes / measured <= 1.05


def of_kind(kind: str, out: int, into: int) -> dict[str, torch.Tensor]:
    """The tensors of an adapter for a linear, by their ends."""
    low = {"lora_A.weight": torch.randn(192, into), "lora_B.weight": torch.randn(out, 192)}
    square = torch.randn(out, into) * 0.01
    made = {
        "lora": low,
        "dora by columns": {**low, "dora_scale": torch.full((1, into), 0.5)},
        "diag-oft": {"oft_blocks": torch.randn(out // 32, 32, 32)},
        "whole": {"weight": square, "bias": torch.randn(out)},
    }[kind]
    return {end: value if "scale" in end else value * 0.01 for end, value in made.items()}


@pytest.mark.parametrize(
    "kind",
    ["lora", "whole", *(pytest.param(one, marks=LONG) for one in ("dora by columns", "diag-oft"))],
)
def test_adapters_of_some_blocks_take_what_is_planned(tmp_path: Path, kind: str) -> None:
    shapes = transformer_targets(CHIBI.transformer)
    names = [name for name in shapes if name.startswith(("layers.1.f", "layers.6.", "noise"))]
    tensors = {}
    for name in (name for name in names if len(shapes[name]) == 2):
        made = of_kind(kind, *shapes[name]).items()
        tensors |= {f"base_model.model.{name}.{end}": value for end, value in made}
    save_file(tensors, tmp_path / "some.safetensors", {"lora_alpha": "8"})
    lora, seen = (str(tmp_path / "some.safetensors"),), set()
    ask = replace(TWO, negative="", number=1, lora=lora)
    feasible = set(limits(opened("chibi"), ask))
    ladder = ladders(opened("chibi"), ask)["denoise"]
    streaming = {smallest_limit(plan.reserved_bytes) for plan in ladder if plan.streamed} & feasible
    for limit in some(sorted(streaming)[::2]):
        engine = opened("chibi", str(limit))
        for stage, measured in peaks(engine, ask):
            assert 0.98 <= stage.peak_bytes / measured <= 1.05
            if stage.stage == "denoise":
                seen.add(stage.streamed)
        assert engine.device.ledger.peak <= limit
    assert len(seen) > 2


def peaks(engine: Engine, request: Request) -> list[tuple[StagePlan, int]]:
    """Every stage as it was run, and the most bytes that it took."""
    recorder = Recorder(engine.device.memory, engine.device.peak, interval=0)
    with engine.observed(recorder.on):
        first, *_ = results(engine.generate(request))
    recorder.close()
    return [(stage, recorder.peaks[stage.stage]) for stage in first.receipt.plan.stages]


def test_nothing_stays_on_the_card_after_a_drawing(tiny_model) -> None:
    engine = opened(tiny_model)
    for _ in range(3):
        results(engine.generate(SMALL))
        assert engine.device.memory() == (0, 0)
    found = engine.generate(SMALL)
    next(event for event in found if event.event == "stepped")
    assert engine.device.memory() > (0, 0)
    found.close()
    del found
    assert engine.device.memory() == (0, 0)


def test_kept_networks_stay_and_draw_the_same(tiny_model) -> None:
    engine = opened(tiny_model, keep_resident=True)
    (first,), (second,) = (results(engine.generate(SMALL)) for _ in range(2))
    assert first.receipt.plan.kept
    held, _ = engine.device.memory()
    results(engine.generate(SMALL))
    assert engine.device.memory()[0] == held > 0
    (alone,) = results(opened(tiny_model).generate(SMALL))
    assert not alone.receipt.plan.kept
    assert first.picture == second.picture == alone.picture
    tight = opened(tiny_model, str(limits(opened(tiny_model), SMALL)[-1]), keep_resident=True)
    assert not results(tight.generate(SMALL))[0].receipt.plan.kept


def test_a_kept_network_leaves_before_it_computes_in_another_dtype(tiny_model) -> None:
    budget = Budget(vram=ROOM, keep_resident=True)
    engine = open_engine(tiny_model, dtype="bfloat16", budget=budget)
    results(engine.generate(SMALL))
    held = engine.device.memory()
    for _ in range(2):
        engine.observers = (Faults("nan@step1").strike,)
        (retried,) = results(engine.generate(SMALL))
        assert not retried.receipt.plan.kept
        assert engine.device.memory() == (0, 0)
        (kept,) = results(engine.generate(SMALL))
        assert kept.receipt.plan.kept
        assert engine.device.memory() == held


PLACES = {
    "gemma": "gemma",
    "jina": "jina",
    "encode": "encode",
    "denoise": "step2",
    "decode": "decode",
}


@pytest.mark.parametrize("stage", [stage.name for stage in STAGES])
def test_memory_may_run_out_on_every_rung_but_the_last(tiny_model, stage) -> None:
    """Each failure goes one rung down, once; a picture comes as long as one rung holds.

    It starts from a picture, so that it has every stage.
    """
    ask = replace(SMALL, steps=4, image=file_of(noise(64, 64)), strength=0.5)
    ladder = ladders(opened(tiny_model), ask)[stage]
    (expected,) = results(opened(tiny_model).generate(ask))
    for failures in range(1, len(ladder)):
        engine = opened(tiny_model, faults=f"oom@{PLACES[stage]}:{failures}")
        events = list(engine.generate(ask))
        warned = [event for event in events if isinstance(event, Warned)]
        assert [event.code for event in warned] == ["out_of_memory"] * failures
        receipt = events[-1].result.receipt
        assert receipt.notes == tuple(event.message for event in warned)
        used = {one.stage: one for one in receipt.plan.stages}
        assert used[stage] == ladder[failures]
        assert engine.runner.learned.refused == {stage: ladder[failures - 1].reserved_bytes}
        assert engine.device.memory() == (0, 0)
        assert apart(expected, events[-1].result)[0] <= 1
    engine = opened(tiny_model, faults=f"oom@{PLACES[stage]}:{len(ladder)}")
    with pytest.raises(OutOfMemory, match=f"'{stage}' needs a budget of at least .* (GB|MB)"):
        list(engine.generate(ask))
    assert engine.device.memory() == (0, 0)


def test_what_was_learned_is_kept_and_told(tiny_model) -> None:
    engine = opened(tiny_model, faults="oom@step1")
    (first,) = results(engine.generate(SMALL))
    events = list(engine.generate(SMALL))
    (warned,) = [event for event in events if isinstance(event, Warned)]
    assert warned.code == "learned_limit"
    assert events[-1].result.receipt.notes == (warned.message,)
    assert events[-1].result.receipt.plan.stages == first.receipt.plan.stages
    assert events[-1].result.picture == first.picture


def test_what_was_learned_is_forgotten_after_good_runs(tiny_model) -> None:
    engine = opened(tiny_model, faults="oom@step1")
    engine.runner.learned.forget_after = 2
    (first,) = results(engine.generate(SMALL))
    lower = [results(engine.generate(SMALL))[0].receipt for _ in range(1)]
    (free,) = results(engine.generate(SMALL))
    (fresh,) = results(opened(tiny_model).generate(SMALL))
    assert {receipt.plan.stages for receipt in lower} == {first.receipt.plan.stages}
    assert free.receipt.plan == fresh.receipt.plan != first.receipt.plan
    assert free.receipt.notes == ()


def test_what_a_stage_learned_holds_for_no_other(tiny_model) -> None:
    """Decoding takes more than the denoising that once had no room, and is planned as ever."""
    engine = opened(tiny_model, faults="oom@step1")
    results(engine.generate(SMALL))
    *_, denoise, decode = results(engine.generate(SMALL))[0].receipt.plan.stages
    *_, roomy, whole = results(opened(tiny_model).generate(SMALL))[0].receipt.plan.stages
    assert denoise.peak_bytes < roomy.peak_bytes < whole.peak_bytes
    assert decode == whole


def test_a_request_that_fits_what_was_learned_is_drawn_as_in_a_fresh_process(tiny_model) -> None:
    engine = opened(tiny_model, faults="oom@step1")
    large = Request(PROMPT, seed=5, steps=2, width=128, height=128, number=4)
    results(engine.generate(large))
    (after,), (fresh,) = (results(one.generate(SMALL)) for one in (engine, opened(tiny_model)))
    assert after.receipt.notes == ()
    assert after.picture == fresh.picture
    assert after.receipt.plan == fresh.receipt.plan


@pytest.mark.parametrize(
    "share", [0.02, *(pytest.param(share, marks=LONG) for share in (0.2, 0.5)), 0.8]
)
@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_memory_that_shrinks_for_real_is_met_rung_by_rung(share, weights) -> None:
    """The card refuses what the plan counts on, as when another program has taken it.

    With little left it does so while weights are copied.
    """
    engine = opened("chibi", weights=weights)
    front = ladders(engine, TWO).values()
    first, least = (max(plans[i].peak_bytes for plans in front) for i in (0, -1))
    expected = results(engine.generate(TWO))
    engine.device.ledger.limit = int(least + share * (first - least))
    engine.device.ledger.reset_peak()
    events = list(engine.generate(TWO))
    assert engine.device.memory() == (0, 0)
    warned = [event for event in events if isinstance(event, Warned) and event.code != "size"]
    assert {event.code for event in warned} == {"out_of_memory"}
    assert "Simulated card out of memory" in warned[0].message
    assert engine.device.ledger.peak <= engine.device.ledger.limit
    for one, other in zip(expected, results(iter(events)), strict=True):
        assert apart(one, other)[0] <= 1


def test_a_plan_says_what_is_done_before_it_is_done(tiny_model) -> None:
    engine = opened(tiny_model)
    planned = next(engine.generate(SMALL))
    assert isinstance(planned, Planned)
    asked = [stage.name for stage in STAGES if stage is not ENCODE]
    assert [stage.stage for stage in planned.plan.stages] == asked
    assert planned.plan.limit == 10**9


def test_steps_of_groups_are_counted_through(tiny_model) -> None:
    ask = Request(PROMPT, seed=5, steps=2, width=64, height=64, number=4)
    ladder = ladders(opened(tiny_model), ask)["denoise"]
    place = next(i for i, plan in enumerate(ladder) if plan.batches > 1)
    engine = opened(tiny_model, faults=f"oom@step1:{place}")
    events = list(engine.generate(ask))
    steps = [(e.index, e.of) for e in events if e.event == "stepped"]
    batches = ladder[place].batches
    assert steps == [(i + 1, 2 * batches) for i in range(2 * batches)]
    receipts = [result.receipt for result in results(iter(events))]
    assert {receipt.plan.batch for receipt in receipts} == {-(-4 // batches)}
    alone = results(opened(tiny_model).generate(ask))
    assert max(apart(a, b)[0] for a, b in zip(alone, results(iter(events)), strict=True)) <= 1


@pytest.mark.parametrize("limit", [10**9, None])
def test_float32_is_planned_anew_where_a_half_was_not_finite(tiny_model, limit) -> None:
    budget = Budget(vram=str(limit) if limit else "auto")
    engine = open_engine(tiny_model, dtype="bfloat16", budget=budget)
    (half,) = results(engine.generate(SMALL))
    engine.observers = (Faults("nan@step1").strike,)
    (retried,) = results(engine.generate(SMALL))
    before, after = (
        {one.stage: one for one in result.receipt.plan.stages} for result in (half, retried)
    )
    assert (before["denoise"].weights, after["denoise"].weights) == ("bfloat16", "float32")
    assert after["denoise"].peak_bytes > before["denoise"].peak_bytes
    assert after["decode"] == before["decode"]


def test_float32_need_fit_only_where_it_is_wanted() -> None:
    """A limit that holds every stage in a half, and no decoding in float32."""

    def half(vram: str, faults: str = "") -> Engine:
        budget = Budget(vram=vram)
        return open_engine("chibi", dtype="bfloat16", budget=budget, faults=faults)

    limit = str(limits(half(ROOM), TWO)[-1])
    (first, _) = results(half(limit, "nan@gemma").generate(TWO))
    stages = {one.stage: one.weights for one in first.receipt.plan.stages}
    assert (stages["gemma"], stages["decode"]) == ("float32", "bfloat16")
    with pytest.raises(BudgetTooSmall, match="stage 'decode'"):
        results(half(limit, "nan@decode").generate(TWO))


def test_one_request_at_a_time(tiny_model) -> None:
    engine = opened(tiny_model)
    first = engine.generate(SMALL)
    next(event for event in first if event.event == "stepped")
    with pytest.raises(Busy, match="one request at a time"):
        next(engine.generate(SMALL))
    (alone,) = results(opened(tiny_model).generate(SMALL))
    assert results(first)[0].picture == alone.picture
    abandoned = engine.generate(SMALL)
    next(abandoned)
    abandoned.close()
    assert results(engine.generate(SMALL))[0].picture == alone.picture
