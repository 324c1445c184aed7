"""Batches: what is drawn, that each is drawn once, and what is said where that cannot be."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.engines import open_engine

from sakuga.api.events import Finished
from sakuga.api.request import Request
from sakuga.batch.album import Album
from sakuga.batch.item import JobRow
from sakuga.batch.journal import nothing
from sakuga.batch.worker import Worker
from sakuga.engine.engine import Engine
from sakuga.errors import Cancelled, Paused
from sakuga.files.saving import shows

pytestmark = pytest.mark.contract

Told = list[Mapping[str, Any]]
SMALL = {"steps": 1, "width": 128, "height": 128}
ROWS = [
    JobRow("job:1", {"prompt": "1girl, red_hair", "seed": 1, **SMALL}, name="red"),
    JobRow("job:2", {"prompt": "1boy", "seed": 2, "number": 2, **SMALL}),
    JobRow("job:3", {"prompt": "1girl, red_hair", "seed": 1, **SMALL}, name="again"),
    JobRow("job:4", {"prompt": "1girl", "seed": 4, **SMALL, "height": 999}),
]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return open_engine()


@pytest.fixture(scope="module")
def whole(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all of ROWS was drawn without a disturbance."""
    place = tmp_path_factory.mktemp("whole")
    draw(engine, place)
    return place


class Fails:
    """Fails at a place, each time until it has failed `times`."""

    def __init__(self, place: str, error: BaseException, times: int = 1) -> None:
        self.place, self.error, self.left = place, error, times

    def __call__(self, place: str, *_: object) -> None:
        if place == self.place and self.left:
            self.left -= 1
            raise self.error


def draw(
    engine: Engine, place: Path, at: Callable[[str], None] = nothing, *,
    rows: list[JobRow] = ROWS, retry: bool = False, redraw: bool = False,
) -> Told:  # fmt: skip
    told: Told = []
    with engine.observed(lambda where, *_: at(where)):
        worker = Worker(engine, Album(place, at), told.append, retry=retry, redraw=redraw)
        worker.run(rows)
    return told


def of(told: Told, kind: str) -> Told:
    return [event for event in told if event["event"] == kind]


def pictures(place: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in place.glob("*.png")}


def test_each_row_is_a_picture_and_a_bad_one_is_told(engine: Engine, whole: Path) -> None:
    assert len(pictures(whole)) == 3
    (job,) = of(draw(engine, whole), "job")
    assert (job["items"], job["left"], job["done"], job["twice"]) == (3, 0, 3, 1)
    ((where, error),) = job["wrong"]
    assert where == "job:4"
    assert "height must be a multiple of" in error


def test_a_picture_is_what_a_drawing_of_its_row_alone_is(engine: Engine, whole: Path) -> None:
    seeds = {"1girl, red_hair": (1,), "1boy": (2, 3)}
    for prompt, each in seeds.items():
        for seed in each:
            events = engine.generate(Request(prompt, seed=seed, **SMALL))
            picture = next(one.result.picture for one in events if isinstance(one, Finished))
            assert sum(shows(file, picture, {}) for file in whole.glob("*.png")) == 1


def test_what_is_done_is_not_drawn_again(engine: Engine, whole: Path) -> None:
    before = pictures(whole)
    assert of(draw(engine, whole), "begun") == []
    assert pictures(whole) == before


PLACES = ("leased", "gemma", "step1", "decode", "drafted", "renamed", "line")


@pytest.mark.parametrize(
    ("place", "code"),
    [*((one, errno.ENOSPC) for one in PLACES), ("line", errno.EIO), ("drafted", errno.EROFS)],
)
def test_a_sick_disk_pauses_and_nothing_is_lost(
    engine: Engine, whole: Path, tmp_path: Path, place: str, code: int
) -> None:
    fails = Fails(place, OSError(code, os.strerror(code)))
    with pytest.raises(Paused, match="same command") as caught:
        draw(engine, tmp_path, fails)
    assert caught.value.exit_code == 75
    draw(engine, tmp_path)
    assert pictures(tmp_path) == pictures(whole)


