"""Kills and cancels at random moments, and what is left of every job."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from servers import RunningServer, memory, wait_for

Line = tuple[str, str, bool]


def cancels(store: Path, count: int) -> Iterator[Line]:
    """Cancels at random steps, with a job of somebody else behind each tenth."""
    dice = random.Random(0)
    with RunningServer(store) as server:
        server.ended(server.submit(steps=4))
        others, waits, states = [], [], set()
        for index in range(count):
            id = server.submit(steps=100)
            if index % 10 == 0:
                others.append(server.submit(seed=1))
            server.begun(id)
            time.sleep(dice.random() * 0.3)
            began = time.monotonic()
            states.add(server.ask("DELETE", f"/sakuga/v1/jobs/{id}").json["state"])
            waits.append(time.monotonic() - began)
        ends = {server.ended(id)["state"] for id in others}
        counts = server.ask("GET", "/sakuga/v1/jobs?limit=1").json["counts"]
        left = counts["queued"] + counts["running"]
        slowest = max(waits)
        told = f"{count}: {sorted(states)}, slowest {1000 * slowest:.0f} ms"
        yield "cancelled within a step", told, states == {"cancelled"}
        yield "no others with them", f"{len(others)}: {sorted(ends)}", ends == {"finished"}
        yield "no slot is lost", f"{left} left", left == 0


def kills(store: Path, count: int) -> Iterator[Line]:
    """SIGKILL of the server or of its worker at random moments under load."""
    dice, ids, back = random.Random(1), list[str](), list[float]()
    server = RunningServer(store, "--queue", "1000")
    try:
        for index in range(count):
            for _ in range(2):
                ids.append(server.submit(steps=dice.randint(1, 3), seed=len(ids)))
            time.sleep(dice.random() * 2)
            if index % 2:
                server.kill()
                server.__exit__()
                server = RunningServer(store, "--queue", "1000")
                continue
            nth = len(server.logged("worker_ready"))
            if nth and server.ask("GET", "/health/ready").status == 200:
                began = time.monotonic()
                os.kill(server.worker(nth), signal.SIGKILL)
                server.worker(nth + 1)
                back.append(time.monotonic() - began)
        ends = [server.ended(id) for id in ids]
        wrong = [job["id"] for job in ends if job["state"] != "finished"]
        files = sorted(file.stem for file in (store / "pictures").glob("*.png"))
        doubled = len(files) - len(set(files))
        whole = files == sorted(f"{id}-0" for id in ids)
        poison = [job for job in ends if job["error"]]
        told = f"{count} kills, {len(ids)} jobs, {len(wrong)} not finished ({len(poison)} poison)"
        yield "nothing is lost", told, not wrong
        yield "nothing is doubled", f"{len(files)} files, {doubled} doubled", whole
        if back:
            yield "a worker is back", f"slowest {max(back):.1f} s", max(back) <= 10
    finally:
        server.__exit__()


def soak(store: Path, minutes: float) -> Iterator[Line]:
    """Mixed load and a fault a minute; memory, descriptors and threads at the end as before."""
    dice, marks, ends = random.Random(2), list[tuple[int, int, int]](), list[str]()
    with RunningServer(store) as server:
        server.ended(server.submit())
        began, minute = time.monotonic(), 0
        while (past := time.monotonic() - began) < 60 * minutes:
            id = server.submit(steps=dice.randint(1, 4), number=dice.randint(1, 2))
            if dice.random() < 0.2:
                server.ask("DELETE", f"/sakuga/v1/jobs/{id}")
            ends.append(server.ended(id)["state"])
            if past > 60 * minute:
                minute += 1
                nth = len(server.logged("worker_ready"))
                os.kill(server.worker(nth), signal.SIGKILL)
                wait_for(lambda n=nth: len(server.logged("worker_ready")) > n, "a worker")
            marks.append(_mark(server))
        late, early = marks[-max(1, len(marks) // 4) :], marks[len(marks) // 4 : len(marks) // 2]
        failed = ends.count("failed")
        yield "all but the cancelled succeed", f"{len(ends)} jobs, {failed} failed", not failed
        for index, (name, slack) in enumerate((("MiB", 16), ("descriptors", 4), ("threads", 4))):
            before, after = (max(one[index] for one in part) for part in (early, late))
            yield f"flat: {name}", f"{before} then {after}", after <= before + slack


def _mark(server: RunningServer) -> tuple[int, int, int]:
    place = Path(f"/proc/{server.process.pid}")
    files, threads = (len(list((place / name).iterdir())) for name in ("fd", "task"))
    return memory(server.process.pid) >> 20, files, threads
