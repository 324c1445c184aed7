"""What a batch draws, one picture each: a row of its job, resolved, with an id that lasts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from sakuga.api.codec import plain
from sakuga.api.request import MAX_SEED, Request
from sakuga.api.resolved import Resolved
from sakuga.errors import RequestError

ID = 16  # hexadecimal digits
FILES = ("image", "mask", "lora")  # fields that name files, which count by what is in them
NAME = re.compile(r"[^\w.-]+")
LONGEST_NAME = 80  # characters before the id
Digests = Callable[[Request], tuple[Any, ...]]  # of the files that a request names


@dataclass(frozen=True, slots=True)
class JobRow:
    """What is asked for in one place of a job.

    `where`: that place, as messages tell it. `fields`: of Request, as given, with a prompt and a
    seed. `name`: how its picture's file begins. `notes`: what was chosen at random for it.
    """

    where: str
    fields: Mapping[str, Any]
    name: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """One picture of a row. `id`: of all that decides its pixels, but for the computer."""

    row: JobRow
    id: str
    request: Resolved

    @property
    def file(self) -> str:
        """The name of its picture."""
        name = NAME.sub("_", self.row.name).strip("._-")[:LONGEST_NAME]
        return f"{name}-{self.id}.png" if name else f"{self.id}.png"

    @property
    def mark(self) -> str:
        """What its receipt says of it."""
        return f"item {self.id} of a batch"

    @property
    def kin(self) -> tuple[Any, ...]:
        """What changes slowly from one to the next in a good order: adapters, then shapes."""
        request = self.request
        return (request.lora, request.width * request.height, request.size, request.guided,
                request.solver, request.steps)  # fmt: skip


@dataclass(slots=True)
class Items:
    """The items of rows for one model, and what is wrong with the other rows.

    `resolve`: a request with nothing left open. `weights`: digests of the model's files.
    """

    resolve: Callable[[Request], Resolved]
    weights: Mapping[str, str]
    digests: Digests
    items: list[Item] = field(default_factory=list)
    wrong: list[tuple[JobRow, str]] = field(default_factory=list)
    twice: int = 0
    _known: dict[str, tuple[Resolved, Any]] = field(default_factory=dict)
    _ids: set[str] = field(default_factory=set)

    def read(self, rows: Iterable[JobRow]) -> None:
        """Make items of rows; of rows that ask for one picture, one."""
        for row in rows:
            try:
                for item in self._items(row):
                    if item.id in self._ids:
                        self.twice += 1
                        continue
                    self._ids.add(item.id)
                    self.items.append(item)
            except RequestError as error:
                self.wrong.append((row, str(error)))

    def _items(self, row: JobRow) -> Iterator[Item]:
        """A picture for each that a row asks for: none depends on another."""
        given = dict(row.fields)
        prompt, seed, number = given.pop("prompt"), given.pop("seed"), given.pop("number", 1)
        key = json.dumps(plain(given), sort_keys=True)
        if key not in self._known:  # rows differ in little else than words and seeds
            request = _asked({**given, "prompt": "", "seed": 0})
            resolved = self.resolve(request)
            form = {
                one.name: plain(getattr(resolved, one.name))
                for one in fields(resolved) if one.name not in (*FILES, "prompt", "seed", "number")
            }  # fmt: skip
            decides = [form, dict(self.weights), *self.digests(request)]
            self._known[key] = resolved, json.dumps(decides, sort_keys=True)
        resolved, decides = self._known[key]
        for index in range(number):
            if seed + index > MAX_SEED:
                raise RequestError("a seed must be at most 2^63-1", str(seed + index), "Lower it.")
            request = replace(resolved, prompt=prompt, seed=seed + index)
            yield Item(row, _digest(decides, prompt, request.seed), request)


def _asked(given: Mapping[str, Any]) -> Request:
    return Request(**{**given, "lora": tuple(given.get("lora", ()))})


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:ID]
