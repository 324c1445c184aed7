"""Where requests of clients are made into jobs: names for paths, caps, a price, and a place."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from sakuga.api.codec import plain, typed
from sakuga.api.engine_spec import EngineSpec
from sakuga.api.request import Request
from sakuga.api.resolved import Resolved, resolve
from sakuga.errors import RequestError
from sakuga.files.pictures import as_source, look_at
from sakuga.memory.plan import MemoryPlan
from sakuga.prompt.document import read
from sakuga.server.cost import Cost, Served
from sakuga.server.job import QUEUED, Job, new_id
from sakuga.server.names import PublicNames
from sakuga.server.queue import JobQueue
from sakuga.server.refused import Refused
from sakuga.server.store import PictureStore

INLINE = re.compile(r"data:[\w/+.-]*;base64,")
STORED = re.compile(r"picture:([0-9a-z]{26}-\d{1,2})")
PICTURES = ("image", "mask")


@dataclass(frozen=True, slots=True)
class Order:
    """What a client asks for, who it is, and how soon it should be."""

    request: Request
    client: str
    route: str
    priority: str = "normal"


class Desk:
    """Takes orders."""

    def __init__(
        self, model: Served, queue: JobQueue, store: PictureStore, cost: Cost,
        names: PublicNames, most_seconds: float,
    ) -> None:  # fmt: skip
        self._model, self._queue, self._store, self._cost = model, queue, store, cost
        self._names = names
        self._most_seconds = most_seconds

    def accept(self, order: Order) -> Job:
        """Make a job of an order; once this returns it is on disk.

        Raises RequestError for what the model cannot draw, Refused for what this server does not.
        """
        self._queue.refuse_more()
        request = self._own(order.request)
        resolved, seconds = self.priced(request)
        if seconds > self._most_seconds:
            raise Refused(
                "over_budget", f"a job costs at most {self._most_seconds:g} s, as planned",
                f"{seconds:.0f} s", "Ask for fewer pictures, fewer steps or a smaller size.",
            )  # fmt: skip
        asked = {**plain(request), "seed": resolved.seed}  # so that a second try draws the same
        return self._queue.add(
            Job(
                new_id(),
                QUEUED,
                order.priority,
                order.client,
                order.route,
                sparse(asked),
                seconds,
                time.time(),
            )
        )

    def priced(self, request: Request) -> tuple[Resolved, float]:
        """A request with nothing left open, and the seconds it will take. Raises RequestError."""
        read(request.prompt)  # what no tool should parse is refused before it costs anything
        read(request.negative)
        resolved = resolve(request, self._model.model.drawing)
        return resolved, self._cost.seconds(resolved)

    def planned(self, request: Request, spec: EngineSpec) -> tuple[MemoryPlan, float]:
        """How a request would be run, and the seconds it will take. Nothing is queued."""
        resolved, seconds = self.priced(self._own(request))
        return self._cost.plan(resolved, spec.budget, spec.dtype), seconds

    def told(self, job: Job) -> dict[str, Any]:
        """The request of a job as clients may see it again: no bytes, no paths."""
        request = dict(job.request)
        for name in PICTURES:
            if request.get(name):
                request[name] = None
        return sparse(request)

    def _own(self, request: Request) -> Request:
        """A request whose pictures are in it, and whose adapters are this server's."""
        changes: dict[str, Any] = {name: self._picture(name, getattr(request, name))
                                   for name in PICTURES}  # fmt: skip
        for one in request.lora:
            self._names.place(one)
        return replace(request, **changes)

    def _picture(self, name: str, given: str | None) -> str | None:
        if not given:
            return None
        if INLINE.match(given):
            look_at(given)
            return given
        if found := STORED.fullmatch(given):
            self._store.index.get(found[1])
            return str(as_source(self._store.file(found[1]).read_bytes()))
        raise RequestError(
            f"{name} is a data URL, or picture:ID of a picture of this server",
            "something else", "Send the file itself, as data:image/png;base64,...",
        )  # fmt: skip


def sparse(request: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request that say something."""
    usual = {one.name: plain(one.default) for one in fields(Request)}
    return {name: value for name, value in request.items() if value != usual[name]}


def request_of(data: Mapping[str, Any]) -> Request:
    """A request from JSON. Raises RequestError, naming the field."""
    return typed(Request, data, "request")
