"""Whether the server lives, whether it would draw, whether it does; and what it has counted."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.responses import Response

from sakuga.api.request import Request as Drawing
from sakuga.server.desk import Order
from sakuga.server.job import FINISHED
from sakuga.server.service import Service
from sakuga.server.watch import follow

PROBE_EVERY, PROBE_SECONDS = 60.0, 30.0


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["Health"])
    probed: dict[str, Any] = {"at": -PROBE_EVERY, "answer": None}

    @routes.get("/health")
    async def health() -> dict[str, str]:
        """That this process answers."""
        return {"status": "ok"}

    @routes.get("/health/ready")
    async def ready() -> JSONResponse:
        """Whether a job would be drawn soon."""
        why = service.ready
        body = {"status": "ok"} if why is None else {"status": "not ready", "why": why}
        return JSONResponse(body, 200 if why is None else 503)

    @routes.get("/health/generate")
    async def generate() -> JSONResponse:
        """Whether a picture comes out: one small step, at most once a minute."""
        if time.monotonic() - probed["at"] < PROBE_EVERY and probed["answer"]:
            return JSONResponse(*probed["answer"])
        if (why := service.ready) is not None:
            return JSONResponse({"status": "not ready", "why": why}, 503)
        if service.queue.waiting or any(each.drawing for each in service.dispatchers):
            return JSONResponse({"status": "ok", "how": "others are being drawn"})
        probed["at"] = time.monotonic()
        probed["answer"] = await _probe(service)
        return JSONResponse(*probed["answer"])

    @routes.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """What was counted, as Prometheus reads it."""
        return Response(service.metrics.written(), media_type="text/plain; version=0.0.4")

    return routes


async def _probe(service: Service) -> tuple[dict[str, Any], int]:
    """Draw one step of the least size there is, and keep nothing of it."""
    side = max(service.model.model.drawing.min_side, 256)
    drawing = Drawing("1girl", seed=0, width=side, height=side, steps=1, solver="euler")
    job = await asyncio.to_thread(service.accept, Order(drawing, "health", "health", "low"))
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            async for change in follow(service, job.id):
                if change is not None:
                    job = change[1]
    except TimeoutError:
        await asyncio.to_thread(service.cancel, job.id)
        return {"status": "not ready", "why": "a small picture took too long"}, 503
    rows = await asyncio.to_thread(service.store.index.of_job, job.id)
    await asyncio.to_thread(service.store.delete, [row["id"] for row in rows])
    if job.state != FINISHED:
        return {"status": "not ready", "why": "a small picture failed"}, 503
    return {"status": "ok", "seconds": round((job.finished or 0) - (job.started or 0), 3)}, 200
