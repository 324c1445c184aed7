"""The routes of jobs: asked for, listed, watched, cancelled. The page uses them, scripts may."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from sakuga.errors import RequestError
from sakuga.server.clients import client_of
from sakuga.server.desk import Order, request_of
from sakuga.server.forms import preview_text
from sakuga.server.job import QUEUED, STATES, Job
from sakuga.server.service import Service
from sakuga.server.shown import show_job, show_models
from sakuga.server.watch import EventStream, follow, get_job

Priority = Literal["high", "normal", "low"]


class JobBody(BaseModel):
    """A job as it is asked for. `replaces`: one that is cancelled first; the latest wins."""

    model_config = ConfigDict(extra="forbid")

    request: dict[str, Any]
    priority: Priority = "normal"
    replaces: str | None = None


class PriorityBody(BaseModel):
    """Another priority."""

    model_config = ConfigDict(extra="forbid")

    priority: Priority


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/sakuga/v1", tags=["Jobs"])

    @routes.post("/jobs", status_code=202, response_model=None)
    async def post(body: JobBody, request: Request) -> JSONResponse:
        """Accept a job; what is answered is on disk."""
        order = Order(request_of(body.request), client_of(request), "jobs", body.priority)
        if body.replaces is not None:
            await asyncio.to_thread(_replace, service, body.replaces)
        job = await asyncio.to_thread(service.accept, order)
        shown = await asyncio.to_thread(show_job, service, job)
        return JSONResponse(shown, 202, {"location": f"jobs/{job.id}"})

    @routes.get("/jobs")
    def get_all(
        state: str = ",".join(STATES),
        limit: int = Query(50, ge=1, le=500),
        before: str | None = None,
    ) -> dict[str, Any]:
        """Jobs, the newest first."""
        states = state.split(",")
        if wrong := [one for one in states if one not in STATES]:
            raise RequestError(
                f"a state is one of {', '.join(STATES)}", repr(wrong[0][:40]), "Name those."
            )
        jobs = service.queue.jobs.listed(states, before, limit)
        return {
            "jobs": [show_job(service, job) for job in jobs],
            "next": jobs[-1].id if len(jobs) == limit else None,
            "counts": {**dict.fromkeys(STATES, 0), **service.queue.jobs.counts()},
            "paused": "draining" if service.draining else service.trouble,
        }

    @routes.get("/jobs/{id}")
    def get_one(id: str) -> dict[str, Any]:
        """One job."""
        return show_job(service, service.queue.jobs.get(id))

    @routes.delete("/jobs/{id}")
    def delete(id: str) -> dict[str, Any]:
        """Cancel a job; one under way ends at its next step, which is waited for."""
        return show_job(service, service.cancel(id))

    @routes.patch("/jobs/{id}")
    def patch(id: str, body: PriorityBody) -> dict[str, Any]:
        """Give a job that waits another priority."""
        job = service.queue.move(id, body.priority)
        service.feeds.stir()
        return show_job(service, job)

    _add_watching(service, routes)
    return routes


def _add_watching(service: Service, routes: APIRouter) -> None:
    @routes.get("/jobs/{id}/events", response_model=None)
    async def events(id: str) -> EventStream:
        """What goes on with a job, until it has ended."""
        await get_job(service, id)
        return EventStream(_events(service, id))

    @routes.get("/models")
    def models() -> dict[str, Any]:
        """The model, its defaults, what a request may say, and how much of it."""
        return show_models(service)


def _replace(service: Service, id: str) -> None:
    """Cancel a job in favour of one that comes, without waiting for its step to end."""
    job = service.queue.jobs.get(id)
    if job.ended:
        return
    if service.queue.cancel(id):
        service.feeds.restate(id, over=True)
        return
    for each in service.dispatchers:
        each.cancel(id)


def _event(name: str, data: Mapping[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


async def _events(service: Service, id: str) -> AsyncGenerator[str, None]:
    """What is new at each change: of a job that is drawn, the newest alone."""
    state, step, place, warned, job = "", ("", 0), None, 0, None
    async with aclosing(follow(service, id)) as changes:
        async for change in changes:
            if change is None:
                yield ": keepalive\n\n"
                continue
            feed, job = change
            if job.state != state:
                state = job.state
                yield _event("state", await asyncio.to_thread(show_job, service, job))
            for warning in feed.warnings[warned:]:
                yield _event("warning", warning)
            warned = len(feed.warnings)
            if job.state == QUEUED:
                ahead = await asyncio.to_thread(service.queue.jobs.ahead)
                if id in ahead and ahead[id] != place:
                    place = ahead[id]
                    yield _event("position", {"position": place[0], "wait": round(place[1], 3)})
            now, progress, previews = (feed.stage, feed.step), feed.progress, feed.previews
            if progress is None or now == step or job.ended:
                continue
            new_step, step = now[1] != step[1], now
            yield _event("progress", progress)
            for index, preview in enumerate(previews if new_step else ()):
                kind, text = await asyncio.to_thread(preview_text, preview)
                yield _event("preview", {
                    "step": now[1], "index": index, "width": preview.width,
                    "height": preview.height, "media_type": f"image/{kind}", "b64": text,
                })  # fmt: skip
    assert isinstance(job, Job)
    yield _event("done", await asyncio.to_thread(show_job, service, job))
