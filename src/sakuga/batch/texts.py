"""The texts of many requests, read ahead of all drawing: each once, many in one pass."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

from sakuga.api.events import Event
from sakuga.batch.item import Item
from sakuga.batch.lease import Leases
from sakuga.engine.engine import Engine
from sakuga.engine.run import Run
from sakuga.errors import BudgetTooSmall, SakugaError
from sakuga.memory.stages import GEMMA, JINA

PASS = 64  # texts: streaming an encoder costs as much for them as for one


def read_ahead(
    engine: Engine, items: Sequence[Item], leases: Leases
) -> Generator[Event | int, None, None]:
    """Read the texts of items into the engine's cache, pass by pass, telling how many are done.

    What another process is reading is left to it. A request that cannot be planned is passed
    over: its drawing will say why.
    """
    for first in range(0, len(items), PASS):
        group = items[first : first + PASS]
        lease = leases.claim(f"texts-{group[0].id}")
        if lease is None:
            continue
        try:
            yield from _read(engine, list(_planned(engine, group)))
        except SakugaError:  # the drawing of whichever is at fault will say so
            pass
        finally:
            leases.release(lease)
        yield first + len(group)


def _planned(engine: Engine, items: Sequence[Item]) -> Iterator[Run]:
    for item in items:
        try:
            yield engine.plan(item.request)
        except SakugaError:
            continue


def _read(engine: Engine, runs: Sequence[Run]) -> Generator[Event, None, None]:
    """One pass over the texts of runs; in two halves where that needs too much memory."""
    runs = [one for one in runs if GEMMA.name in one.stages]
    if not runs:
        return
    try:
        joint = _joint(engine, runs)
    except BudgetTooSmall:
        if len(runs) > 1:
            yield from _read(engine, runs[: len(runs) // 2])
            yield from _read(engine, runs[len(runs) // 2 :])
        return
    engine.settle(joint)
    yield from engine.encoders.read_ahead(joint)


def _joint(engine: Engine, runs: Sequence[Run]) -> Run:
    """A run that reads all texts of several, which is planned for them together."""
    first = runs[0]
    readings = {
        name: tuple(dict.fromkeys(one for run in runs for one in run.texts.readings.get(name, ())))
        for name in (GEMMA.name, JINA.name)
    }
    readings = {name: found for name, found in readings.items() if found}
    texts = replace(first.texts, readings=readings)
    lengths = texts.lengths
    work = replace(
        first.work, gemma_tokens=lengths[GEMMA.name], jina_tokens=lengths.get(JINA.name, ())
    )
    stages = tuple(one for one in (GEMMA, JINA) if one.name in readings)
    memory = engine.runner.plan(first.inventory, work, first.options, stages)
    return replace(
        first, texts=texts, work=work, plan=memory,
        stages={one.stage: one for one in memory.stages}, notes=[],
    )  # fmt: skip
