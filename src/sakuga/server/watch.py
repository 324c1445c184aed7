"""How routes wait for jobs, and how they stop when whoever asked is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sakuga.errors import Cancelled
from sakuga.server.job import Job
from sakuga.server.live import Feed
from sakuga.server.service import Service

KEEPALIVE = 15.0  # seconds of silence before a comment is sent


async def get_job(service: Service, id: str) -> Job:
    """A job, read beside the loop. Raises Refused where there is none."""
    return await asyncio.to_thread(service.queue.jobs.get, id)


async def follow(service: Service, id: str) -> AsyncGenerator[tuple[Feed, Job] | None, None]:
    """A job at every change, until it has ended; None at every long silence.

    It is read anew only where its state is another one.
    """
    job = await get_job(service, id)
    feed, changed = service.feeds.watch(id)
    try:
        seen = -1
        while True:
            changed.clear()
            if feed.state != seen:
                seen = feed.state
                job = await get_job(service, id)
            yield feed, job
            if job.ended:
                return
            try:
                await asyncio.wait_for(changed.wait(), KEEPALIVE)
            except TimeoutError:
                seen = -1  # a change may have come before it was watched
                yield None
    finally:
        service.feeds.leave(id, changed, over=job.ended)


async def ended(service: Service, request: Request, id: str) -> Job:
    """A job once it has ended. Raises Cancelled where whoever asked has left: so is the job."""

    async def until() -> Job:
        async with aclosing(follow(service, id)) as changes:
            async for change in changes:
                if change is not None and change[1].ended:
                    return change[1]
        raise AssertionError("a job is followed to its end")

    waiting = asyncio.create_task(until())
    gone = asyncio.create_task(_gone(request.receive))
    try:
        await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
    finally:
        gone.cancel()
        waiting.cancel()
        if not waiting.done() or waiting.cancelled():
            cancel_later(service, id)
    raise Cancelled("a client waits for what it asked for", "one that left", "Nothing is kept.")


def cancel_later(service: Service, id: str) -> None:
    """Cancel a job without waiting for it."""
    asyncio.get_running_loop().run_in_executor(None, service.cancel, id)


class EventStream(Response):
    """Server-sent events. When the client leaves, what makes them is closed; `left` is told."""

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncGenerator[str, None], left: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._events, self._left = events, left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until there is no more, or nobody."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        pump = asyncio.create_task(self._pump(send, start))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            pump.cancel()
            await asyncio.wait({pump})
            await self._events.aclose()
            if pump.cancelled():
                self._left()
        if not pump.cancelled():
            pump.result()

    async def _pump(self, send: Send, start: dict[str, object]) -> None:
        await send(start)
        async with aclosing(self._events) as events:
            async for text in events:
                await send({
                    "type": "http.response.body", "body": text.encode(), "more_body": True,
                })  # fmt: skip
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
