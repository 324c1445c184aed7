"""The queue: jobs on disk, who is next, and the one way from each state to another."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from sakuga.server.database import Database
from sakuga.server.job import (
    CANCELLED,
    ENDED,
    FAILED,
    FINISHED,
    MOST_DEATHS,
    PRIORITIES,
    QUEUED,
    RUNNING,
    Job,
)
from sakuga.server.job_list import DUE, JobList
from sakuga.server.refused import Refused

WAITING = "waiting jobs are taken up to a number and a cost"
CRASHED = {
    "code": "job_crashed_worker", "rule": "a job leaves its worker alive",
    "got": f"{MOST_DEATHS} workers that ended while they drew it",
    "fix": "Ask for less: a smaller size, fewer pictures. It is not tried again.",
}  # fmt: skip
SHORT = 64 << 10  # characters of a request that are kept of a job that has ended


class JobQueue:
    """Jobs of all clients. Every method is one transaction, or none.

    Among those of a priority the next is that of the client who was given least: a job's turn
    lies its cost behind the client's last, or behind the turn that is being served.
    """

    def __init__(self, database: Database, most: int, most_seconds: float) -> None:
        self._database, self._most, self._most_seconds = database, most, most_seconds
        self.jobs = JobList(database)
        self._changed = threading.Condition()
        with database.changing() as rows:  # of a server that was killed
            rows.execute("UPDATE jobs SET state = ? WHERE state = ?", (QUEUED, RUNNING))
            (waiting,) = rows.execute(
                "SELECT count(*) FROM jobs WHERE state = ?", (QUEUED,)
            ).fetchone()
            self._waiting = int(waiting)

    @property
    def waiting(self) -> int:
        """Jobs that wait."""
        return self._waiting

    def refuse_more(self) -> None:
        """Raise Refused where no job can be taken, before anything is made of a request."""
        if self._waiting >= self._most:
            raise Refused("queue_full", WAITING, f"{self._waiting} waiting", "Try later.", 429, 5)

    def add(self, job: Job) -> Job:
        """Accept a job; once this returns it is on disk. Raises Refused."""
        with self._database.changing() as rows:
            self.refuse_more()
            (cost,) = rows.execute(
                "SELECT total(seconds) FROM jobs WHERE state = ?", (QUEUED,)
            ).fetchone()
            if cost and cost + job.seconds > self._most_seconds:
                got = f"{cost:.0f} s waiting and {job.seconds:.0f} s more"
                raise Refused("queue_full", WAITING, got, "Try later.", 429, min(120, int(cost)))
            rank = PRIORITIES.index(job.priority)
            turn = _turn(rows, job.client, rank) + job.seconds
            rows.execute(
                "INSERT INTO jobs (id, state, rank, turn, client, route, request, seconds, created)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (job.id, QUEUED, rank, turn, job.client, job.route, json.dumps(job.request),
                 job.seconds, job.created),
            )  # fmt: skip
        self._count(1)
        return self.jobs.get(job.id)

    def next(self, timeout: float) -> Job | None:
        """Begin the job that is due, or None if none comes within some seconds."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(timeout)
        with self._database.changing() as rows:
            due = rows.execute(
                f"SELECT id, rank, turn FROM jobs WHERE state = ? {DUE} LIMIT 1", (QUEUED,)
            ).fetchone()
            if due is None:
                return None
            rows.execute(
                "UPDATE jobs SET state = ?, started = ?, attempts = attempts + 1 WHERE id = ?",
                (RUNNING, time.time(), due["id"]),
            )
            rows.execute("REPLACE INTO learned VALUES (?, ?)", (f"turn {due['rank']}", due["turn"]))
        self._count(-1)
        return self.jobs.get(due["id"])

    def end(
        self, id: str, state: str, error: Mapping[str, Any] | None = None,
        also: Callable[[], None] | None = None,
    ) -> bool:  # fmt: skip
        """Bring a job to its one end; False where it has ended before.

        also: done in the same transaction of one that finished, so that both are kept or neither.
        """
        assert state in ENDED
        with self._database.changing() as rows:
            was = rows.execute("SELECT state FROM jobs WHERE id = ?", (id,)).fetchone()
            if was is None or was["state"] in ENDED:
                return False
            rows.execute(
                "UPDATE jobs SET state = ?, finished = ?, error = ?, request = CASE"
                " WHEN length(request) > ? THEN json_remove(request, '$.image', '$.mask')"
                " ELSE request END WHERE id = ?",
                (state, time.time(), error and json.dumps(error), SHORT, id),
            )
            if also is not None and state == FINISHED:
                also()
        if was["state"] == QUEUED:
            self._count(-1)
        return True

    def cancel(self, id: str) -> bool:
        """End a job that waits; False for one that does not: whoever draws it has to stop."""
        with self._database.changing():
            return self.jobs.get(id).state == QUEUED and self.end(id, CANCELLED)

    def back(self, id: str, *, died: bool) -> Job:
        """Let a job wait again that was not drawn to its end; `died`: and took its worker along."""
        with self._database.changing() as rows:
            job = self.jobs.get(id)
            if job.state != RUNNING:
                return job
            if died and job.deaths + 1 >= MOST_DEATHS:
                rows.execute("UPDATE jobs SET deaths = deaths + 1 WHERE id = ?", (id,))
                self.end(id, FAILED, CRASHED)
                return self.jobs.get(id)
            rows.execute(
                "UPDATE jobs SET state = ?, started = NULL, deaths = deaths + ? WHERE id = ?",
                (QUEUED, int(died), id),
            )
        self._count(1)
        return self.jobs.get(id)

    def move(self, id: str, priority: str) -> Job:
        """Give a job that waits another priority. Raises Refused for one that does not."""
        with self._database.changing() as rows:
            job = self.jobs.get(id)
            if job.state != QUEUED:
                raise Refused(
                    "conflict", "a job that waits has a priority", job.state, "Leave it.", 409
                )
            rank = PRIORITIES.index(priority)
            turn = _turn(rows, job.client, rank) + job.seconds
            rows.execute("UPDATE jobs SET rank = ?, turn = ? WHERE id = ?", (rank, turn, id))
        return self.jobs.get(id)

    def warn(self, id: str, warning: Mapping[str, Any]) -> None:
        """Keep a warning beside a job."""
        with self._database.changing() as rows:
            rows.execute(
                "UPDATE jobs SET warnings = json_insert(warnings, '$[#]', json(?)) WHERE id = ?",
                (json.dumps(warning), id),
            )

    def wake(self) -> None:
        """Let whoever waits in `next` look around."""
        with self._changed:
            self._changed.notify_all()

    def _count(self, change: int) -> None:
        with self._changed:
            self._waiting += change
            self._changed.notify_all()


def _turn(rows: sqlite3.Connection, client: str, rank: int) -> float:
    """Behind what a job of a client comes: its last one that waits, or the one being served."""
    (served,) = rows.execute(
        "SELECT total(value) FROM learned WHERE name = ?", (f"turn {rank}",)
    ).fetchone()
    (last,) = rows.execute(
        "SELECT max(turn) FROM jobs WHERE client = ? AND rank = ? AND state IN (?, ?)",
        (client, rank, QUEUED, RUNNING),
    ).fetchone()
    return max(float(served), float(last or 0.0))
