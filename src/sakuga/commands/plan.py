"""The `plan` command: a question in text, the answer as tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from sakuga.api.codec import plain, unknown
from sakuga.api.engine_spec import Budget, EngineSpec
from sakuga.api.options import Option, option, rule_of, settled
from sakuga.api.receipt import StagePlan
from sakuga.api.request import Request, parse_size
from sakuga.api.resolved import Resolved, resolve
from sakuga.checkpoint.catalog import ELSEWHERE, locate
from sakuga.checkpoint.folder import open_checkpoint, read_inventory
from sakuga.commands.flags import AsJson, flags
from sakuga.commands.streams import say
from sakuga.errors import BudgetTooSmall, RequestError
from sakuga.memory.cards import CONTEXT, DEFAULT, Card, card_named, nearest_card
from sakuga.memory.costs import Work, expected_work
from sakuga.memory.monitor import first_card
from sakuga.memory.plan import MemoryPlan, Options, make_plan, parse_bytes, usable
from sakuga.memory.stages import DECODE, DENOISE
from sakuga.model.inventory import Inventory, inventory_of
from sakuga.model.spec import NEWBIE_3_5B, PRESETS
from sakuga.printable import columns, duration, readable

# What an article of 2026-02 on NewBie says of a 16 GB card, by size and batch.
ARTICLE = {
    (512, 4): "yes, 13.5 GB",
    (768, 2): "yes, 14.8 GB",
    (1024, 1): "yes, 15.0 GB",
    (1024, 2): "no, over 16.5 GB",
    (2048, 1): "no, over 18 GB",
}
TABLE = (
    (512, 4), (512, 10), (768, 2), (768, 10), (1024, 1), (1024, 2), (1024, 8), (1536, 2),
    (2048, 1), (2048, 4),
)  # fmt: skip
COLUMNS = ("size", "batch", "fits", "peak", "time", "by", "reported")


@dataclass(frozen=True, slots=True)
class Question:
    """What `sakuga plan` is asked; None leaves a choice open.

    Without `model` and `preset` it is the real model. The negative is taken to be half as long
    as the prompt.
    """

    model: str | None = option(Option("A model by name or folder; newbie-3.5b when left out."))
    preset: str | None = option(Option("A model by its shape alone, without its files."))
    vram: str | None = option(Option("The budget: 8GB, 7.5GiB; the card's when left out."))
    size: str | None = option(Option("WIDTHxHEIGHT, or one number for a square."))
    batch: int = option(Option("How many pictures."), default=1)
    steps: int | None = option(rule_of(Request, "steps"))
    guidance: float | None = option(rule_of(Request, "guidance"))
    prompt_tokens: int | None = option(
        Option("Length of the prompt; the trained one otherwise.", low=1)
    )
    dtype: str = option(rule_of(EngineSpec, "dtype"), default="auto")
    weights: str = option(rule_of(Budget, "weights"), default="auto")
    card: str | None = option(
        Option("h200, h100, 4090, 4060ti, 3060, cpu; the one here, else 4060ti.")
    )
    allow_lossy: bool = option(rule_of(Budget, "allow_lossy"), default=False)
    keep_resident: bool = option(rule_of(Budget, "keep_resident"), default=False)
    pinned: str | None = option(Option("Host memory that may be pinned; as wanted otherwise."))


@flags
def plan(
    question: Question,
    table: Annotated[
        bool, typer.Option("--table", help="Sizes and batches: what fits the budget.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say how a drawing would fit a card: by which levers, how much memory, how long."""
    asked = read_question(question)
    if table:
        say(answer_table(asked, as_json), wrap=not as_json)
        return
    try:
        say(answer(asked, as_json), wrap=not as_json)
    except BudgetTooSmall as error:
        if as_json:
            print(json.dumps(failed(error)))
        raise


@dataclass(frozen=True, slots=True)
class Asked:
    """A question understood: every value a plan is made from; `assumed`: no model was named."""

    inventory: Inventory
    limit: int
    card: Card
    options: Options
    request: Resolved
    tokens: int
    assumed: bool = False

    @property
    def work(self) -> Work:
        """What the request asks of a card."""
        spec, steps = self.inventory.spec, self.request.steps
        return expected_work(self.request, spec, steps, self.tokens, shorter=2)

    def plan(self) -> MemoryPlan:
        """The fastest plan. Raises BudgetTooSmall."""
        return make_plan(self.inventory, self.limit, self.work, self.card, self.options)


