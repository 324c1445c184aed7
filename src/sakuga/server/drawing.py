"""One job while a worker draws it: what it hears of it, and how that ends."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sakuga.api.codec import typed
from sakuga.api.receipt import Receipt
from sakuga.files.png import Picture
from sakuga.prompt.document import read
from sakuga.prompt.tags import tags
from sakuga.server.cost import Cost
from sakuga.server.index import Drawn
from sakuga.server.job import CANCELLED, FAILED, FINISHED, QUEUED, Job
from sakuga.server.live import Feed, Feeds
from sakuga.server.logs import log
from sakuga.server.metrics import Metrics
from sakuga.server.names import PublicNames
from sakuga.server.pipe import Message
from sakuga.server.queue import JobQueue
from sakuga.server.store import PictureStore

STAGES = {"planned": "encode", "encoded": "denoise", "decoded": "save"}  # what comes after
MOST_TAGS = 256  # of a prompt that its pictures are found by


@dataclass(frozen=True, slots=True)
class Stock:
    """What dispatchers work on."""

    queue: JobQueue
    store: PictureStore
    feeds: Feeds
    metrics: Metrics
    cost: Cost
    names: PublicNames


@dataclass(slots=True)
class DrawnJob:
    """A job under way: its pictures so far, when it began, and when it was heard of last."""

    stock: Stock
    job: Job
    began: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    pace: float | None = None  # seconds of its slowest step
    pictures: list[Drawn] = field(default_factory=list)
    unwanted: bool = False

    def lost(self, died: bool) -> None:
        """A job whose worker is gone, or that was never begun."""
        if self.unwanted:
            self.end(CANCELLED, None)
            return
        job = self.stock.queue.back(self.job.id, died=died)
        log("job_back" if job.state == QUEUED else "job_poisonous",
            {"job": job.id, "deaths": job.deaths})  # fmt: skip
        if job.state == FAILED:
            self._count(FAILED, "job_crashed_worker")

    def take(self, message: Message) -> bool:
        """Take in what the worker says of a job; True when that is over."""
        said, event = message.said, message.said["event"]
        if said.get("job") != self.job.id:
            return False
        now = time.monotonic()
        if event == "stepped":
            self.pace = max(self.pace or 0.0, now - self.heard)
        elif event == "encoded":
            self.stock.metrics.stages.labels("encode").observe(now - self.began)
        self.heard = now
        if event == "finished":
            self._picture(message)
        elif event == "done":
            self.end(FINISHED, None)
            drawn = typed(Receipt, self.pictures[0].receipt, "receipt")
            self.stock.cost.learn(drawn.request, now - self.began)
        elif event == "failed":
            cancelled = said["code"] == "cancelled"
            error = {name: said[name] for name in ("code", "status")}
            scrubbed = self.stock.names.scrubbed
            error |= {name: scrubbed(said[name]) for name in ("rule", "got", "fix")}
            self.end(CANCELLED if cancelled else FAILED, None if cancelled else error)
        else:
            self._tell(message)
        return event in ("done", "failed")

    def _picture(self, message: Message) -> None:
        said, (png, thumbnail) = message.said, message.blobs
        drawn = Drawn(
            f"{self.job.id}-{said['index']}", self.job.id, said["index"], time.time(),
            said["seconds"], said["receipt"], png, thumbnail,
        )  # fmt: skip
        self.stock.store.write(drawn)
        self.pictures.append(drawn)

    def _tell(self, message: Message) -> None:
        """Let whoever watches know."""
        said, event = message.said, message.said["event"]
        if event == "warned":
            warning = {"code": said["code"], "message": said["message"]}
            self.stock.queue.warn(self.job.id, warning)
            self.stock.feeds.change(self.job.id, lambda feed: feed.warnings.append(warning))
            return

        def change(feed: Feed) -> None:
            feed.stage = STAGES.get(event, feed.stage)
            if event == "planned":
                feed.step = feed.steps = 0  # of a worker that did not come to the end
            if event == "encoded":
                feed.began = time.monotonic()
            if event == "stepped":
                feed.step, feed.steps = said["index"], said["of"]
                feed.stage = "decode" if feed.step == feed.steps else "denoise"
                feed.previews = tuple(
                    Picture(width, height, rgb)
                    for (width, height), rgb in zip(said["sizes"], message.blobs, strict=True)
                )

        self.stock.feeds.change(self.job.id, change)

    def end(self, state: str, error: Mapping[str, Any] | None) -> None:
        """Bring a job to its end, with its pictures or without: all of it at once."""
        stock, job = self.stock, self.job
        stock.queue.end(
            job.id, state, error,
            lambda: stock.store.index.enter(self.pictures, prompt_tags(job.request["prompt"])),
        )  # fmt: skip
        if state == FINISHED:
            stock.store.keep_limit()
        else:
            stock.store.discard(self.pictures)
        self._count(state, error["code"] if error else None)

    def _count(self, state: str, code: str | None) -> None:
        metrics, seconds = self.stock.metrics, time.time() - self.job.created
        metrics.jobs.labels(state).inc()
        metrics.latency.labels(state).observe(seconds)
        if state == FINISHED:
            metrics.pictures.inc(len(self.pictures))
            metrics.batch.observe(len(self.pictures))
        if state == CANCELLED:
            metrics.cancelled.labels("running").inc()
        if code:
            metrics.failed.labels(code).inc()
        log("job_ended", {
            "job": self.job.id, "state": state, "seconds": round(seconds, 3), "code": code,
        })  # fmt: skip


def prompt_tags(prompt: str) -> list[str]:
    """The tags that pictures of a prompt are found by."""
    document = read(prompt)
    found = {
        tag.key: None for block in document.blocks for part in block.fields for tag in tags(part)
    }
    return list(found)[:MOST_TAGS]
