"""A dispatcher: the thread between the queue and one worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sakuga.errors import RequestError
from sakuga.files.png import Picture
from sakuga.prompt.document import read
from sakuga.prompt.tags import tags
from sakuga.server.cost import Cost
from sakuga.server.index import Drawn
from sakuga.server.job import CANCELLED, FAILED, FINISHED, QUEUED, Job
from sakuga.server.live import Feed, Feeds
from sakuga.server.logs import log
from sakuga.server.metrics import Metrics
from sakuga.server.names import Names
from sakuga.server.pipe import Message
from sakuga.server.queue import JobQueue
from sakuga.server.store import PictureStore
from sakuga.server.workers import SILENT, WorkerProcess

LOOK = 0.5  # seconds between looks at whether to stop
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a worker that does not start is tried again
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
    names: Names


@dataclass(slots=True)
class Drawing:
    """A job under way: its pictures so far, when it began, and when it was heard of last."""

    job: Job
    began: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    pace: float | None = None  # seconds of its slowest step
    pictures: list[Drawn] = field(default_factory=list)
    unwanted: bool = False


class Dispatcher:
    """Lets one worker draw one job after the other, and brings each to its end."""

    def __init__(self, stock: Stock, worker: WorkerProcess, idle: float) -> None:
        self._stock, self.worker, self._idle = stock, worker, idle
        self._stopping = threading.Event()
        self.drawing: Drawing | None = None
        self.trouble: str | None = None  # why it draws nothing now
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """Whether its worker lives and gets on; one that is asleep is woken by the next job."""
        if self.trouble:
            return False
        if not self.worker.alive:
            return not self.worker.starts or self.drawing is None
        drawing, now = self.drawing, time.monotonic()
        if not self.worker.ready or now - self.worker.beat > SILENT:
            return False
        patience = drawing and (drawing.pace or drawing.job.seconds)
        return drawing is None or now - drawing.heard <= SILENT + (patience or 0.0)

    def cancel(self, id: str) -> bool:
        """Let the job that is being drawn stop at its next step; False where it is another."""
        drawing = self.drawing
        if drawing is None or drawing.job.id != id:
            return False
        drawing.unwanted = True
        self.worker.tell({"do": "cancel", "job": id})
        return True

    def stop(self, patience: float) -> None:
        """Take no more jobs; the one under way gets some seconds, then waits for another server."""
        self._stopping.set()
        self._stock.queue.wake()
        if self._thread.is_alive():
            self._thread.join(patience)
        self.worker.kill()
        if self._thread.is_alive():
            self._thread.join(10)
        self.worker.end()

    def _run(self) -> None:
        asleep = time.monotonic() + self._idle
        self._ready()
        while not self._stopping.is_set():
            if not self._fit():
                continue
            job = self._stock.queue.next(LOOK)
            if job is not None:
                self._take(job)
                asleep = time.monotonic() + self._idle
            elif self.worker.ready and time.monotonic() > asleep:
                log("worker_asleep", {"memory": self.worker.memory})
                self.worker.end()

    def _fit(self) -> bool:
        """Whether a job can be begun now: there is room for what comes of it."""
        full = self._stock.store.full
        if full and full != self.trouble:
            log("queue_paused", {"why": full})
        self.trouble = full
        if full:
            self._stopping.wait(LOOK)
        return not full

    def _ready(self) -> bool:
        """Have a worker that is ready; False where the server is to end before."""
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            if self.worker.ready and self.worker.alive:
                return True
            if self.worker.starts:
                self._stock.metrics.restarts.inc()
            problem = self.worker.start()
            if problem is None:
                self.trouble = None
                log("worker_ready", {"pid": self.worker.pid, "device": self.worker.device})
                return True
            self.trouble = f"{problem['rule']}; got {problem['got']}. {problem['fix']}"
            log("worker_unfit", {"code": problem["code"]})
            self._stopping.wait(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)
        return False

    def _take(self, job: Job) -> None:
        """One job from its beginning to its end, or back into the queue."""
        stock, drawing = self._stock, Drawing(job)
        self.drawing = drawing
        stock.metrics.running.inc()
        stock.metrics.queue_time.observe(time.time() - job.created)
        stock.feeds.restate(job.id)
        stock.feeds.stir()
        died = True
        try:
            if self._ready() and not drawing.unwanted:
                drawing.began = drawing.heard = time.monotonic()
                request = stock.names.placed(job.request)
                self.worker.tell({"do": "draw", "job": job.id, "request": request})
                if drawing.unwanted:  # since: its worker may have had no ear for that
                    self.worker.tell({"do": "cancel", "job": job.id})
                while (message := self.worker.hear()) is not None:
                    if self._heard(drawing, message):
                        return
            else:
                died = False
            died = died and not self._stopping.is_set()
            self._lost(drawing, died)
        except RequestError as error:  # an adapter that was taken away since
            self._end(drawing, FAILED, {
                "code": error.code, "status": 400, "rule": error.rule, "got": error.got,
                "fix": error.fix,
            })  # fmt: skip
        except OSError as error:  # of the store: the disk is full, or gone
            log("disk_failed", {"errno": error.errno, "job": job.id})
            self.trouble = f"The store cannot be written to: {error.strerror}."
            self.worker.end()
            stock.queue.back(job.id, died=False)
            self._stopping.wait(FIRST_PAUSE)
        finally:
            self.drawing = None
            stock.metrics.running.dec()
            stock.feeds.restate(job.id, over=stock.queue.jobs.get(job.id).ended)
            stock.feeds.stir()

    def _lost(self, drawing: Drawing, died: bool) -> None:
        """A job whose worker is gone, or that was never begun."""
        if drawing.unwanted:
            self._end(drawing, CANCELLED, None)
            return
        job = self._stock.queue.back(drawing.job.id, died=died)
        log("job_back" if job.state == QUEUED else "job_poisonous",
            {"job": job.id, "deaths": job.deaths})  # fmt: skip
        if job.state == FAILED:
            self._count(drawing, FAILED, "job_crashed_worker")

    def _heard(self, drawing: Drawing, message: Message) -> bool:
        """Take in what the worker says of a job; True when that is over."""
        said, event = message.said, message.said["event"]
        if said.get("job") != drawing.job.id:
            return False
        now = time.monotonic()
        if event == "stepped":
            drawing.pace = max(drawing.pace or 0.0, now - drawing.heard)
        elif event == "encoded":
            self._stock.metrics.stages.labels("encode").observe(now - drawing.began)
        drawing.heard = now
        if event == "finished":
            self._picture(drawing, message)
        elif event == "done":
            self._end(drawing, FINISHED, None)
            self._stock.cost.learn(drawing.job.seconds, now - drawing.began)
        elif event == "failed":
            cancelled = said["code"] == "cancelled"
            error = {name: said[name] for name in ("code", "status")}
            scrubbed = self._stock.names.scrubbed
            error |= {name: scrubbed(said[name]) for name in ("rule", "got", "fix")}
            self._end(drawing, CANCELLED if cancelled else FAILED, None if cancelled else error)
        else:
            self._tell(drawing, message)
        return event in ("done", "failed")

    def _picture(self, drawing: Drawing, message: Message) -> None:
        said, (png, thumbnail) = message.said, message.blobs
        drawn = Drawn(
            f"{drawing.job.id}-{said['index']}", drawing.job.id, said["index"], time.time(),
            said["seconds"], said["receipt"], png, thumbnail,
        )  # fmt: skip
        self._stock.store.write(drawn)
        drawing.pictures.append(drawn)

    def _tell(self, drawing: Drawing, message: Message) -> None:
        """Let whoever watches know."""
        said, event = message.said, message.said["event"]
        if event == "warned":
            warning = {"code": said["code"], "message": said["message"]}
            self._stock.queue.warn(drawing.job.id, warning)
            self._stock.feeds.change(drawing.job.id, lambda feed: feed.warnings.append(warning))
            return

        def change(feed: Feed) -> None:
            feed.stage = STAGES.get(event, feed.stage)
            if event == "encoded":
                feed.began = time.monotonic()
            if event == "stepped":
                feed.step, feed.steps = said["index"], said["of"]
                feed.stage = "decode" if feed.step == feed.steps else "denoise"
                feed.previews = tuple(
                    Picture(width, height, rgb)
                    for (width, height), rgb in zip(said["sizes"], message.blobs, strict=True)
                )

        self._stock.feeds.change(drawing.job.id, change)

    def _end(self, drawing: Drawing, state: str, error: Mapping[str, Any] | None) -> None:
        """Bring a job to its end, with its pictures or without: all of it at once."""
        stock, job = self._stock, drawing.job
        stock.queue.end(
            job.id, state, error,
            lambda: stock.store.index.enter(drawing.pictures, prompt_tags(job.request["prompt"])),
        )  # fmt: skip
        if state == FINISHED:
            stock.store.keep_limit()
        else:
            stock.store.discard(drawing.pictures)
        self._count(drawing, state, error["code"] if error else None)

    def _count(self, drawing: Drawing, state: str, code: str | None) -> None:
        metrics, seconds = self._stock.metrics, time.time() - drawing.job.created
        metrics.jobs.labels(state).inc()
        metrics.latency.labels(state).observe(seconds)
        if state == FINISHED:
            metrics.pictures.inc(len(drawing.pictures))
            metrics.batch.observe(len(drawing.pictures))
        if state == CANCELLED:
            metrics.cancelled.labels("running").inc()
        if code:
            metrics.failed.labels(code).inc()
        log("job_ended", {
            "job": drawing.job.id, "state": state, "seconds": round(seconds, 3), "code": code,
        })  # fmt: skip


def prompt_tags(prompt: str) -> list[str]:
    """The tags that pictures of a prompt are found by."""
    document = read(prompt)
    found = {
        tag.key: None for block in document.blocks for part in block.fields for tag in tags(part)
    }
    return list(found)[:MOST_TAGS]
