"""The OpenAI Images routes: /v1/images/generations and edits, /v1/models, and files of our own."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from sakuga.api.request import Request as Drawing
from sakuga.api.request import parse_size
from sakuga.errors import RequestError
from sakuga.files.pictures import as_source
from sakuga.server import problems
from sakuga.server.clients import client_of
from sakuga.server.desk import Order
from sakuga.server.forms import FORMATS, in_format, preview_text, text_of
from sakuga.server.job import FINISHED, Job
from sakuga.server.refused import Refused
from sakuga.server.service import Service
from sakuga.server.watch import EventStream, cancel_later, ended, follow

ALIASES = re.compile(r"sakuga|dall-e-[23]|gpt-image-[\w.-]+|chatgpt-image-[\w.-]+")
PICTURE = re.compile(r"[0-9a-z]{26}-\d{1,2}")
MOST_PICTURES = 1  # of an edit: it starts from one


class GenerationBody(BaseModel):
    """What is asked of either route; fields that are not known are named in `warnings`."""

    model_config = ConfigDict(extra="allow")

    prompt: str
    model: str | None = None
    n: int | None = Field(None, ge=1, le=10)
    size: str | None = None
    response_format: Literal["b64_json", "url"] | None = None
    output_format: str | None = None
    output_compression: int | None = Field(None, ge=0, le=100)
    quality: str | None = None
    background: str | None = None
    moderation: str | None = None
    style: str | None = None
    user: str | None = None
    stream: bool | None = None
    partial_images: int | None = Field(None, ge=0, le=3)
    negative_prompt: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    true_cfg_scale: float | None = None
    flow_shift: float | None = None
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    solver: str | None = None
    strength: float | None = None
    lora: dict[str, Any] | str | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """A body understood: the drawing, and how its answer is wanted."""

    drawing: Drawing
    form: str | None
    kind: str
    quality: int
    partials: int
    ignored: tuple[str, ...]
    events: str  # how the events of its stream are called

    def fields(self, width: int, height: int) -> dict[str, Any]:
        """What answers and events say of every picture."""
        return {"size": f"{width}x{height}", "quality": "high", "background": "opaque",
                "output_format": self.kind}  # fmt: skip


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1", tags=["OpenAI Images"])

    @routes.post("/images/generations", response_model=None)
    async def generations(body: GenerationBody, request: Request) -> Response:
        """Draw pictures of a prompt."""
        return await _answer(service, request, body, _wish(service, body, "image_generation"))

    @routes.post("/images/edits", response_model=None)
    async def edits(
        request: Request,
        image: Annotated[list[UploadFile] | None, File()] = None,
        images: Annotated[list[UploadFile] | None, File(alias="image[]")] = None,
        mask: Annotated[UploadFile | None, File()] = None,
        prompt: Annotated[str | None, Form()] = None,
    ) -> Response:
        """Draw a picture anew, where a mask is transparent, or all of it."""
        form = await request.form()
        texts = {key: value for key, value in form.items() if isinstance(value, str)}
        body = GenerationBody.model_validate({**texts, "prompt": prompt or ""})
        given = [*(image or ()), *(images or ())]
        if len(given) != MOST_PICTURES:
            raise RequestError("an edit starts from one image", f"{len(given)}", "Send one.")
        source = as_source(await given[0].read())
        hole = None if mask is None else await asyncio.to_thread(holes, await mask.read())
        return await _answer(
            service, request, body, _wish(service, body, "image_edit", source, hole)
        )

    @routes.get("/models")
    async def models() -> dict[str, Any]:
        """The one model there is, and what it takes."""
        return {"object": "list", "data": [_model(service)]}

    @routes.get("/models/{model:path}")
    async def model(model: str) -> dict[str, Any]:
        """The model by its name."""
        _check_model(service, unquote(model))
        return _model(service)

    @routes.get("/images/files/{name}", response_class=FileResponse)
    async def file(name: str) -> FileResponse:
        """A picture that `url` of an answer names."""
        id = name.removesuffix(".png")
        await asyncio.to_thread(service.store.index.get, id)
        return FileResponse(service.store.file(id), media_type="image/png")

    return routes


def _model(service: Service) -> dict[str, Any]:
    drawing, settings = service.model.model.drawing, service.settings
    return {
        "id": service.name, "object": "model", "created": 0, "owned_by": "sakuga",
        "limits": {
            "n": 10, "steps": 200, "min_side": drawing.min_side, "max_side": drawing.max_side,
            "size_multiple": drawing.size_multiple, "max_pixels": drawing.max_pixels,
            "prompt_bytes": 65_536, "request_seconds": settings.request_seconds,
            "queue": settings.queue,
        },
    }  # fmt: skip


def _check_model(service: Service, name: str | None) -> None:
    if name in (None, "", service.name) or ALIASES.fullmatch(str(name)):
        return
    raise Refused(
        "model_not_found", "a model is one of /v1/models", repr(str(name)[:80]),
        f"Ask for {service.name!r}, or leave it out.", 404,
    )  # fmt: skip


def _wish(
    service: Service, body: GenerationBody, events: str, image: str | None = None,
    mask: str | None = None,
) -> Wish:  # fmt: skip
    """A body as a drawing of ours. Raises RequestError, Refused."""
    _check_model(service, body.model)
    kind = {"jpg": "jpeg"}.get(body.output_format or "png", body.output_format or "png")
    if kind not in FORMATS:
        raise RequestError(
            "output_format is png, jpeg or webp", repr(kind[:40]), "Ask for one of them."
        )
    width, height = body.width, body.height
    if body.size not in (None, "", "auto") and width is None and height is None:
        found = parse_size(str(body.size)) if len(str(body.size)) < 20 else None
        if found is None:
            raise RequestError("size is auto or WIDTHxHEIGHT", repr(str(body.size)[:40]),
                               "Write 256x256.")  # fmt: skip
        width, height = found
    given: dict[str, Any] = {
        "negative": body.negative_prompt, "seed": body.seed, "width": width, "height": height,
        "number": body.n, "steps": body.num_inference_steps, "shift": body.flow_shift,
        "guidance": body.true_cfg_scale if body.guidance_scale is None else body.guidance_scale,
        "solver": body.solver, "lora": _lora(body.lora), "image": image, "mask": mask,
        "strength": body.strength if image else None,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    ignored = (*(body.model_extra or ()), *(["background"] * (body.background == "transparent")))
    return Wish(
        Drawing(body.prompt, **given), body.response_format, kind,
        90 if body.output_compression is None else body.output_compression,
        body.partial_images or 0, ignored, events,
    )  # fmt: skip


def _lora(given: dict[str, Any] | str | None) -> tuple[str, ...] | None:
    if not given:
        return None
    if isinstance(given, str):
        return (given,)
    return (f"{given.get('name', '')}:{float(given.get('scale', 1)):g}",)


def holes(mask: bytes) -> str:
    """A mask of this family, transparent where it is drawn, as one of ours, white there."""
    import io  # noqa: PLC0415

    from PIL import Image, ImageOps  # noqa: PLC0415

    from sakuga.files.pictures import look_at  # noqa: PLC0415

    look_at(str(as_source(mask)))
    image = Image.open(io.BytesIO(mask), formats=["PNG", "WEBP", "JPEG"])
    if "A" in image.getbands() or "transparency" in image.info:
        grey = ImageOps.invert(image.convert("RGBA").getchannel("A"))
    else:
        grey = image.convert("L")
    return str(as_source(grey))


async def _answer(service: Service, request: Request, body: GenerationBody, wish: Wish) -> Response:
    order = Order(wish.drawing, client_of(request, body.user), "openai")
    job = await asyncio.to_thread(service.accept, order)
    if body.stream:
        events = _events(service, job.id, wish, request)
        return EventStream(events, lambda: cancel_later(service, job.id))
    job = await ended(service, request, job.id)
    if job.state != FINISHED:
        return problems.answer(_problem(job), "/v1/", request.state.request_id)
    base = str(request.base_url)
    return JSONResponse(await asyncio.to_thread(_finished, service, job, wish, base))


def _problem(job: Job) -> problems.Problem:
    if job.error:
        return problems.failed_problem(job.error)
    return problems.Problem(409, "cancelled", "a job is drawn to its end", "one that was cancelled",
                            "Ask again.")  # fmt: skip


def _pictures(service: Service, job: Job) -> list[dict[str, Any]]:
    return service.store.index.of_job(job.id)


def _finished(service: Service, job: Job, wish: Wish, base: str) -> dict[str, Any]:
    """The body of an answer."""
    rows = _pictures(service, job)
    answer: dict[str, Any] = {
        "created": int(time.time()), "data": [_item(service, row, wish, base) for row in rows],
        **wish.fields(rows[0]["width"], rows[0]["height"]), "usage": _usage(rows),
        "id": f"img-{job.id}",
    }  # fmt: skip
    if wish.ignored:
        answer["warnings"] = [f"{name} is not known here and was ignored." for name in wish.ignored]
    return answer


def _item(service: Service, row: Mapping[str, Any], wish: Wish, base: str) -> dict[str, Any]:
    """One picture: as base64, by an address of our own, or both where nobody says which."""
    item: dict[str, Any] = {"b64_json": None, "url": None, "revised_prompt": None,
                            "seed": row["seed"]}  # fmt: skip
    if wish.form != "url":
        item["b64_json"] = _text(service, row, wish)
    if wish.form != "b64_json":
        item["url"] = f"{base}v1/images/files/{row['id']}.png"
    return item


def _text(service: Service, row: Mapping[str, Any], wish: Wish) -> str:
    return text_of(in_format(service.store.file(row["id"]).read_bytes(), wish.kind, wish.quality))


def _usage(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Tokens: those that Gemma read, and a patch of 16 by 16 pixels each."""
    read = int(json.loads(rows[0]["receipt"])["tokens"]["gemma"])
    drawn = sum(row["width"] * row["height"] // 256 for row in rows)
    return {
        "input_tokens": read, "output_tokens": drawn, "total_tokens": read + drawn,
        "input_tokens_details": {"text_tokens": read, "image_tokens": 0},
    }  # fmt: skip


def _event(name: str, data: Mapping[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n"


async def _events(
    service: Service, id: str, wish: Wish, request: Request
) -> AsyncGenerator[str, None]:
    """The stream: at most so many partial pictures, then each whole one."""
    told, job = 0, None
    yield ": accepted\n\n"
    async with aclosing(follow(service, id)) as changes:
        async for change in changes:
            if change is None:
                yield ": keepalive\n\n"
                continue
            feed, job = change
            due = feed.step * (wish.partials + 1) // feed.steps if feed.steps else 0
            if told < min(due, wish.partials) and feed.step < feed.steps and feed.previews:
                preview, told = feed.previews[0], told + 1
                kind, text = await asyncio.to_thread(preview_text, preview)
                yield _event(f"{wish.events}.partial_image", {
                    "b64_json": text, "partial_image_index": told - 1,
                    "created_at": int(time.time()),
                    **wish.fields(preview.width, preview.height), "output_format": kind,
                })  # fmt: skip
    assert job is not None
    if job.state != FINISHED:
        body = problems.envelope(_problem(job), "/v1/", request.state.request_id)
        yield f"event: error\ndata: {json.dumps(body)}\n\n"
        return
    rows = await asyncio.to_thread(_pictures, service, job)
    for row in rows:
        text = await asyncio.to_thread(_text, service, row, wish)
        yield _event(f"{wish.events}.completed", {
            "b64_json": text, "created_at": int(time.time()), "seed": row["seed"],
            **wish.fields(row["width"], row["height"]), "usage": _usage(rows),
        })  # fmt: skip
    yield "data: [DONE]\n\n"
