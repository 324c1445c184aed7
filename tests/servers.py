"""A server as people start it, in a process of its own, and how tests talk to it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

LONG = 120.0  # seconds, where two cores are shared by many
SMALL = {"width": 128, "height": 128, "steps": 1}


class Answer:
    """An answer: its status, its headers in lower case, its body."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status, self.body = answer.status, answer.read()
        self.headers = {name.lower(): value for name, value in answer.getheaders()}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RunningServer:
    """`sakuga serve` under way."""

    def __init__(self, store: Path, *args: str, env: Mapping[str, str] | None = None) -> None:
        self.store, self.lines = store, list[str]()
        command = [sys.executable, "-m", "sakuga", "serve", "--port", "0", "--store", str(store)]
        self.process = subprocess.Popen(
            [*command, *args], stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = int(wait_for(self._port, "a port"))

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def _port(self) -> str | None:
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended: {self.lines}")
        found = re.search(r"sakuga serves http://[^ ]*:(\d+)", "\n".join(self.lines))
        return found[1] if found else None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def logged(self, event: str) -> list[dict[str, Any]]:
        told = [json.loads(line) for line in list(self.lines) if line.startswith("{")]
        return [one for one in told if one["event"] == event]

    def worker(self, nth: int = 1) -> int:
        """The process of the worker that was ready as the nth."""
        wait_for(lambda: len(self.logged("worker_ready")) >= nth, f"worker {nth}")
        return int(self.logged("worker_ready")[nth - 1]["pid"])

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None,
        timeout: float = LONG,
    ) -> Answer:  # fmt: skip
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        sent = dict(headers or {})
        data = body
        if body is not None and not isinstance(body, bytes):
            data = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, data, sent)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def submit(
        self, prompt: str = "1girl, red_hair", priority: str = "normal", **fields: Any
    ) -> str:
        body = {"request": {"prompt": prompt, **SMALL, **fields}, "priority": priority}
        answer = self.ask("POST", "/sakuga/v1/jobs", body)
        assert answer.status == 202, answer.body
        return str(answer.json["id"])

    def job(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"/sakuga/v1/jobs/{id}").json
        return found

    def ended(self, id: str) -> dict[str, Any]:
        def over() -> dict[str, Any] | None:
            job = self.job(id)
            return job if job["state"] in ("finished", "failed", "cancelled") else None

        return wait_for(over, f"the end of {id}")

    def begun(self, id: str) -> None:
        wait_for(lambda: (self.job(id)["progress"] or {}).get("step"), f"a step of {id}")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LONG)

    def __enter__(self) -> RunningServer:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        self._reader.join(10)  # until its last worker has gone too
        assert self.process.stderr is not None
        self.process.stderr.close()


def wait_for(found: Callable[[], Any], what: str, seconds: float = LONG) -> Any:
    """What is found, as soon as it is something."""
    until = time.monotonic() + seconds
    while not (one := found()):
        assert time.monotonic() < until, f"no {what} within {seconds:g} s"
        time.sleep(0.03)
    return one


def alive(pid: int) -> bool:
    """Whether a process is there, and no remains of one."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def events_of(server: RunningServer, path: str) -> Iterator[tuple[str, Any]]:
    """The events of a stream, each with its data; no line is longer than readers take."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=LONG)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200
    name = ""
    try:
        for raw in answer:
            assert len(raw) <= 64 << 10
            line = raw.decode().rstrip("\n")
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                yield name, json.loads(line[6:])
    finally:
        connection.close()


def memory(pid: int) -> int:
    """Bytes of memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def percentile(values: Sequence[float], share: float) -> float:
    """The value that a share of the others does not pass."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