def read_question(question: Question) -> Asked:
    """Read every flag. Raises RequestError, ModelNotFound or WeightsError."""
    question = settled(question)
    inventory = find_inventory(question.model, question.preset)
    card, free = _card(question.card)
    limit = free - CONTEXT if question.vram is None else parse_bytes(question.vram)
    dtype = question.dtype
    if dtype == "auto":
        dtype = card.dtype
    elif dtype not in ("float32", "bfloat16", "float16"):
        raise unknown("dtype", dtype, ("auto", "float32", "bfloat16", "float16"))
    options = Options(
        dtype,
        question.weights,
        allow_lossy=question.allow_lossy,
        keep_resident=question.keep_resident,
        pinned=None if question.pinned is None else parse_bytes(question.pinned),
    )
    width, height = _size(question.size)
    request = Request(
        "", seed=0, width=width, height=height, number=question.batch,
        steps=question.steps, guidance=question.guidance,
    )  # fmt: skip
    tokens = question.prompt_tokens or inventory.spec.gemma.trained_tokens
    resolved = resolve(request, inventory.spec.drawing)
    assumed = question.model is None and question.preset is None
    return Asked(inventory, limit, card, options, resolved, tokens, assumed)


def find_inventory(model: str | None, preset: str | None) -> Inventory:
    """The inventory of a folder or of a preset; one known by name need not be on this machine."""
    if model is not None and preset is not None:
        raise RequestError("a plan is for --model or --preset", "both", "Leave one of them out.")
    if model is not None and (model not in ELSEWHERE or Path(model).is_dir()):
        return read_inventory(open_checkpoint(locate(model)))
    name = preset or model or next(iter(ELSEWHERE))
    if name not in PRESETS:
        raise unknown("preset", name, tuple(PRESETS))
    return inventory_of(PRESETS[name])


def _card(name: str | None) -> tuple[Card, int]:
    """The card that is meant, and the bytes that are free on it."""
    if name is not None:
        card = card_named(name)
        return card, card.memory
    here = first_card()
    return (DEFAULT, DEFAULT.memory) if here is None else (nearest_card(here.name), here.free)


def _size(text: str | None) -> tuple[int, int] | tuple[None, None]:
    if text is None:
        return None, None
    found = parse_size(text)
    if found is None:
        raise RequestError("--size is WIDTHxHEIGHT", repr(text), "Write --size 832x1216.")
    return found


def answer(asked: Asked, as_json: bool) -> str:
    """The plan as text for people, or as JSON. Raises BudgetTooSmall."""
    plan = asked.plan()
    if as_json:
        return json.dumps(plan_fields(asked, plan), indent=2)
    return "\n".join(describe_plan(asked, plan))


def answer_table(asked: Asked, as_json: bool) -> str:
    """What fits the budget by size and batch, as text for people or as JSON."""
    if not as_json:
        return "\n".join(describe_table(asked))
    rows = [dict(zip(COLUMNS, _answer(asked, *row), strict=True)) for row in TABLE]
    return json.dumps(rows, indent=2)


def plan_fields(asked: Asked, plan: MemoryPlan) -> dict[str, Any]:
    """A plan for programs; bytes and seconds as numbers."""
    return {
        "model": asked.inventory.spec.name,
        "card": asked.card.name,
        "measured": asked.card.measured,
        "limit_bytes": asked.limit,
        "usable_bytes": usable(asked.limit),
        "context_bytes": context(asked.card),
        "peak_bytes": plan.peak_bytes,
        "reserved_bytes": plan.reserved_bytes,
        "seconds": plan.seconds,
        "kept": plan.kept,
        "work": plain(asked.work),
        "stages": [plain(stage) for stage in plan.stages],
        "reasons": [plain(reason) for reason in plan.reasons],
    }


def failed(error: BudgetTooSmall) -> dict[str, Any]:
    """The answer for programs where no plan fits."""
    return {"code": error.code, "message": str(error), "smallest_bytes": error.smallest}


