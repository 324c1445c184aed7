"""What a server survives: the death of its workers and its own, a full queue, a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from servers import RunningServer, alive, memory, percentile, wait_for

JOBS = "/sakuga/v1/jobs"


def files_of(store: Path) -> list[str]:
    return sorted(file.stem for file in (store / "pictures").glob("*.png"))


def test_a_killed_worker_costs_nobody_a_picture(server: RunningServer) -> None:
    before = len(server.logged("worker_ready"))
    straight = server.ended(server.submit(steps=8, seed=5))
    id, behind = server.submit(steps=8, seed=5), server.submit()
    server.begun(id)
    began = time.monotonic()
    os.kill(server.worker(before or 1), signal.SIGKILL)
    server.worker(before + 1)
    restarted = time.monotonic() - began
    job = server.ended(id)
    assert (job["state"], job["attempts"]) == ("finished", 2)
    assert server.ended(behind)["state"] == "finished"
    same = [server.ask("GET", f"/{one['pictures'][0]['file']}").body for one in (straight, job)]
    assert same[0] == same[1]
    assert restarted < 60  # on a machine that many share; alone it takes a tenth of that


def test_a_hung_worker_is_told_and_a_busy_one_is_not(server: RunningServer) -> None:
    id = server.submit(steps=40)
    server.begun(id)
    assert server.ask("GET", "/health/ready").status == 200
    pid = server.worker(len(server.logged("worker_ready")))
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        wait_for(lambda: server.ask("GET", "/health/ready").status == 503, "503", 8)
        assert time.monotonic() - began > 2
        assert server.ask("GET", "/health").status == 200
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: server.ask("GET", "/health/ready").status == 200, "200")
    server.ask("DELETE", f"{JOBS}/{id}")


def test_a_killed_server_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with RunningServer(store) as server:
        ids = [server.submit(steps=4, seed=index) for index in range(3)]
        server.begun(ids[0])
        worker = server.worker()
        server.kill()
        wait_for(lambda: not alive(worker), "end of its worker", 10)
    with RunningServer(store) as server:
        jobs = [server.ended(id) for id in ids]
        assert [job["state"] for job in jobs] == ["finished"] * 3
        assert files_of(store) == sorted(f"{id}-0" for id in ids)
        two = subprocess.run(
            [sys.executable, "-m", "sakuga", "serve", "--port", "0", "--store", str(store)],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert two.returncode == 75
        assert "a store has one server" in two.stderr
        assert server.stop() == 0


def test_a_poisonous_job_fails_and_others_do_not(tmp_path: Path) -> None:
    faults = {"SAKUGA_FAULTS": "kill@step2:1"}
    with RunningServer(tmp_path / "store", env=faults) as server:
        poison = server.submit(steps=2)
        others = [server.submit() for _ in range(2)]
        job = server.ended(poison)
        assert (job["state"], job["attempts"]) == ("failed", 2)
        assert job["error"]["code"] == "job_crashed_worker"
        assert [server.ended(id)["state"] for id in others] == ["finished"] * 2


def test_a_full_queue_turns_away_and_a_server_that_ends_drains(tmp_path: Path) -> None:
    with RunningServer(tmp_path / "store", "--queue", "3") as server:
        _flood(server)
        _drain(server)


def _flood(server: RunningServer) -> None:
    """A full queue turns away at once, and grows no more."""
    long = {"request": {"prompt": "1girl", "width": 128, "height": 128, "steps": 150}}
    while server.ask("POST", JOBS, long).status == 202:
        pass
    body = {"prompt": "1girl"}
    times, before = list[float](), memory(server.process.pid)

    def ask() -> None:
        for _ in range(25):
            began = time.monotonic()
            answer = server.ask("POST", "/v1/images/generations", body)
            times.append(time.monotonic() - began)
            assert answer.status == 429
            assert int(answer.headers["retry-after"]) > 0
            assert answer.json["error"]["type"] == "rate_limit_error"

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert percentile(times[:100], 0.5) < 0.5
    assert memory(server.process.pid) - before < 20 << 20


def _drain(server: RunningServer) -> None:
    """Told to end, it takes nothing more and ends what it draws."""
    for job in server.ask("GET", f"{JOBS}?state=queued,running").json["jobs"]:
        server.ask("DELETE", f"{JOBS}/{job['id']}")
    answers: list[Any] = []
    asked = {"prompt": "1girl", "size": "128x128", "num_inference_steps": 1}

    def ask() -> None:
        answers.append(server.ask("POST", "/v1/images/generations", asked))

    thread = threading.Thread(target=ask)
    thread.start()
    wait_for(lambda: server.ask("GET", f"{JOBS}?state=running").json["jobs"], "a job")
    assert server.stop() == 0
    thread.join()
    assert answers[0].status == 200


def test_a_full_disk_pauses_the_queue_and_a_store_keeps_its_limit(tmp_path: Path) -> None:
    reserve = str(1 << 30)  # MiB that no disk has
    with RunningServer(tmp_path / "store", "--reserve", reserve) as server:
        wait_for(lambda: server.logged("queue_paused"), "a pause")
        answer = server.ask("POST", JOBS, {"request": {"prompt": "1girl"}})
        assert (answer.status, answer.json["error"]["code"]) == (503, "disk_full")
        assert int(answer.headers["retry-after"]) > 0
        assert "disk is full" in server.ask("GET", JOBS).json["paused"]
        assert server.ask("GET", "/health/ready").status == 503
        assert server.ask("GET", "/health").status == 200


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--adapters", "/nowhere"], "folder"),
        (["--root-path", "draw/"], "root-path"),
        (["--settings", "/nowhere.toml"], "TOML"),
        (["--model", "/nowhere"], "model"),
    ],
)
def test_what_cannot_be_served_ends_with_a_sentence(
    tmp_path: Path, args: list[str], told: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "sakuga", "serve", "--store", str(tmp_path / "s"), *args],
        capture_output=True, text=True, timeout=120, check=False,
        env={name: value for name, value in os.environ.items() if name != "SAKUGA_TOKEN"},
    )  # fmt: skip
    assert (ended.returncode, "Traceback" in ended.stderr) == (2, False), ended.stderr
    assert told in ended.stderr
