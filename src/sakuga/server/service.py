"""All of a server but its routes: queue, pictures, workers, and how they begin and end."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from dataclasses import replace
from pathlib import Path

from sakuga.api.engine_spec import EngineSpec
from sakuga.server.cost import Cost, served
from sakuga.server.database import Database
from sakuga.server.desk import Desk, Order
from sakuga.server.dispatch import Dispatcher
from sakuga.server.drawing import Stock
from sakuga.server.job import Job
from sakuga.server.live import Feeds
from sakuga.server.logs import log
from sakuga.server.metrics import Metrics
from sakuga.server.names import PublicNames
from sakuga.server.queue import JobQueue
from sakuga.server.refused import Refused
from sakuga.server.settings import ServerSettings
from sakuga.server.store import PictureStore
from sakuga.server.workers import Opening, WorkerProcess

TICK = 1.0  # seconds between looks at the workers
FORGETS = 600.0  # seconds between looks at jobs that ended long ago
CANCEL = 10.0  # seconds that a cancel waits for a step to end


class Service:
    """One server's work. Routes ask it; nothing in it knows HTTP."""

    def __init__(self, settings: ServerSettings, spec: EngineSpec, faults: str = "") -> None:
        """Open all of it; nothing runs before `start`.

        Raises Busy where the store has a server, ModelNotFound, WeightsError, RequestError.
        """
        assert settings.store is not None
        self.settings, self.spec = settings.checked(), spec
        self.model = served(spec)
        folder = Path(settings.store)
        self.database = Database(folder)
        self.metrics, self.feeds = Metrics(), Feeds()
        self.store = PictureStore(self.database, folder, settings.store_limit, settings.reserve)
        self.queue = JobQueue(self.database, settings.queue, settings.queue_seconds)
        cost = Cost(self.model, self.database)
        self.names = PublicNames(
            settings.adapters, (settings.store, spec.cache, *spec.parts, spec.model)
        )
        self.desk = Desk(
            self.model, self.queue, self.store, cost, self.names, settings.request_seconds
        )
        stock = Stock(self.queue, self.store, self.feeds, self.metrics, cost, self.names)
        self.dispatchers = [
            Dispatcher(
                stock, WorkerProcess(Opening(_nth(spec, index, settings), faults)), settings.idle
            )
            for index in range(settings.workers)
        ]
        self.draining = False
        self._over = threading.Event()

    @property
    def name(self) -> str:
        """What its model is called."""
        return self.model.model.name

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the workers begin. loop: where jobs are watched."""
        self.feeds.run_in(loop)
        for each in self.dispatchers:
            each.start()
        threading.Thread(target=self._watch, daemon=True).start()

    def drain(self) -> None:
        """Take nothing more, and begin nothing: what waits is drawn by the next server."""
        self.draining = True
        for each in self.dispatchers:
            each.halt()

    def hurry(self) -> None:
        """Let jobs under way wait for another server."""
        for each in self.dispatchers:
            each.worker.kill()

    def close(self) -> None:
        """End: jobs under way get the time that the settings give, the rest stays on disk."""
        self.drain()
        self._over.set()
        until = time.monotonic() + self.settings.drain
        for each in self.dispatchers:
            each.stop(max(0.0, until - time.monotonic()))
        self.database.close()

    def accept(self, order: Order) -> Job:
        """Take an order. Raises RequestError and Refused, with why and how to mend it."""
        if self.draining:
            raise Refused("draining", "a server that ends takes nothing", "one more job",
                          "Try again when it is back.", 503, 10)  # fmt: skip
        if (trouble := self.trouble) is not None and self.store.full:
            raise Refused("disk_full", "pictures need room on the disk", trouble,
                          "Try again when there is some.", 503, 60)  # fmt: skip
        job = self.desk.accept(order)
        self.feeds.restate(job.id)
        return job

    def cancel(self, id: str) -> Job:
        """End a job, and wait until it has ended; one that has ended stays as it is."""
        until = time.monotonic() + CANCEL
        while not (job := self.queue.jobs.get(id)).ended and time.monotonic() < until:
            if self.queue.cancel(id):
                self.metrics.cancelled.labels("queued").inc()
                self.feeds.restate(id, over=True)
                self.feeds.stir()
                continue
            for each in self.dispatchers:
                each.cancel(id)
            time.sleep(0.02)
        return job

    @property
    def trouble(self) -> str | None:
        """Why nothing is being drawn, where that is not as it should be."""
        found = [each.trouble for each in self.dispatchers]
        return found[0] if all(found) else None

    @property
    def ready(self) -> str | None:
        """None if a job would be drawn soon; else why not."""
        if self.draining:
            return "draining"
        if self.queue.waiting >= self.settings.queue:
            return "the queue is full"
        if self.trouble:
            return self.trouble
        if not any(each.healthy for each in self.dispatchers):
            return "no worker is ready"
        return None

    def _watch(self) -> None:
        """End workers that hang, and forget what is long over."""
        forgotten = -math.inf
        while not self._over.wait(TICK):
            now, hang = time.monotonic(), self.settings.hang
            if now - forgotten > FORGETS:
                self.queue.jobs.forget()
                forgotten = now
            workers = [each.worker for each in self.dispatchers]
            self.metrics.memory.set(sum(one.memory for one in workers))
            self.metrics.waiting.set(self.queue.waiting)
            for each in self.dispatchers:
                quiet = now - each.worker.beat
                if each.drawing is not None:
                    quiet = max(quiet, now - each.drawing.heard)
                if each.worker.alive and quiet > hang:
                    log("worker_hung", {"pid": each.worker.pid, "seconds": round(quiet, 1)})
                    each.worker.kill()


def _nth(spec: EngineSpec, index: int, settings: ServerSettings) -> EngineSpec:
    """The engine of one of several workers: a card each, where there are cards."""
    if settings.workers == 1 or spec.device not in ("auto", "cuda"):
        return spec
    from sakuga.memory.monitor import first_card  # noqa: PLC0415  # only of several workers

    return spec if first_card() is None else replace(spec, device=f"cuda:{index}")
