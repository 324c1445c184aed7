"""Jobs as one looks at them: by name, by state, and how many wait before each."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from sakuga.server.database import Database
from sakuga.server.job import ENDED, PRIORITIES, QUEUED, Job
from sakuga.server.refused import Refused

DUE = "ORDER BY rank, turn, id"
KEPT = 10_000  # jobs that have ended and are still told of


class JobList:
    """What the queue knows, without changing it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, id: str) -> Job:
        """A job. Raises Refused where there is none."""
        for row in self._database.rows("SELECT * FROM jobs WHERE id = ?", id):
            return _job(row)
        raise Refused("not_found", "a job is one of this queue", repr(id[:40]), "List them.", 404)

    def listed(self, states: Sequence[str], before: str | None, limit: int) -> list[Job]:
        """Jobs in one of the states, the newest first, up to one named."""
        marks = ", ".join("?" * len(states))
        query = f"SELECT * FROM jobs WHERE state IN ({marks}) AND id < ? ORDER BY id DESC LIMIT ?"
        return [_job(row) for row in self._database.rows(query, *states, before or "~", limit)]

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        found = self._database.rows("SELECT state, count(*) FROM jobs GROUP BY state")
        return dict(map(tuple, found))

    def ahead(self) -> dict[str, tuple[int, float]]:
        """Of every job that waits: how many are before it, and their seconds."""
        found, seconds = {}, 0.0
        query = f"SELECT id, seconds FROM jobs WHERE state = ? {DUE}"
        for index, (id, cost) in enumerate(self._database.rows(query, QUEUED)):
            found[id] = index, seconds
            seconds += cost
        return found

    def forget(self) -> None:
        """Let go of jobs that ended long ago."""
        marks = ", ".join("?" * len(ENDED))
        with self._database.changing() as rows:
            rows.execute(
                f"DELETE FROM jobs WHERE state IN ({marks}) AND id <= (SELECT id FROM jobs WHERE"
                f" state IN ({marks}) ORDER BY id DESC LIMIT 1 OFFSET ?)",
                (*ENDED, *ENDED, KEPT),
            )


def _job(row: sqlite3.Row) -> Job:
    kept = {name: row[name] for name in row.keys() if name != "rank"}  # noqa: SIM118  # no mapping
    kept |= {
        "priority": PRIORITIES[row["rank"]],
        "request": json.loads(row["request"]),
        "error": json.loads(row["error"]) if row["error"] else None,
        "warnings": tuple(json.loads(row["warnings"])),
    }
    return Job(**kept)
