"""One process of a batch: it reads the texts ahead, then draws what nobody else draws."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from sakuga.adapters.fit import record
from sakuga.api.codec import plain
from sakuga.api.events import Event, Finished, Stepped, Warned
from sakuga.api.request import Request
from sakuga.batch.album import TEXTS, Album, is_sick, paused
from sakuga.batch.item import Item, Items, JobRow
from sakuga.batch.lease import Leases
from sakuga.batch.survey import survey
from sakuga.batch.texts import read_ahead
from sakuga.engine.encode import EmbeddingCache
from sakuga.engine.engine import Engine, fitted
from sakuga.errors import Cancelled, SakugaError
from sakuga.files.pictures import record_of

Tell = Callable[[Mapping[str, Any]], None]
MOST_TOLD = 10_000  # files
WAIT = 1.0  # seconds between looks at what others draw
KEPT_TEXTS = 1 << 40  # bytes on disk: whatever will be needed, and all of it goes at the end


@dataclass(slots=True)
class Worker:
    """Draws the items of a batch with one engine.

    tell: told what happens, as plain data. stopping: set from outside to end after the step
    under way. share: which part of the items is begun with, as (its number, of how many), so
    that workers that start together are seldom at the same place.
    """

    engine: Engine
    album: Album
    tell: Tell
    stopping: threading.Event = field(default_factory=threading.Event)
    share: tuple[int, int] = (0, 1)
    retry: bool = False
    redraw: bool = False

    def run(self, rows: Iterable[JobRow]) -> None:
        """Draw all that is left of some rows.

        Raises Cancelled where it was stopped, Paused where the disk takes no more.
        """
        reading = Items(
            self.engine.resolve, self.engine.checkpoint.sha256(self.engine.digest),
            lambda request: digests(self.engine, request),
        )  # fmt: skip
        reading.read(rows)
        cache = EmbeddingCache(self.album.work / TEXTS, KEPT_TEXTS)
        self.engine.encoders.cache = cache
        leases = self.album.leases()
        try:
            with leases.beating():
                self._draw_all(self._left(reading), leases)
            known = self.album.journal.done
            done = [one for one in reading.items if one.id in known]
            files = [[one.row.where, known[one.id].file] for one in done[:MOST_TOLD]]
            failed = len(reading.items) - len(done)
            self.tell({"event": "over", "done": len(done), "failed": failed, "files": files})
        except OSError as error:
            if not is_sick(error):
                raise
            raise paused(self.album.place, error) from None

    def _left(self, items: Items) -> list[Item]:
        """What is left to draw, in a good order; tells how the job stands."""
        told, left = survey(self.album, items, retry=self.retry, redraw=self.redraw)
        self.tell(told)
        number, of = self.share
        first = number * len(left) // of
        return left[first:] + left[:first]

    def _draw_all(self, items: list[Item], leases: Leases) -> None:
        own = items[: -(-len(items) // self.share[1])]
        for one in read_ahead(self.engine, own, leases):
            self._stop()
            self.tell(
                {"event": "read", "texts": one} if isinstance(one, int) else {"event": "busy"}
            )
        while items:
            items = [one for one in items if not self._draw_one(one, leases)]
            if items:
                self.tell({"event": "waiting", "items": len(items)})
                self.stopping.wait(WAIT)
            self._stop()

    def _draw_one(self, item: Item, leases: Leases) -> bool:
        """Draw an item unless it is settled; False where another process has it."""
        self._stop()
        journal = self.album.journal
        if journal.settled(item.id):
            return True
        lease = leases.claim(item.id)
        if lease is None:
            journal.refresh()
            return journal.settled(item.id)
        try:
            journal.refresh()  # who had it before may just have finished it
            if not journal.settled(item.id):
                self._attempt(item, lambda: leases.holds(lease))
        finally:
            leases.release(lease)
        return True

    def _attempt(self, item: Item, holds: Callable[[], bool]) -> None:
        """Draw an item, or write down why that was not possible. Raises Cancelled, OSError."""
        began = time.perf_counter()
        self.tell({"event": "begun", "id": item.id, "row": item.row.where})
        try:
            if (self.album.place / item.file).exists():
                kept = self.album.adopt(item)
            else:
                kept = self.album.keep(item, self._picture(item), holds)
        except (Cancelled, MemoryError):
            raise
        except Exception as error:  # whatever it is, the other items go on
            if isinstance(error, OSError) and is_sick(error):
                raise
            told = (
                str(error) if isinstance(error, SakugaError) else f"{type(error).__name__}: {error}"
            )
            self.album.fail(item, told)
            self.tell({"event": "failed", "id": item.id, "row": item.row.where, "error": told})
            return
        seconds = time.perf_counter() - began
        if kept:
            self.tell({"event": "done", "id": item.id, "file": item.file, "seconds": seconds,
                       "row": item.row.where})  # fmt: skip
        else:
            self.tell({"event": "elsewhere", "id": item.id})

    def _picture(self, item: Item) -> bytes:
        """The file of an item's picture."""
        run = self.engine.plan(item.request)
        run.notes.extend((item.mark, *item.row.notes))
        with closing(self.engine.run(run)) as events:
            return self._watched(events)

    def _watched(self, events: Generator[Event, None, None]) -> bytes:
        for event in events:
            self._stop()
            if isinstance(event, Stepped):
                self.tell({"event": "step", "of": event.of, "memory": event.memory})
            elif isinstance(event, Warned):
                self.tell({"event": "warned", "message": event.message})
            elif isinstance(event, Finished):
                return event.result.png
        raise AssertionError("a drawing ends with a picture")

    def _stop(self) -> None:
        if self.stopping.is_set():
            raise Cancelled("a batch runs until it is done or stopped", "a signal", "Go on later.")


def digests(engine: Engine, request: Request) -> tuple[Any, ...]:
    """What is in the files that a request names, as far as it decides pixels."""
    fits = fitted(engine, request.lora, request.lora_partial)
    adapters = [plain(record(one, engine.digest)) | {"file": ""} for one in fits]
    pictures = [
        None if source is None else record_of(source).sha256
        for source in (request.image, request.mask)
    ]
    return adapters, pictures
