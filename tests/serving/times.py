"""How long a server takes besides drawing, and how it turns away what is too much."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from servers import RunningServer, memory, percentile, wait_for

ASKED = {"prompt": "1girl", "size": "128x128", "num_inference_steps": 1, "seed": 1,
         "response_format": "b64_json"}  # fmt: skip


def overheads(store: Path, count: int) -> Iterator[tuple[str, str, bool]]:
    """Of a request by its own time stamps: accepted to begun, and drawn to the last byte."""
    with RunningServer(store) as server:
        server.ended(server.submit())
        before, behind = [], []
        for _ in range(count):
            answer = server.ask("POST", "/v1/images/generations", ASKED)
            now = time.time()
            job = server.job(answer.json["id"].removeprefix("img-"))
            before.append(job["started"] - job["created"])
            behind.append(now - job["finished"])
        for name, found in (("accepted to begun", before), ("drawn to last byte", behind)):
            p50, p99 = (1000 * percentile(found, share) for share in (0.5, 0.99))
            yield name, f"p50 {p50:.1f} ms, p99 {p99:.1f} ms", p50 <= 15 and p99 <= 60
        yield from _health(server)


def _health(server: RunningServer) -> Iterator[tuple[str, str, bool]]:
    busy, found = server.submit(steps=100), []
    server.begun(busy)
    for _ in range(200):
        began = time.monotonic()
        server.ask("GET", "/health")
        found.append(1000 * (time.monotonic() - began))
    server.ask("DELETE", f"/sakuga/v1/jobs/{busy}")
    p99 = percentile(found, 0.99)
    yield "health while a picture is drawn", f"p99 {p99:.1f} ms", p99 <= 50


def flood(store: Path, count: int) -> Iterator[tuple[str, str, bool]]:
    """Requests over 16 connections against a full queue."""
    with RunningServer(store, "--queue", "2") as server:
        for seed in range(3):
            wait_for(lambda: server.ask("GET", "/health/ready").status == 200, "readiness")
            server.submit(steps=200, number=4, seed=seed)
        found, codes = list[float](), set[int]()
        server.ask("POST", "/v1/images/generations", ASKED)
        before = memory(server.process.pid)

        def ask() -> None:
            kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            for _ in range(count // 16):
                began = time.monotonic()
                kept.request("POST", "/v1/images/generations", json.dumps(ASKED).encode(),
                             {"Content-Type": "application/json"})  # fmt: skip
                answer = kept.getresponse()
                answer.read()
                codes.add(answer.status)
                found.append(1000 * (time.monotonic() - began))
            kept.close()

        threads = [threading.Thread(target=ask) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        grown = (memory(server.process.pid) - before) / 2**20
        p99 = percentile(found, 0.99)
        told = f"{len(found)} requests, statuses {sorted(codes)}, p99 {p99:.0f} ms"
        yield "a full queue turns away", told, codes == {429} and p99 <= 50
        yield "a full queue grows no more", f"{grown:+.1f} MiB", grown <= 20
