"""The file that the queue and the index of pictures live in, held by one server at a time."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sakuga.errors import Busy, CorruptFile, RequestError

NAME = "queue.sqlite3"
# Each brings the file from the version before it to its own; none is ever changed.
MIGRATIONS = (
    """
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY, state TEXT NOT NULL, rank INTEGER NOT NULL, turn REAL NOT NULL,
        client TEXT NOT NULL, route TEXT NOT NULL, request TEXT NOT NULL, seconds REAL NOT NULL,
        created REAL NOT NULL, started REAL, finished REAL,
        attempts INTEGER NOT NULL DEFAULT 0, deaths INTEGER NOT NULL DEFAULT 0,
        error TEXT, warnings TEXT NOT NULL DEFAULT '[]');
    CREATE INDEX jobs_due ON jobs (state, rank, turn, id);
    """,
    """
    CREATE TABLE pictures (
        id TEXT PRIMARY KEY, job TEXT NOT NULL, number INTEGER NOT NULL, seed INTEGER NOT NULL,
        width INTEGER NOT NULL, height INTEGER NOT NULL, bytes INTEGER NOT NULL,
        created REAL NOT NULL, model TEXT NOT NULL, prompt TEXT NOT NULL, negative TEXT NOT NULL,
        steps INTEGER NOT NULL, seconds REAL NOT NULL, receipt TEXT NOT NULL);
    CREATE INDEX pictures_job ON pictures (job);
    CREATE TABLE tags (tag TEXT NOT NULL, picture TEXT NOT NULL, PRIMARY KEY (tag, picture))
        WITHOUT ROWID;
    CREATE INDEX tags_picture ON tags (picture);
    CREATE TABLE learned (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
    """,
)


class Database:
    """One connection, used by one thread at a time; what is committed survives a killed process."""

    def __init__(self, folder: Path) -> None:
        """Open, or make. Raises Busy where another server has it, CorruptFile, RequestError."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                folder / NAME, timeout=0.5, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise RequestError("a store is a folder to write to", str(error), "Check it.") from None
        self._connection.row_factory = sqlite3.Row
        self._lock = threading.RLock()
        try:
            self._take()
            self._migrate()
        except BaseException:
            self._connection.close()
            raise

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """The connection within a transaction: all of it is kept, or nothing."""
        with self._lock:
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        """What a question finds."""
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def close(self) -> None:
        """Let another server have it."""
        with self._lock:
            self._connection.close()

    def _take(self) -> None:
        """Have the file for this process alone, for as long as it lives."""
        try:
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("BEGIN EXCLUSIVE")
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            raise Busy(
                "a store has one server", "another one on the same folder",
                "End it, or give this one a --store of its own.",
            ) from None  # fmt: skip
        except sqlite3.DatabaseError as error:
            raise CorruptFile(
                "a queue is a sound SQLite file", str(error), "Move it away to begin anew."
            ) from None

    def _migrate(self) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise RequestError(
                f"a queue has a layout up to {len(MIGRATIONS)}", f"{version}, of a later version",
                "Use that version of sakuga, or another --store.",
            )  # fmt: skip
        for number, change in enumerate(MIGRATIONS[version:], version + 1):
            with self.changing() as connection:
                for statement in filter(str.strip, change.split(";")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")
