"""A job: one request on its way from being accepted to its one end."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"  # sorted, and none that people mistake for another
QUEUED, RUNNING, FINISHED, FAILED, CANCELLED = STATES = (
    "queued", "running", "finished", "failed", "cancelled",
)  # fmt: skip
ENDED = frozenset((FINISHED, FAILED, CANCELLED))
PRIORITIES = ("high", "normal", "low")
MOST_DEATHS = 2  # workers that a job may cost


@dataclass(frozen=True, slots=True)
class Job:
    """One job as the queue keeps it.

    `request`: fields of a Request as JSON. `turn`: when it is due among jobs of its priority.
    `seconds`: what it costs as planned. `attempts`: how often it was begun. `deaths`: workers
    that ended while they drew it. `error`: why it failed, in a server's words.
    """

    id: str
    state: str
    priority: str
    client: str
    route: str
    request: Mapping[str, Any]
    seconds: float
    created: float
    turn: float = 0.0
    started: float | None = None
    finished: float | None = None
    attempts: int = 0
    deaths: int = 0
    error: Mapping[str, Any] | None = None
    warnings: tuple[Mapping[str, Any], ...] = field(default=())

    @property
    def ended(self) -> bool:
        """Whether it is in its one terminal state."""
        return self.state in ENDED


def new_id() -> str:
    """A name that no other job has, later ones behind earlier ones, and that tells nothing."""
    number = (time.time_ns() // 1000) << 79 | secrets.randbits(79)
    return "".join(DIGITS[number >> shift & 31] for shift in range(125, -1, -5))
