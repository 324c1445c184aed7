"""The app: all routes over one service, behind one guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.types import ASGIApp

from sakuga.server import a1111, gallery, health, jobs, openai, plans, problems, prompts
from sakuga.server.guard import Guard
from sakuga.server.refused import Refused
from sakuga.server.service import Service

PAGE = Path(__file__).parent / "page"
KINDS = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml", ".png": "image/png",
    ".json": "application/json", ".webmanifest": "application/manifest+json",
}  # fmt: skip


def create_app(service: Service) -> FastAPI:
    """The app of a service, which begins and ends with it; `guarded` is what is served."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start(asyncio.get_running_loop())
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="sakuga", version=version("sakuga"), lifespan=lifespan,
        docs_url=None, redoc_url=None, root_path=service.settings.root_path,
    )  # fmt: skip
    problems.install(app)
    for routes in (jobs, gallery, openai, a1111, health, plans):
        app.include_router(routes.router(service))
    app.include_router(prompts.router(service.spec))
    _add_page(app)
    return app


def guarded(service: Service) -> ASGIApp:
    """The app behind its guard."""
    return Guard(create_app(service), service)


def _add_page(app: FastAPI) -> None:
    """The files of the page, and no others."""
    files = {
        one.relative_to(PAGE).as_posix(): one
        for one in PAGE.rglob("*")
        if one.is_file() and one.suffix in KINDS
    }

    @app.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return _file(files, "index.html")

    @app.get("/page/{path:path}", include_in_schema=False)
    async def page(path: str) -> FileResponse:
        return _file(files, path)


def _file(files: dict[str, Path], name: str) -> FileResponse:
    if name not in files:
        raise Refused("not_found", "a file is one of the page", repr(name[:80]), "See /.", 404)
    return FileResponse(
        files[name], media_type=KINDS[files[name].suffix], headers={"cache-control": "no-cache"}
    )
