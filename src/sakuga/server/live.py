"""What goes on, as it is watched: of each job how far it is and how it looks, the newest alone."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sakuga.files.png import Picture

MOST_LINE = 47_000  # bytes of a preview: as base64 and in JSON it is a line of less than 64 kB


@dataclass(slots=True)
class Feed:
    """One job as it is watched. Whoever watches compares `state` and `step` with what it saw."""

    state: int = 0  # counts changes
    stage: str = ""
    step: int = 0
    steps: int = 0
    began: float | None = None
    previews: tuple[Picture, ...] = ()
    warnings: list[dict[str, Any]] = field(default_factory=list)
    watchers: set[asyncio.Event] = field(default_factory=set)

    @property
    def progress(self) -> dict[str, Any] | None:
        """How far it is; None before it begins."""
        if not self.stage:
            return None
        share = self.step / self.steps if self.steps else 0.0
        eta = None
        if self.began is not None and self.step:
            eta = (time.monotonic() - self.began) / self.step * (self.steps - self.step)
        return {
            "stage": self.stage, "step": self.step, "steps": self.steps,
            "fraction": round(share, 4), "eta": None if eta is None else round(eta, 3),
        }  # fmt: skip


class Feeds:
    """The feeds of jobs that are not over, or are still watched. Threads write, one loop reads."""

    def __init__(self) -> None:
        self._feeds: dict[str, Feed] = {}
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run_in(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop that watchers live in."""
        self._loop = loop

    def change(self, job: str, change: Callable[[Feed], None]) -> None:
        """Change a feed, and tell whoever watches it."""
        with self._lock:
            feed = self._feeds.setdefault(job, Feed())
            change(feed)
        self._wake(feed)

    def restate(self, job: str, *, over: bool = False) -> None:
        """Tell that the state of a job is another one; `over`: its last."""
        self.change(job, _restated)
        if over:
            with self._lock:
                feed = self._feeds.get(job)  # whoever watched may have left since
                if feed is not None and not feed.watchers:
                    del self._feeds[job]

    def stir(self) -> None:
        """Tell all who watch: places in the queue are others now."""
        with self._lock:
            feeds = list(self._feeds.values())
        for feed in feeds:
            self._wake(feed)

    def seen(self, job: str) -> Feed:
        """The feed of a job as it is; an empty one where nothing was told."""
        with self._lock:
            return self._feeds.get(job) or Feed()

    def watch(self, job: str) -> tuple[Feed, asyncio.Event]:
        """The feed of a job, and an event that is set at every change."""
        event = asyncio.Event()
        with self._lock:
            feed = self._feeds.setdefault(job, Feed())
            feed.watchers.add(event)
        return feed, event

    def leave(self, job: str, event: asyncio.Event, *, over: bool) -> None:
        """Watch no more; `over`: the job has ended."""
        with self._lock:
            feed = self._feeds.get(job)
            if feed is None:
                return
            feed.watchers.discard(event)
            if over and not feed.watchers:
                del self._feeds[job]

    def _wake(self, feed: Feed) -> None:
        if self._loop is not None and feed.watchers:
            self._loop.call_soon_threadsafe(_set_all, tuple(feed.watchers))


def _set_all(events: tuple[asyncio.Event, ...]) -> None:
    for event in events:
        event.set()


def _restated(feed: Feed) -> None:
    feed.state += 1


def encode_preview(preview: Picture) -> tuple[str, bytes]:
    """A preview as a file that fits on one line of a stream: its kind, and its bytes."""
    from PIL import Image  # noqa: PLC0415  # a server that starts needs none

    image = Image.frombytes("RGB", (preview.width, preview.height), preview.rgb)
    image.thumbnail((256, 256))
    for kind, options in (("png", {}), ("jpeg", {"quality": 85}), ("jpeg", {"quality": 40})):
        file = io.BytesIO()
        image.save(file, kind, **options)
        if file.tell() <= MOST_LINE:
            break
    return kind, file.getvalue()
