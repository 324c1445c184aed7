"""A dispatcher: the thread between the queue and one worker."""

from __future__ import annotations

import threading
import time

from sakuga.errors import RequestError
from sakuga.server.drawing import DrawnJob, Stock
from sakuga.server.job import FAILED, Job
from sakuga.server.logs import log
from sakuga.server.workers import SILENT, WorkerProcess

LOOK = 0.5  # seconds between looks at whether to stop
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a worker that does not start is tried again


class Dispatcher:
    """Lets one worker draw one job after the other, and brings each to its end."""

    def __init__(self, stock: Stock, worker: WorkerProcess, idle: float) -> None:
        self._stock, self.worker, self._idle = stock, worker, idle
        self._stopping = threading.Event()
        self.drawing: DrawnJob | None = None
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

    def halt(self) -> None:
        """Take no more jobs; the one under way goes on."""
        self._stopping.set()
        self._stock.queue.wake()

    def stop(self, patience: float) -> None:
        """As `halt`; the one under way gets some seconds, then waits for another server."""
        self.halt()
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
            elif self.worker.ready and not self.worker.alive:
                self._ready()  # it died of itself
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
        stock = self._stock
        drawing = self.drawing = DrawnJob(stock, job)
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
                    if drawing.take(message):
                        return
            else:
                died = False
            died = died and not self._stopping.is_set()
            drawing.lost(died)
        except RequestError as error:  # an adapter that was taken away since
            drawing.end(FAILED, {
                "code": error.code, "status": 400, "rule": error.rule, "got": error.got,
                "fix": error.fix,
            })  # fmt: skip
        except OSError as error:  # of the store: the disk is full, or gone
            log("disk_failed", {"errno": error.errno, "job": job.id})
            self.trouble = f"The store cannot be written to: {error.strerror}."
            self.worker.end()
            stock.queue.back(job.id, died=False)
            self._stopping.wait(FIRST_PAUSE)
        except Exception as error:  # this thread draws the next one, whatever was wrong with this
            log("dispatcher_error", {"kind": type(error).__name__, "job": job.id})
            self.worker.end()
            stock.queue.back(job.id, died=True)
        finally:
            self.drawing = None
            stock.metrics.running.dec()
            stock.feeds.restate(job.id, over=stock.queue.jobs.get(job.id).ended)
            stock.feeds.stir()
