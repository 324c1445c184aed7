"""A worker: a process with one warm engine, which draws what its server sends it.

It tells each event of a drawing, says every second that it lives, and ends when its server does.
"""

from __future__ import annotations

import contextlib
import io
import os
import queue
import signal
import threading
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from sakuga.api.codec import plain, typed
from sakuga.api.engine_spec import EngineSpec
from sakuga.api.events import (
    Event,
    Finished,
    ImageGenerator,
    Planned,
    Stepped,
    Warned,
)
from sakuga.api.request import Request
from sakuga.errors import Cancelled, SakugaError
from sakuga.files.png import Picture
from sakuga.server.logs import log
from sakuga.server.pipe import Message, receive, send

if TYPE_CHECKING:
    from sakuga.engine.faults import Faults

BEAT = 1.0  # seconds
THUMBNAIL = 256  # pixels of its longer side
POISONED = 70  # exit code: the device is of no use to this process any more


class Inbox:
    """What the server says: jobs in turn, and at any moment that one of them is not wanted."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._unwanted = file, set[str]()
        self._jobs: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._drawn: str | None = None
        threading.Thread(target=self._read, daemon=True).start()

    def next(self) -> Message:
        """The next job, as soon as there is one."""
        self._drawn = None
        message = self._jobs.get()
        self._drawn = message.said["job"]
        return message

    def check(self, *_: Any) -> None:
        """Raise Cancelled if what is being drawn is not wanted any more."""
        if self._drawn in self._unwanted:
            raise Cancelled("a job is drawn to its end", "a client who left", "Nothing is kept.")

    def _read(self) -> None:
        while (message := receive(self._file)) is not None:
            if message.said["do"] == "cancel":
                self._unwanted.add(message.said["job"])
            else:
                self._jobs.put(message)
        os._exit(0)  # the server is gone, and nobody waits for what is being drawn


class Outbox:
    """What the server is told; both the engine's thread and that of the beat write to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._lock = file, threading.Lock()
        threading.Thread(target=self._beat, daemon=True).start()

    def tell(self, said: dict[str, Any], *blobs: bytes) -> None:
        """Send one message; without a server there is nothing left to do."""
        try:
            with self._lock:
                send(self._file, Message(said, blobs))
        except (OSError, ValueError):
            os._exit(0)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT)
            self.tell({"event": "beat", "memory": resident()})


def main() -> NoReturn:
    """Draw until the server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the server decides
    inner, outer = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a library prints must not end up among messages
    first = receive(inner)
    if first is None:
        os._exit(0)
    outbox = Outbox(outer)
    inbox = Inbox(inner)
    try:
        engine = _opened(first, inbox)
    except SakugaError as error:
        outbox.tell({"event": "unfit", **_problem(error)})
        os._exit(1)
    outbox.tell({"event": "ready", "device": str(engine.device.where)})
    while True:
        message = inbox.next()
        _draw(engine, message.said, inbox, outbox)


def _opened(first: Message, inbox: Inbox) -> Any:
    from sakuga.engine.engine import Engine  # noqa: PLC0415  # it takes seconds: beats come first
    from sakuga.engine.faults import Faults  # noqa: PLC0415

    faults: Faults | None = Faults(first.said["faults"]) if first.said["faults"] else None
    observers = (inbox.check, *((faults.strike,) if faults else ()))
    return Engine.open(typed(EngineSpec, first.said["spec"]), observers=observers)


def _draw(engine: ImageGenerator, said: Any, inbox: Inbox, outbox: Outbox) -> None:
    """One job: its events, then how it ended."""
    job = said["job"]
    try:
        with contextlib.closing(engine.generate(typed(Request, said["request"]))) as events:
            _tell(job, events, inbox, outbox)
        outbox.tell({"event": "done", "job": job})
    except SakugaError as error:
        outbox.tell({"event": "failed", "job": job, **_problem(error)})
    except Exception as error:  # whatever a library raises must not end the engine
        if _poisons(error):
            os._exit(POISONED)
        log("worker_error", {"job": job, "kind": type(error).__name__})
        outbox.tell({
            "event": "failed", "job": job, "code": "error", "rule": "a job is drawn to its end",
            "got": f"an error of another kind ({type(error).__name__})",
            "fix": "Report it, with the receipt of a picture like it.", "status": 500,
        })  # fmt: skip


def _tell(job: str, events: Generator[Event, None, None], inbox: Inbox, outbox: Outbox) -> None:
    for event in events:
        inbox.check()
        said: dict[str, Any] = {"event": event.event, "job": job}
        blobs: list[bytes] = []
        if isinstance(event, Planned):
            said |= {"seconds": sum(stage.seconds for stage in event.plan.stages)}
        elif isinstance(event, Stepped):
            said |= {"index": event.index, "of": event.of}
            said |= {"sizes": [[one.width, one.height] for one in event.previews]}
            blobs = [one.rgb for one in event.previews]
        elif isinstance(event, Warned):
            said |= {"code": event.code, "message": event.message}
        elif isinstance(event, Finished):
            receipt = event.result.receipt
            said |= {"receipt": plain(receipt), "index": receipt.index}
            said |= {"seconds": event.result.seconds}
            blobs = [event.result.png, thumbnail(event.result.picture)]
        outbox.tell(said, *blobs)


def thumbnail(picture: Picture) -> bytes:
    """A small WebP of a picture."""
    from PIL import Image  # noqa: PLC0415  # once there is a picture

    image = Image.frombytes("RGB", (picture.width, picture.height), picture.rgb)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=80)
    return file.getvalue()


def resident() -> int:
    """Bytes of memory of this process; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _problem(error: SakugaError) -> dict[str, Any]:
    return {
        "code": error.code, "rule": error.rule, "got": error.got, "fix": error.fix,
        "status": error.http_status,
    }  # fmt: skip


def _poisons(error: Exception) -> bool:
    """Whether a device refuses everything after it; out of memory is another matter."""
    text = f"{type(error).__name__} {error}"
    return ("CUDA error" in text or "AcceleratorError" in text) and "out of memory" not in text


if __name__ == "__main__":
    main()
