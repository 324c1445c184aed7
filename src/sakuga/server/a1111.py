"""The routes of A1111's web UI, /sdapi/v1, as far as its clients ask for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from sakuga.api.said import said_by
from sakuga.server import problems
from sakuga.server.a1111_forms import (
    FromPictureBody,
    TextBody,
    drawing_of,
    info_of,
    samplers,
    schedulers,
)
from sakuga.server.clients import client_of
from sakuga.server.desk import Order
from sakuga.server.forms import preview_text, text_of
from sakuga.server.job import FINISHED, QUEUED, RUNNING, Job
from sakuga.server.reading import texts_in
from sakuga.server.service import Service
from sakuga.server.watch import ended

ROUTE = "a1111"
MANY = 500
# Lists that clients ask for, and that have nothing in them here.
EMPTY = ("embeddings", "hypernetworks", "face-restorers", "realesrgan-models", "prompt-styles",
         "sd-modules", "latent-upscale-modes", "extensions", "script-info")  # fmt: skip


class PictureBody(BaseModel):
    """A picture to be read."""

    model_config = ConfigDict(extra="allow")

    image: str


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/sdapi/v1", tags=["A1111"])
    chosen = {"sd_model_checkpoint": service.name}

    @routes.post("/txt2img", response_model=None)
    async def txt2img(body: TextBody, request: Request) -> Response:
        """Draw pictures of a prompt."""
        return await _draw(service, request, body)

    @routes.post("/img2img", response_model=None)
    async def img2img(body: FromPictureBody, request: Request) -> Response:
        """Draw from a picture, all of it or where a mask is white."""
        return await _draw(service, request, body)

    @routes.get("/options")
    def options() -> dict[str, Any]:
        """What is set."""
        return {**chosen, "sd_vae": "Automatic", "samples_format": "png", "sd_checkpoint_hash": "",
                "CLIP_stop_at_last_layers": 1}  # fmt: skip

    @routes.post("/options")
    async def set_options(body: dict[str, Any]) -> None:
        """Nothing here can be set; what is sent is passed over, as clients send all of it back."""

    @routes.get("/progress")
    def progress(request: Request, skip_current_image: bool = False) -> dict[str, Any]:
        """How far the client's own drawings are."""
        return _progress(service, request, skip_current_image)

    @routes.post("/interrupt")
    async def interrupt(request: Request) -> dict[str, Any]:
        """End the client's own drawings."""
        await asyncio.to_thread(_interrupt, service, client_of(request))
        return {}

    @routes.post("/skip")
    async def skip(request: Request) -> None:
        """The same; there is nothing behind it that would be gone on with."""
        await asyncio.to_thread(_interrupt, service, client_of(request))

    @routes.post("/png-info")
    def png_info(body: PictureBody) -> dict[str, Any]:
        """What a picture says of how it was made."""
        return _read(body.image)

    _add_lists(service, routes)
    return routes


def _add_lists(service: Service, routes: APIRouter) -> None:
    """What clients ask for when they connect."""
    model = {
        "title": service.name, "model_name": service.name, "hash": None, "sha256": None,
        "filename": service.name, "config": None,
    }  # fmt: skip
    none = {"name": "None", "model_name": None, "model_path": None, "model_url": None, "scale": 1}

    def loras() -> list[dict[str, Any]]:
        names = service.names.adapters()
        return [{"name": one, "alias": one, "path": one, "metadata": {}} for one in names]

    def memory() -> dict[str, Any]:
        used = sum(each.worker.memory for each in service.dispatchers)
        return {"ram": {"used": used}, "cuda": {}}

    answers: dict[str, Any] = {
        "samplers": samplers, "schedulers": schedulers, "sd-models": lambda: [model],
        "sd-vae": lambda: [{"model_name": "Automatic", "filename": "Automatic"}],
        "upscalers": lambda: [none], "loras": loras, "memory": memory,
        "scripts": lambda: {"txt2img": [], "img2img": []}, "cmd-flags": dict,
        **dict.fromkeys(EMPTY, list),
    }  # fmt: skip
    for name, made in answers.items():
        routes.add_api_route(f"/{name}", _answering(made), methods=["GET"], name=name,
                             description="A list that clients ask for.")  # fmt: skip
    for name in ("refresh-checkpoints", "refresh-loras", "refresh-vae", "unload-checkpoint",
                 "reload-checkpoint"):  # fmt: skip
        routes.add_api_route(f"/{name}", _answering(lambda: None), methods=["POST"], name=name,
                             description="Nothing is to be done.")  # fmt: skip


