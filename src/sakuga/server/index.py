"""What is known of the pictures that are kept: their receipts, and what they are found by."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sakuga.prompt.tags import normal
from sakuga.server.database import Database
from sakuga.server.refused import Refused

COLUMNS = (
    "id", "job", "number", "seed", "width", "height", "bytes", "created", "model", "prompt",
    "negative", "steps", "seconds", "receipt",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Drawn:
    """One picture, not yet kept: its PNG, a small WebP of it, and what the index says of it."""

    id: str
    job: str
    number: int
    created: float
    seconds: float
    receipt: Mapping[str, Any]
    png: bytes
    thumbnail: bytes

    @property
    def row(self) -> tuple[Any, ...]:
        """Its values in the order of COLUMNS."""
        asked = self.receipt["request"]
        return (
            self.id, self.job, self.number, self.receipt["seed"], asked["width"], asked["height"],
            len(self.png), self.created, self.receipt["model"], asked["prompt"],
            asked["negative"], asked["steps"], self.seconds, json.dumps(self.receipt),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for; everything that is given has to hold."""

    text: str = ""
    tags: tuple[str, ...] = ()
    seed: int | None = None
    since: float | None = None
    until: float | None = None
    model: str | None = None

    def where(self) -> tuple[str, list[Any]]:
        """As SQL says it, and its values."""
        rules: list[tuple[str, Any]] = []
        if self.text:
            escaped = self.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            rules.append(("prompt LIKE ? ESCAPE '\\'", f"%{escaped}%"))
        rules += [
            ("id IN (SELECT picture FROM tags WHERE tag = ?)", normal(tag)) for tag in self.tags
        ]
        for rule, value in (
            ("seed = ?", self.seed), ("created >= ?", self.since), ("created < ?", self.until),
            ("model = ?", self.model),
        ):  # fmt: skip
            if value is not None:
                rules.append((rule, value))
        return " AND ".join(rule for rule, _ in rules) or "1", [value for _, value in rules]


class PictureIndex:
    """One row for each picture, and one for each tag of its prompt."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def enter(self, drawn: Sequence[Drawn], tags: Sequence[str]) -> None:
        """Let pictures be found. Within the transaction that ends their job."""
        marks = ", ".join("?" * len(COLUMNS))
        with self._database.changing() as rows:
            for one in drawn:
                rows.execute(f"REPLACE INTO pictures VALUES ({marks})", one.row)
                rows.executemany(
                    "INSERT OR IGNORE INTO tags VALUES (?, ?)", [(tag, one.id) for tag in tags]
                )

    def get(self, id: str) -> dict[str, Any]:
        """What the index says of a picture. Raises Refused where there is none."""
        for row in self._database.rows("SELECT * FROM pictures WHERE id = ?", id):
            return dict(row)
        raise Refused(
            "not_found", "a picture is one of this store", repr(id[:40]), "List them.", 404
        )

    def find(self, search: Search, before: str | None, limit: int) -> list[dict[str, Any]]:
        """Pictures, the newest first, from behind one of them."""
        where, values = search.where()
        query = f"SELECT * FROM pictures WHERE {where} AND id < ? ORDER BY id DESC LIMIT ?"
        return [dict(row) for row in self._database.rows(query, *values, before or "~", limit)]

    def count(self, search: Search) -> int:
        """How many pictures a search finds in all."""
        where, values = search.where()
        ((found,),) = self._database.rows(f"SELECT count(*) FROM pictures WHERE {where}", *values)
        return int(found)

    def of_job(self, job: str) -> list[dict[str, Any]]:
        """The pictures of a job, in their order."""
        query = "SELECT * FROM pictures WHERE job = ? ORDER BY number"
        return [dict(row) for row in self._database.rows(query, job)]
