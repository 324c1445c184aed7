"""Jobs, pictures and the model as JSON for the page and for scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sakuga.api.codec import plain
from sakuga.api.options import json_schema
from sakuga.api.request import RECIPES, Request
from sakuga.server.desk import sparse
from sakuga.server.guard import MOST_BODY
from sakuga.server.job import QUEUED, RUNNING, Job
from sakuga.server.problems import failed_problem
from sakuga.server.service import Service

OWN_FIELDS = ("seed", "width", "height", "bytes", "created", "model", "prompt", "negative", "steps",
              "seconds", "job", "id")  # fmt: skip


def show_job(service: Service, job: Job) -> dict[str, Any]:
    """A job, with its place in the queue, its progress and its pictures."""
    position, wait = None, None
    if job.state == QUEUED:
        position, wait = service.queue.jobs.ahead().get(job.id, (None, None))
    feed = service.feeds.seen(job.id)
    rows = service.store.index.of_job(job.id)
    return {
        "id": job.id, "state": job.state, "priority": job.priority, "route": job.route,
        "position": position, "wait": None if wait is None else round(wait, 3),
        "created": job.created, "started": job.started, "finished": job.finished,
        "seconds": round(job.seconds, 3), "attempts": job.attempts,
        "request": service.desk.told(job),
        "progress": feed.progress if job.state == RUNNING else None,
        "pictures": [show_picture(row) for row in rows],
        "warnings": list(job.warnings), "error": show_error(job),
    }  # fmt: skip


def show_error(job: Job) -> dict[str, Any] | None:
    """Why a job failed."""
    if job.error is None:
        return None
    problem = failed_problem(job.error)
    return {"code": problem.code, "message": problem.message, "rule": problem.rule,
            "got": problem.got, "fix": problem.fix}  # fmt: skip


def show_picture(row: Mapping[str, Any]) -> dict[str, Any]:
    """A picture without its receipt; addresses are relative to the page."""
    base = f"sakuga/v1/pictures/{row['id']}"
    return {
        **{name: row[name] for name in OWN_FIELDS}, "index": row["number"],
        "file": f"{base}/file", "thumbnail": f"{base}/thumbnail",
    }  # fmt: skip


def show_whole_picture(row: Mapping[str, Any]) -> dict[str, Any]:
    """A picture with its receipt, and what to ask for to have it drawn again."""
    receipt = json.loads(row["receipt"])
    again = {**receipt["request"], "seed": receipt["seed"], "number": 1}
    again["lora"] = [
        f"{one['file'].removesuffix('.safetensors')}:{one['strength']:g}"
        for one in receipt["adapters"]
    ]
    return {**show_picture(row), "receipt": receipt, "request": sparse(again)}


def show_models(service: Service) -> dict[str, Any]:
    """The model, what it takes, and what this server adds to that."""
    drawing, settings = service.model.model.drawing, service.settings
    return {"models": [{
        "id": service.name, "default": True,
        "device": service.dispatchers[0].worker.device or service.spec.device,
        "drawing": {
            **{name: getattr(drawing, name) for name in (
                "width", "height", "steps", "guidance", "solver", "shift", "size_multiple",
                "min_side", "max_side", "max_pixels",
            )},
            "trained_sizes": drawing.trained_sizes.split(),
        },
        "limits": {
            "prompt_bytes": 65_536, "number": 10, "steps": 200, "side": drawing.max_side,
            "pixels": drawing.max_pixels, "body_bytes": MOST_BODY, "queue": settings.queue,
            "request_seconds": settings.request_seconds,
            "queue_seconds": settings.queue_seconds,
        },
        "recipes": {name: plain(one) for name, one in RECIPES.items()},
        "adapters": [
            {"name": name, "bytes": path.stat().st_size}
            for name, path in service.names.adapters().items()
        ],
        "schema": json_schema(Request),
    }]}  # fmt: skip