def _answering(made: Any) -> Any:
    async def answer() -> JSONResponse:
        return JSONResponse(await asyncio.to_thread(made))

    return answer


async def _draw(service: Service, request: Request, body: TextBody) -> Response:
    taken = drawing_of(body, tuple(service.names.adapters()))
    order = Order(taken.drawing, client_of(request), ROUTE)
    job = await asyncio.to_thread(service.accept, order)
    job = await ended(service, request, job.id)
    if job.state != FINISHED:
        problem = problems.failed_problem(job.error) if job.error else None
        if problem is None:  # as A1111 does it: an interrupted drawing gives no pictures
            return JSONResponse({"images": [], "parameters": {}, "info": "{}"})
        return problems.answer(problem, "/sdapi/", request.state.request_id)
    rows = await asyncio.to_thread(service.store.index.of_job, job.id)
    files = [service.store.file(row["id"]) for row in rows]
    images = [] if body.send_images is False else await asyncio.to_thread(_texts, files)
    info = await asyncio.to_thread(info_of, rows, taken.notes)
    echo = body.model_dump(exclude={"init_images", "mask", "auth", "url"}, exclude_none=True)
    return JSONResponse({"images": images, "parameters": echo, "info": info})


def _texts(files: Sequence[Path]) -> list[str]:
    return [text_of(file.read_bytes()) for file in files]


def _own(service: Service, client: str) -> list[Job]:
    """The jobs of a client that have not ended, the one due first before the others."""
    jobs = service.queue.jobs.listed((RUNNING, QUEUED), None, MANY)
    own = [job for job in jobs if job.route == ROUTE and job.client == client]
    return sorted(own, key=lambda job: (job.state != RUNNING, job.turn))


def _interrupt(service: Service, client: str) -> None:
    for job in reversed(_own(service, client)):
        service.cancel(job.id)


def _progress(service: Service, request: Request, skip: bool) -> dict[str, Any]:
    own = _own(service, client_of(request))
    state: dict[str, Any] = {
        "skipped": False, "interrupted": False, "stopping_generation": False, "job": "",
        "job_count": 0, "job_timestamp": "0", "job_no": 0, "sampling_step": 0, "sampling_steps": 0,
    }  # fmt: skip
    found = {"progress": 0.0, "eta_relative": 0.0, "state": state, "current_image": None,
             "textinfo": None}  # fmt: skip
    if not own:
        return found
    feed = service.feeds.seen(own[0].id)
    told = feed.progress or {"fraction": 0.0, "eta": None}
    stamp = time.strftime("%Y%m%d%H%M%S", time.gmtime(own[0].created))
    state |= {"job": own[0].id, "job_count": len(own), "job_timestamp": stamp,
              "sampling_step": feed.step, "sampling_steps": feed.steps}  # fmt: skip
    found |= {"progress": max(0.01, min(0.99, told["fraction"])),
              "eta_relative": told["eta"] or 0.0}  # fmt: skip
    if feed.previews and not skip:
        found["current_image"] = preview_text(feed.previews[0])[1]
    return found


def _read(image: str) -> dict[str, Any]:
    """The texts of a picture: A1111's own, and what is read of another program's."""
    texts = texts_in(image)
    said = said_by(texts)
    parameters = {} if said is None else {
        "Prompt": said.text.prompt, "Negative prompt": said.text.negative, **said.text.settings,
    }  # fmt: skip
    return {"info": texts.get("parameters", ""), "items": texts, "parameters": parameters}