def describe_plan(asked: Asked, plan: MemoryPlan) -> Iterator[str]:
    """A plan for people, line by line."""
    yield from _heading(asked)
    yield ""
    head = ("stage", "weights", "on card", "streamed", "split", "peak", "time")
    yield from columns((head, *map(_row, plan.stages)), right=(2, 3, 5, 6))
    yield ""
    peak, reserved = readable(plan.peak_bytes), readable(plan.reserved_bytes)
    yield (
        f"Peak {peak}, with the holes of an allocator {reserved} of "
        f"{readable(usable(asked.limit))} usable; {duration(plan.seconds)} in all."
    )
    yield ""
    told = [(one.stage, one.lever, "yes" if one.pulled else "no", one.why) for one in plan.reasons]
    yield from columns((("stage", "lever", "used", "why"), *told))


def describe_table(asked: Asked) -> Iterator[str]:
    """What fits a budget: sizes and batches with their answers, line by line."""
    yield from _heading(asked, sized=False)
    yield ""
    rows = [_answer(asked, side, batch) for side, batch in TABLE]
    yield from columns((COLUMNS, *rows), right=(1, 3, 4))
    yield ""
    yield "reported: what an article of February 2026 says of newbie-3.5b on a card of 16 GB."


def context(card: Card) -> int:
    """Bytes that no limit counts: the driver's context and its libraries."""
    return 0 if card.unified else CONTEXT


def _heading(asked: Asked, sized: bool = True) -> Iterator[str]:
    work, spec, card = asked.work, asked.inventory.spec, asked.card
    width, height = asked.request.size
    pictures = f"{work.batch} x {width}x{height}, " if sized else ""
    guided = "guided" if work.branches == 2 else "not guided"
    lengths = " and ".join(map(str, work.gemma_tokens))
    texts = f"texts of {lengths} tokens"
    yield f"{spec.name}: {pictures}{work.evaluations} evaluations, {guided}, {texts}"
    if asked.assumed:
        yield "(the model when --model is left out; `sakuga draw` without it draws with chibi)"
    known = "measured" if card.measured else "estimated"
    beside = f", and {readable(context(card))} for the driver beside it" if context(card) else ""
    yield f"{card.title} ({known}), {asked.options.dtype}; budget {readable(asked.limit)}{beside}"


def _row(stage: StagePlan) -> tuple[str, ...]:
    blocks = stage.resident + stage.streamed
    resident = str(stage.resident) if blocks else "all"
    streamed = str(stage.streamed) if blocks else "-"
    split = [
        f"{count} {name}"
        for name, count in (
            ("batches", stage.batches), ("parts", stage.parts), ("strips", stage.strips)
        )
        if count > 1
    ]  # fmt: skip
    split += ["recomputed"] * stage.recompute
    return (
        stage.stage, stage.weights, resident, streamed, ", ".join(split) or "-",
        readable(stage.peak_bytes), duration(stage.seconds),
    )  # fmt: skip


def _answer(asked: Asked, side: int, batch: int) -> tuple[str, ...]:
    start = (f"{side}x{side}", str(batch))
    told_of = asked.inventory.spec.transformer == NEWBIE_3_5B.transformer
    said = ARTICLE.get((side, batch), "-") if told_of else "-"
    try:
        changed = replace(asked.request, width=side, height=side, number=batch)
        request = resolve(changed, asked.inventory.spec.drawing)
        plan = replace(asked, request=request).plan()
    except BudgetTooSmall as error:
        return (*start, "no", "-", "-", f"needs {readable(error.smallest)}", said)
    except RequestError as error:
        return (*start, "no", "-", "-", error.rule, said)
    peak, seconds = readable(plan.peak_bytes), duration(plan.seconds)
    return (*start, "yes", peak, seconds, _levers(plan), said)


def _levers(plan: MemoryPlan) -> str:
    """The levers that the two large stages pull, in a few words."""
    denoise, decode = plan.stage(DENOISE.name), plan.stage(DECODE.name)
    words = []
    if denoise.streamed:
        words.append(f"{denoise.streamed}/{denoise.resident + denoise.streamed} blocks streamed")
    for count, name in (
        (denoise.parts, "parts"), (denoise.batches, "batches"), (decode.strips, "strips")
    ):  # fmt: skip
        if count > 1:
            words.append(f"{count} {name}")
    if decode.recompute:
        words.append("recomputed")
    if denoise.weights not in ("bfloat16", "float16", "float32"):
        words.append(denoise.weights)
    return ", ".join(words) or "encoders leave"
