"""The queue on disk: one end for each job, turns that are fair, and one server at a time."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from sakuga.api.engine_spec import EngineSpec
from sakuga.api.request import Request
from sakuga.api.resolved import resolve
from sakuga.errors import Busy, CorruptFile, RequestError
from sakuga.model.spec import CHIBI
from sakuga.server import job_list
from sakuga.server.cost import Cost, served
from sakuga.server.database import MIGRATIONS, NAME, Database
from sakuga.server.job import CANCELLED, FAILED, FINISHED, QUEUED, RUNNING, Job, new_id
from sakuga.server.queue import JobQueue
from sakuga.server.refused import Refused


def queue_in(folder: Path, most: int = 64, seconds: float = 1e9) -> JobQueue:
    return JobQueue(Database(folder), most, seconds)


def job(client: str = "a", priority: str = "normal", seconds: float = 1.0) -> Job:
    request = {"prompt": "1girl"}
    return Job(new_id(), QUEUED, priority, client, "jobs", request, seconds, time.time())


def drawn(queue: JobQueue, count: int) -> list[str]:
    """The clients whose jobs are due, in turn."""
    found = []
    for _ in range(count):
        due = queue.next(0)
        assert due is not None
        found.append(due.client)
        assert queue.end(due.id, FINISHED)
    return found


def test_ids_come_in_the_order_of_time() -> None:
    ids = []
    for _ in range(200):
        ids.append(new_id())
        time.sleep(2e-6)
    assert ids == sorted(ids)
    assert len(set(ids)) == 200
    assert all(len(one) == 26 for one in ids)


def test_a_job_ends_once(tmp_path: Path) -> None:
    queue = queue_in(tmp_path)
    one = queue.add(job())
    assert queue.next(0).id == one.id  # type: ignore[union-attr]
    assert queue.end(one.id, FINISHED)
    assert not queue.end(one.id, FAILED, {"code": "late"})
    assert not queue.cancel(one.id)
    assert queue.jobs.get(one.id).state == FINISHED
    assert queue.waiting == 0


def test_what_is_done_beside_an_end_is_undone_with_it(tmp_path: Path) -> None:
    queue = queue_in(tmp_path)
    one = queue.add(job())
    queue.next(0)

    def fail() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="space"):
        queue.end(one.id, FINISHED, None, fail)
    assert queue.jobs.get(one.id).state == RUNNING


def test_jobs_of_a_killed_server_wait_again(tmp_path: Path) -> None:
    database = Database(tmp_path)
    queue = JobQueue(database, 64, 1e9)
    first, second = queue.add(job()), queue.add(job())
    queue.next(0)
    database.close()
    again = queue_in(tmp_path)
    assert again.waiting == 2
    due = again.next(0)
    assert due is not None
    assert (due.id, due.attempts, due.deaths) == (first.id, 2, 0)
    assert again.jobs.get(second.id).state == QUEUED


def test_two_servers_on_one_store_are_refused(tmp_path: Path) -> None:
    database = Database(tmp_path)
    with pytest.raises(Busy, match="one server"):
        Database(tmp_path)
    database.close()
    Database(tmp_path).close()


def test_a_job_that_costs_two_workers_fails(tmp_path: Path) -> None:
    queue = queue_in(tmp_path)
    one = queue.add(job())
    queue.next(0)
    assert queue.back(one.id, died=True).state == QUEUED
    queue.next(0)
    after = queue.back(one.id, died=True)
    assert (after.state, after.deaths) == (FAILED, 2)
    assert after.error is not None
    assert after.error["code"] == "job_crashed_worker"
    assert queue.next(0) is None


def test_a_stop_is_no_death(tmp_path: Path) -> None:
    queue = queue_in(tmp_path)
    one = queue.add(job())
    for _ in range(5):
        queue.next(0)
        queue.back(one.id, died=False)
    assert queue.jobs.get(one.id).state == QUEUED


def test_one_clients_many_jobs_do_not_stand_before_anothers_one(tmp_path: Path) -> None:
    queue = queue_in(tmp_path)
    for _ in range(5):
        queue.add(job("many"))
    queue.add(job("one"))
    assert drawn(queue, 6).index("one") <= 1


def test_turns_are_shared_by_cost(tmp_path: Path) -> None:
    queue = queue_in(tmp_path)
    for _ in range(4):
        queue.add(job("dear", seconds=10))
    for _ in range(10):
        queue.add(job("cheap", seconds=1))
    assert drawn(queue, 11).count("cheap") >= 9


def test_who_was_idle_has_saved_nothing(tmp_path: Path) -> None:
    queue = queue_in(tmp_path)
    for _ in range(20):
        queue.add(job("busy"))
        drawn(queue, 1)
    queue.add(job("busy"))
    for _ in range(5):
        queue.add(job("new"))
    assert drawn(queue, 6).index("busy") <= 1


def test_priorities_come_first(tmp_path: Path) -> None:
    queue = queue_in(tmp_path)
    for priority in ("low", "normal", "high"):
        queue.add(job(priority, priority))
    assert drawn(queue, 3) == ["high", "normal", "low"]


def test_a_job_that_waits_can_be_moved(tmp_path: Path) -> None:
    queue = queue_in(tmp_path)
    queue.add(job("a"))
    last = queue.add(job("b", "low"))
    assert queue.move(last.id, "high").priority == "high"
    assert drawn(queue, 2) == ["b", "a"]
    with pytest.raises(Refused, match="waits"):
        queue.move(last.id, "low")


def test_a_full_queue_takes_nothing(tmp_path: Path) -> None:
    queue = queue_in(tmp_path, most=2)
    queue.add(job())
    queue.add(job())
    with pytest.raises(Refused) as refused:
        queue.add(job())
    assert (refused.value.status, refused.value.retry_after) == (429, 5)
    queue.next(0)
    queue.add(job())


def test_waiting_jobs_have_a_budget_of_seconds(tmp_path: Path) -> None:
    queue = queue_in(tmp_path, seconds=10)
    queue.add(job(seconds=50))  # alone it is the business of another limit
    with pytest.raises(Refused, match="50 s waiting") as refused:
        queue.add(job(seconds=1))
    assert refused.value.status == 429


def test_places_and_waits_are_told(tmp_path: Path) -> None:
    queue = queue_in(tmp_path)
    ids = [queue.add(job(seconds=3)).id for _ in range(3)]
    assert queue.jobs.ahead() == {id: (index, 3.0 * index) for index, id in enumerate(ids)}
    assert queue.jobs.counts() == {QUEUED: 3}


def test_a_cancelled_job_is_never_begun(tmp_path: Path) -> None:
    queue = queue_in(tmp_path)
    one = queue.add(job())
    assert queue.cancel(one.id)
    assert queue.next(0) is None
    assert queue.jobs.get(one.id).state == CANCELLED
    with pytest.raises(Refused, match="a job is one of this queue"):
        queue.jobs.get("nothing")


def test_a_queue_of_an_earlier_version_is_brought_up(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / NAME) as old:
        for statement in filter(str.strip, MIGRATIONS[0].split(";")):
            old.execute(statement)
        old.execute("PRAGMA user_version = 1")
        old.execute(
            "INSERT INTO jobs (id, state, rank, turn, client, route, request, seconds, created)"
            " VALUES ('old', 'running', 1, 0, 'a', 'jobs', '{\"prompt\": \"x\"}', 1, 0)"
        )
    old.close()
    queue = queue_in(tmp_path)
    due = queue.next(0)
    assert due is not None
    assert (due.id, due.request) == ("old", {"prompt": "x"})


def test_a_queue_of_a_later_version_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / NAME) as later:
        later.execute("PRAGMA user_version = 99")
    later.close()
    with pytest.raises(RequestError, match="99, of a later version"):
        Database(tmp_path)


def test_what_is_no_queue_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"nonsense" * 1000)
    with pytest.raises(CorruptFile, match="SQLite"):
        Database(tmp_path)


def test_what_is_expected_comes_nearer_to_what_is_taken_and_never_passes_it(tmp_path: Path) -> None:
    database = Database(tmp_path)
    cost = Cost(served(EngineSpec()), database)
    request = resolve(Request("1girl"), CHIBI.drawing)
    before = cost.seconds(request)
    for _ in range(30):  # as of jobs that were all priced before the first was drawn
        cost.learn(request, 4 * before)
        assert before < cost.seconds(request) <= 4 * before
    assert cost.seconds(request) == pytest.approx(4 * before, rel=0.01)
    assert Cost(served(EngineSpec()), database).seconds(request) == cost.seconds(request)
    database.close()


def test_jobs_that_ended_long_ago_are_let_go_of_and_those_that_wait_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_list, "KEPT", 3)
    queue = queue_in(tmp_path)
    ended = [queue.add(job()).id for _ in range(6)]
    assert drawn(queue, 6) == ["a"] * 6
    waiting = queue.add(job()).id
    for _ in range(2):
        queue.jobs.forget()
        left = [one.id for one in queue.jobs.listed((QUEUED, FINISHED), None, 10)]
        assert left == [waiting, *reversed(ended[3:])]