def test_what_was_renamed_before_the_journal_is_adopted(
    engine: Engine, whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        draw(engine, tmp_path, Fails("renamed", KeyboardInterrupt()))
    (kept,) = tmp_path.glob("*.png")
    before = kept.stat().st_ino
    shutil.rmtree(tmp_path / ".work")
    draw(engine, tmp_path)
    assert kept.stat().st_ino == before
    assert pictures(tmp_path) == pictures(whole)


def test_with_the_journal_gone_pictures_are_looked_at_anew(
    engine: Engine, whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "journal")
    inodes = {one.stat().st_ino for one in tmp_path.glob("*.png")}
    draw(engine, tmp_path)
    assert {one.stat().st_ino for one in tmp_path.glob("*.png")} == inodes


def test_another_file_in_the_place_of_a_picture_is_not_touched(
    engine: Engine, whole: Path, tmp_path: Path
) -> None:
    (name, *_) = sorted(pictures(whole))
    (tmp_path / name).write_bytes(b"mine")
    (failed,) = of(draw(engine, tmp_path), "failed")
    assert "--retry-failed" in failed["error"]
    assert (tmp_path / name).read_bytes() == b"mine"
    assert of(draw(engine, tmp_path), "begun") == []
    (tmp_path / name).unlink()
    draw(engine, tmp_path, retry=True)
    assert pictures(tmp_path) == pictures(whole)


def test_a_failure_is_written_down_and_the_others_go_on(
    engine: Engine, whole: Path, tmp_path: Path
) -> None:
    fails = Fails("step1", ValueError("a fault of this item"))
    (failed,) = of(draw(engine, tmp_path, fails), "failed")
    assert "a fault of this item" in failed["error"]
    assert len(pictures(tmp_path)) == 2
    (job,) = of(draw(engine, tmp_path), "job")
    assert (job["failed"], job["left"]) == (1, 0)
    assert "a fault of this item" in job["errors"][0][1]
    draw(engine, tmp_path, retry=True)
    assert pictures(tmp_path) == pictures(whole)


def test_deleted_and_edited_pictures_are_told_and_left(
    engine: Engine, whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True, copy_function=shutil.copy2)
    gone, edited, _ = sorted(tmp_path.glob("*.png"))
    data = edited.read_bytes()
    gone.unlink()
    edited.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    told = draw(engine, tmp_path)
    (job,) = of(told, "job")
    assert (job["deleted"], job["edited"], job["left"]) == (1, 1, 0)
    assert not gone.exists()
    draw(engine, tmp_path, redraw=True)
    assert gone.read_bytes() == pictures(whole)[gone.name]
    assert edited.read_bytes() != data


def test_a_changed_job_keeps_what_is_still_asked_for(engine: Engine, tmp_path: Path) -> None:
    draw(engine, tmp_path, rows=ROWS[:1])
    told = draw(engine, tmp_path, rows=[ROWS[1]])
    (job,) = of(told, "job")
    assert (job["others"], job["left"], job["done"]) == (1, 2, 0)
    assert len(pictures(tmp_path)) == 3


def test_two_at_a_time_draw_each_once(whole: Path, tmp_path: Path) -> None:
    told: Told = []
    workers = [
        Worker(open_engine(), Album(tmp_path), told.append, share=(number, 2))
        for number in range(2)
    ]  # fmt: skip
    threads = [threading.Thread(target=one.run, args=(ROWS,)) for one in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(event["id"] for event in of(told, "done")) == sorted(
        {event["id"] for event in of(told, "done")}
    )
    assert len(of(told, "done")) == 3
    assert pictures(tmp_path) == pictures(whole)


def test_the_encoders_read_each_text_once(engine: Engine, tmp_path: Path) -> None:
    read = []
    with engine.observed(lambda where, *_: read.append(where)):
        draw(engine, tmp_path)
    assert read.count("gemma") == read.count("jina") == 1  # one pass over all texts
    assert read.index("gemma") < read.index("step1")


def test_a_worker_stops_at_the_next_step(engine: Engine, whole: Path, tmp_path: Path) -> None:
    told: Told = []
    worker = Worker(engine, Album(tmp_path), told.append)

    def stop(where: str, *_: object) -> None:
        if where == "step1" and of(told, "done"):
            worker.stopping.set()

    with engine.observed(stop), pytest.raises(Cancelled):
        worker.run(ROWS)
    assert len(pictures(tmp_path)) == 1
    draw(engine, tmp_path)
    assert pictures(tmp_path) == pictures(whole)


def sakuga(*arguments: str, faults: str = "", **given: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SAKUGA_FAULTS": faults}
    command = [sys.executable, "-m", "sakuga", "batch", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, **given
    )


OPTIONS = ("--steps", "1", "--size", "128", "--workers", "1")


def test_the_command_draws_a_table_and_names_bad_cells(tmp_path: Path) -> None:
    job, out = tmp_path / "job.csv", tmp_path / "out"
    job.write_text("prompt,seed,name\n1girl,7,seven\n1boy,x,\n")
    said = sakuga(str(job), "--out", str(out), *OPTIONS)
    assert said.returncode == 1
    assert "job.csv:3:2: seed must be a whole number" in said.stderr
    assert "1 drawn" in said.stdout
    (name,) = pictures(out)
    assert name.startswith("seven-")
    assert not (out / ".work").exists()
    again = sakuga(str(job), "--out", str(out), "--json", *OPTIONS)
    events = [json.loads(line) for line in again.stdout.splitlines()]
    assert [event["event"] for event in events] == ["job", "over"]


def test_what_kills_its_process_twice_is_passed_over(tmp_path: Path) -> None:
    said = sakuga("-", "--out", str(tmp_path), *OPTIONS, faults="kill@step1", input="1girl\n")
    assert said.returncode == 1, said.stderr
    assert said.stderr.count("its process ended with SIGKILL") >= 2
    assert pictures(tmp_path) == {}
    retried = sakuga("-", "--out", str(tmp_path), "--retry-failed", *OPTIONS, input="1girl\n")
    assert retried.returncode == 0, retried.stderr
    assert len(pictures(tmp_path)) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_and_the_same_command_goes_on(tmp_path: Path, number: int) -> None:
    job = tmp_path / "job.txt"
    job.write_text("".join(f"1girl, {i}\n" for i in range(40)))
    # What runs the tests may itself ignore the signal, as `nohup` does, and hand that down.
    heeding = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from sakuga.commands.cli import main; main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", heeding, "batch", str(job), "--out", str(tmp_path), *OPTIONS],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as run:  # fmt: skip
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.readline()  # the first picture is there
        run.send_signal(number)
        said = run.stderr.read()
        assert run.wait(60) == 130, said
    assert "same command" in said
    done = len(pictures(tmp_path))
    assert 1 <= done < 40
    journal = "".join(one.read_text() for one in (tmp_path / "journal").iterdir())
    assert journal.count('"event":"done"') == done


def test_the_command_pauses_where_the_disk_is_full(tmp_path: Path) -> None:
    said = sakuga("-", "--out", str(tmp_path), *OPTIONS, faults="full@drafted", input="1girl\n")
    assert said.returncode == 75
    assert "make room, then give the same command again" in said.stderr


def test_its_process_ends_with_it(tmp_path: Path) -> None:
    job = tmp_path / "job.txt"
    job.write_text("".join(f"1girl, {i}\n" for i in range(200)))
    command = [sys.executable, "-m", "sakuga", "batch", str(job), "--out", str(tmp_path), *OPTIONS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        assert run.stdout is not None
        run.stdout.readline()
        run.kill()
    before = -1
    deadline = time.monotonic() + 30
    while (now := len(pictures(tmp_path))) != before and time.monotonic() < deadline:
        before = now
        time.sleep(1.5)
    assert now < 200


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = sakuga("-", "--out", str(tmp_path / "file" / "out"), *OPTIONS, input="1girl\n")
    assert said.returncode == 2
    assert "--out must be a folder that can be written" in said.stderr


def test_kills_lose_nothing(tmp_path: Path) -> None:
    """A few of what `make test-batch` does."""
    said = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--points", "6"], cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = json.loads(said.stdout.splitlines()[-1])
    assert said.returncode == 0, said.stdout + said.stderr
    assert found["points"] >= 6
