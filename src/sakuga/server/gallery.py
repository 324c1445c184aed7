"""The routes of pictures: found, shown, exported, deleted, and read of how they were made."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from sakuga.errors import RequestError
from sakuga.server.index import Search
from sakuga.server.reading import read_picture
from sakuga.server.service import Service
from sakuga.server.shown import show_picture, show_whole_picture

MOST_ZIPPED = 1000


class IdsBody(BaseModel):
    """Pictures by their ids."""

    model_config = ConfigDict(extra="forbid")

    ids: list[str] = Field(max_length=5000)


class PictureToReadBody(BaseModel):
    """A picture, as a data URL."""

    model_config = ConfigDict(extra="forbid")

    image: str


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/sakuga/v1/pictures", tags=["Pictures"])
    store = service.store

    @routes.get("")
    def find(  # what may be asked of it
        q: str = "",
        tag: Annotated[list[str] | None, Query()] = None,
        seed: int | None = Query(None, ge=0, le=2**63 - 1),
        since: float | None = None,
        until: float | None = None,
        model: str | None = None,
        before: str | None = None,
        limit: int = Query(100, ge=1, le=500),
    ) -> dict[str, Any]:
        """Pictures, the newest first."""
        search = Search(q, tuple(tag or ()), seed, since, until, model)
        rows = store.index.find(search, before, limit)
        return {
            "pictures": [show_picture(row) for row in rows],
            "next": rows[-1]["id"] if len(rows) == limit else None,
            "total": store.index.count(search),
        }

    @routes.post("/delete")
    def delete_many(body: IdsBody) -> dict[str, Any]:
        """Remove pictures."""
        return {"deleted": store.delete(body.ids)}

    @routes.post("/zip", response_class=StreamingResponse)
    def zip_posted(body: IdsBody) -> StreamingResponse:
        """Pictures as one archive."""
        return _zip(service, body.ids)

    @routes.get("/zip", response_class=StreamingResponse)
    def zip_asked(ids: str) -> StreamingResponse:
        """Pictures as one archive, their ids with commas between."""
        return _zip(service, ids.split(","))

    @routes.post("/read")
    def read(body: PictureToReadBody) -> dict[str, Any]:
        """What can be asked for again of a picture, ours or of another program."""
        return read_picture(body.image, service.model.model.drawing)

    _add_single(service, routes)
    return routes


def _add_single(service: Service, routes: APIRouter) -> None:
    store = service.store

    @routes.get("/{id}")
    def get_one(id: str) -> dict[str, Any]:
        """A picture with its receipt, and the request that draws it again."""
        return show_whole_picture(store.index.get(id))

    @routes.get("/{id}/file", response_class=FileResponse)
    def file(id: str, download: bool = False) -> FileResponse:
        """The PNG as it was drawn."""
        store.index.get(id)
        name = f"sakuga-{id}.png"
        return FileResponse(
            store.file(id), media_type="image/png", headers={"cache-control": "private, immutable"},
            filename=name if download else None,
        )  # fmt: skip

    @routes.get("/{id}/thumbnail", response_class=FileResponse)
    def thumbnail(id: str) -> FileResponse:
        """A small WebP of it."""
        store.index.get(id)
        headers = {"cache-control": "private, immutable"}
        return FileResponse(store.thumbnail(id), media_type="image/webp", headers=headers)

    @routes.delete("/{id}")
    def delete(id: str) -> dict[str, Any]:
        """Remove a picture."""
        store.index.get(id)
        return {"deleted": store.delete([id])}


def _zip(service: Service, ids: Sequence[str]) -> StreamingResponse:
    if len(ids) > MOST_ZIPPED:
        raise RequestError(
            f"an archive has at most {MOST_ZIPPED} pictures", f"{len(ids)}", "Ask for several."
        )
    for id in ids:
        service.store.index.get(id)
    return StreamingResponse(
        zipped(service, ids), media_type="application/zip",
        headers={"content-disposition": 'attachment; filename="sakuga.zip"'},
    )  # fmt: skip


def zipped(service: Service, ids: Sequence[str]) -> Iterator[bytes]:
    """An archive, picture by picture, so that it never lies in memory as a whole."""
    out = _Out()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for id in dict.fromkeys(ids):
            try:
                data = service.store.file(id).read_bytes()
            except OSError:
                continue  # deleted since
            archive.writestr(f"{id}.png", data)
            yield out.taken()
    yield out.taken()


class _Out(io.RawIOBase):
    """A file that cannot be gone back in, and gives what was written to it."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written += data
        return len(data)

    def taken(self) -> bytes:
        """What was written since."""
        found = bytes(self._written)
        self._written.clear()
        return found
