"""A worker as its server sees it: a process that is started, told, listened to, and ended."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sakuga.api.codec import plain
from sakuga.api.engine_spec import EngineSpec
from sakuga.server.pipe import Message, receive, send

SILENT = 5.0  # seconds without a beat after which a worker counts as hung


@dataclass(frozen=True, slots=True)
class Opening:
    """What a worker is started with: its engine, and failures on order for tests."""

    spec: EngineSpec
    faults: str = ""


class WorkerProcess:
    """One worker. One thread draws through it; any thread may look at it, cancel, or kill it."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._said: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self.ready, self.device, self.memory = False, "", 0
        self.beat = self.heard = time.monotonic()
        self.starts = 0

    @property
    def alive(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The process, if there is one."""
        return self._process.pid if self._process is not None and self.alive else None

    def start(self) -> Mapping[str, Any] | None:
        """Start it and wait until it is ready; what it said where it cannot be."""
        self.end()
        self.beat = self.heard = time.monotonic()
        self.starts += 1
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sakuga.server.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        spec = plain(self._opening.spec)
        self._said = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(self._process, self._said), daemon=True).start()
        self.tell({"spec": spec, "faults": self._opening.faults})
        while (message := self.hear()) is not None:
            if message.said["event"] == "ready":
                self.ready, self.device = True, message.said["device"]
                return None
            if message.said["event"] == "unfit":
                break
        self.end()
        return message.said if message else {
            "code": "worker_lost", "rule": "a worker starts", "got": "one that ended before",
            "fix": "See the log.", "status": 503,
        }  # fmt: skip

    def tell(self, said: Mapping[str, Any]) -> None:
        """Send it something; one that is gone hears nothing."""
        process = self._process
        if process is None or process.stdin is None:
            return
        with self._lock, contextlib.suppress(OSError, ValueError):
            send(process.stdin, Message(said))  # type: ignore[arg-type]

    def hear(self) -> Message | None:
        """The next thing it says but that it lives; None where it is gone."""
        return self._said.get()

    def kill(self) -> None:
        """End its process at once; whoever listens to it hears nothing more."""
        if self._process is not None:
            self._process.kill()

    def end(self) -> None:
        """End it, if it is there, and let go of all of it."""
        process, self._process = self._process, None
        self.ready, self.memory = False, 0
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _listen(
        self, process: subprocess.Popen[bytes], said: queue.SimpleQueue[Message | None]
    ) -> None:
        """Read what one process says until it is gone, also while nobody waits for it."""
        assert process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            while (message := receive(process.stdout)) is not None:  # type: ignore[arg-type]
                self.beat = time.monotonic()
                if message.said["event"] == "beat":
                    self.memory = message.said["memory"]
                    continue
                self.heard = self.beat
                said.put(message)
        said.put(None)
