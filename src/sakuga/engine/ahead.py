"""Many requests in one call: the texts of all are read first, each once, many in one pass."""

from __future__ import annotations

import contextlib
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import overload

from sakuga.api.events import Event, Finished, Result
from sakuga.api.request import Request
from sakuga.api.resolved import Resolved
from sakuga.engine.encode import EmbeddingCache, TextEncoders
from sakuga.engine.run import Events, Run
from sakuga.engine.runner import Runner
from sakuga.errors import BudgetTooSmall, SakugaError
from sakuga.memory.stages import GEMMA, JINA

PASS = 64  # requests: streaming an encoder costs as much for all of them as for one
KEPT = 1 << 40  # bytes on disk: whatever will be needed


class Calls(ABC):
    """What is asked of an engine in one call, by what it does event by event."""

    encoders: TextEncoders
    runner: Runner

    @abstractmethod
    def resolve(self, request: Request | str) -> Resolved:
        """The request in full."""

    @abstractmethod
    def plan(self, request: Resolved) -> Run:
        """How a request will be run."""

    @abstractmethod
    def settle(self, run: Run) -> None:
        """Make room for a run."""

    @abstractmethod
    def generate(self, request: Request | str) -> Generator[Event, None, None]:
        """Draw, event by event."""

    @overload
    def draw(self, request: str) -> Result: ...
    @overload
    def draw(self, request: Request) -> Result | list[Result]: ...
    def draw(self, request: Request | str) -> Result | list[Result]:
        """Draw a request or a text: its picture, or a list where it asks for several."""
        with contextlib.closing(self.generate(request)) as events:
            results = [event.result for event in events if isinstance(event, Finished)]
        return results[0] if len(results) == 1 else results

    def batch(self, requests: Iterable[Request | str]) -> Iterator[Result]:
        """Draw many, the texts of all read first; each picture as a drawing of its own has it.

        `sakuga batch` does the same into a folder, and goes on where it was stopped.
        """
        with texts_kept(self, [self.resolve(one) for one in requests]) as resolved:
            for request in resolved:
                drawn = self.draw(request)
                yield from drawn if isinstance(drawn, list) else [drawn]


@contextlib.contextmanager
def texts_kept(engine: Calls, requests: Sequence[Resolved]) -> Iterator[Sequence[Resolved]]:
    """Within, the texts of requests have been read, and are kept for their drawing."""
    before = engine.encoders.cache
    with tempfile.TemporaryDirectory(prefix="sakuga-") as folder:
        engine.encoders.cache = EmbeddingCache(Path(folder), KEPT)
        try:
            for first in range(0, len(requests), PASS):
                runs = list(planned(engine, requests[first : first + PASS]))
                for _ in read_texts(engine, runs):
                    pass
            yield requests
        finally:
            engine.encoders.cache = before


def planned(engine: Calls, requests: Iterable[Resolved]) -> Iterator[Run]:
    """Runs of requests; of one that cannot be planned there is none: its drawing will say why."""
    for request in requests:
        with contextlib.suppress(SakugaError):
            yield engine.plan(request)


def read_texts(engine: Calls, runs: Sequence[Run]) -> Events[None]:
    """One pass over the texts of runs; in two halves where that needs too much memory."""
    runs = [one for one in runs if GEMMA.name in one.stages]
    if not runs:
        return
    try:
        joint = _joint(engine, runs)
    except BudgetTooSmall:
        if len(runs) > 1:
            yield from read_texts(engine, runs[: len(runs) // 2])
            yield from read_texts(engine, runs[len(runs) // 2 :])
        return
    engine.settle(joint)
    yield from engine.encoders.read_ahead(joint)


def _joint(engine: Calls, runs: Sequence[Run]) -> Run:
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
