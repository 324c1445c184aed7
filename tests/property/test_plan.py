"""What holds of every plan, whatever the model, the request, the card and the budget."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from effort import examples
from sakuga.errors import BudgetTooSmall
from sakuga.memory.cards import CARDS, Card
from sakuga.memory.costs import Work
from sakuga.memory.plan import MemoryPlan, Options, Priced, make_plan, usable
from sakuga.memory.stages import STAGES, Stage, splits, stages_of
from sakuga.model.inventory import inventory_of
from sakuga.model.spec import CHIBI, LUMINA_2, NEWBIE_3_5B

INVENTORIES = {spec.name: inventory_of(spec) for spec in (CHIBI, LUMINA_2, NEWBIE_3_5B)}

tokens = st.integers(1, 600)
sides = st.integers(8, 64).map(lambda n: 16 * n)


@st.composite
def works(draw: st.DrawFn) -> Work:
    branches = draw(st.integers(1, 2))
    texts = st.tuples(*[tokens] * branches)
    return Work(
        width=draw(sides),
        height=draw(sides),
        batch=draw(st.integers(1, 10)),
        evaluations=draw(st.integers(1, 60)),
        branches=branches,
        gemma_tokens=draw(texts),
        jina_tokens=draw(texts),
        encodes=draw(st.booleans()),
    )


options = st.builds(
    Options,
    dtype=st.sampled_from(["float32", "bfloat16", "float16"]),
    weights=st.sampled_from(["auto", "auto", "int8", "int4", "float16"]),
    allow_lossy=st.booleans(),
    keep_resident=st.booleans(),
    pinned=st.none() | st.integers(0, 10**10),
)
# Each weighs thousands of ways to draw, some of them three times over.
few = settings(max_examples=examples(30), deadline=1_000)
models = st.sampled_from(list(INVENTORIES))
cards = st.sampled_from(list(CARDS.values()))
limits = st.none() | st.integers(0, 2 * 10**10) | st.integers(0, 2 * 10**9)


def planned(
    model: str, limit: int | None, work: Work, card: Card, chosen: Options
) -> MemoryPlan | BudgetTooSmall:
    try:
        return make_plan(INVENTORIES[model], limit, work, card, chosen)
    except BudgetTooSmall as error:
        return error


@few
@given(models, limits, works(), cards, options)
def test_a_plan_never_passes_its_budget(
    model: str, limit: int | None, work: Work, card: Card, chosen: Options
) -> None:
    plan = planned(model, limit, work, card, chosen)
    assume(isinstance(plan, MemoryPlan))
    assert isinstance(plan, MemoryPlan)
    assert [stage.stage for stage in plan.stages] == [
        stage.name for stage in stages_of(INVENTORIES[model], work)
    ]
    assert limit is None or plan.peak_bytes <= plan.reserved_bytes <= usable(limit) < limit


@few
@given(models, limits, limits, works(), cards, options)
def test_more_memory_never_gives_a_slower_plan(
    model: str, one: int | None, other: int | None, work: Work, card: Card, chosen: Options
) -> None:
    less, more = sorted((one, other), key=lambda limit: float("inf") if limit is None else limit)
    before, after = (planned(model, limit, work, card, chosen) for limit in (less, more))
    if isinstance(before, MemoryPlan):
        assert isinstance(after, MemoryPlan)
        for slow, fast in zip(before.stages, after.stages, strict=True):
            # Where rounding is allowed, memory may buy exactness instead of time.
            exact = chosen.allow_lossy and slow.weights != fast.weights
            assert fast.seconds <= slow.seconds or exact


@few
@given(models, limits, works(), cards, options)
def test_the_same_question_has_the_same_answer(
    model: str, limit: int | None, work: Work, card: Card, chosen: Options
) -> None:
    first, second = (planned(model, limit, work, card, chosen) for _ in range(2))
    assert repr(first) == repr(second)


@few
@given(models, works(), cards, options)
def test_a_budget_too_small_names_the_smallest_that_works(
    model: str, work: Work, card: Card, chosen: Options
) -> None:
    with pytest.raises(BudgetTooSmall) as refused:
        make_plan(INVENTORIES[model], 0, work, card, chosen)
    smallest = refused.value.smallest
    assert isinstance(planned(model, smallest, work, card, chosen), MemoryPlan)
    assert isinstance(planned(model, smallest - 1, work, card, chosen), BudgetTooSmall)


@few
@given(models, works(), cards, options, st.sampled_from(STAGES))
def test_rungs_lead_from_the_fastest_to_the_smallest(
    model: str, work: Work, card: Card, chosen: Options, stage: Stage
) -> None:
    assume(stage in stages_of(INVENTORIES[model], work))
    ladder = Priced.of(stage, INVENTORIES[model], work, card, chosen).rungs
    needs = [rung.reserved_bytes for rung in ladder]
    assert needs == sorted(set(needs), reverse=True)
    for one, other in pairwise(ladder):
        exact = chosen.allow_lossy and one.weights != other.weights
        assert one.seconds <= other.seconds or exact
    fastest = make_plan(INVENTORIES[model], None, work, card, replace(chosen, keep_resident=False))
    assert fastest.stage(stage.name) == ladder[0]


@few
@given(models, limits, works(), cards, options)
def test_every_block_is_resident_or_streamed_and_none_is_both(
    model: str, limit: int | None, work: Work, card: Card, chosen: Options
) -> None:
    plan = planned(model, limit, work, card, chosen)
    assume(isinstance(plan, MemoryPlan))
    assert isinstance(plan, MemoryPlan)
    inventory = INVENTORIES[model]
    parts = [stage.network(inventory) for stage in stages_of(inventory, work)]
    for stage, part in zip(plan.stages, parts, strict=True):
        assert stage.resident + stage.streamed == len(part.blocks)
        assert not (plan.kept and stage.streamed)
    assert plan.stage("gemma").weights != "float16"
    if chosen.weights == "auto" and not chosen.allow_lossy:
        assert plan.stage("denoise").weights in (chosen.dtype, "bfloat16")


@given(st.integers(1, 40))
def test_splits_are_the_numbers_of_groups_that_differ(count: int) -> None:
    found = splits(count)
    sizes = [-(-count // groups) for groups in found]
    assert sorted(set(sizes)) == sizes[::-1]
    assert sizes[0] == count
    assert sizes[-1] == 1
