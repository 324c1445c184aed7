"""The folder of a batch: its pictures, the journal of them, and what is there while it is drawn.

    DIR/NAME-ID.png     the pictures, each with its receipt
    DIR/journal/        what has become of each item; with it gone, pictures are looked at anew
    DIR/.work/          leases, and texts as the encoders read them; may go when nobody draws

A picture is written as a draft, flushed, linked to its place, which fails where one is, and
then flushed as an entry of its folder; only after that the journal says that it is done.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sakuga.api.said import RECEIPT_KEY
from sakuga.batch.item import Item
from sakuga.batch.journal import DONE, FAILED, Done, Journal, nothing
from sakuga.batch.lease import Leases
from sakuga.errors import OutputExists, Paused, RequestError
from sakuga.files.atomic import sweep, try_writing, write_atomically
from sakuga.files.png import png_texts

JOURNAL, WORK, TEXTS, LEASES = "journal", ".work", "texts", "leases"
# What a disk says that may be well again later: nothing of it is an item's fault.
SICK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE})


class Album:
    """The folder of a batch, made where it is not there; at: as in `Journal`."""

    def __init__(self, place: Path, at: Callable[[str], None] = nothing) -> None:
        self.place, self._at = place, at
        self.work = place / WORK
        try:
            for folder in (place / JOURNAL, self.work / LEASES, self.work / TEXTS):
                folder.mkdir(parents=True, exist_ok=True)
            try_writing(place / "picture.png")
            sweep(place)
        except OSError as error:
            raise RequestError(
                "--out must be a folder that can be written",
                f"{place}: {error.strerror}", "Nothing was drawn; choose another, or make room.",
            ) from None  # fmt: skip
        self.journal = Journal(place / JOURNAL, at)

    def leases(self) -> Leases:
        """Leases of this process."""
        return Leases(self.work / LEASES, at=self._at)

    def keep(self, item: Item, png: bytes, holds: Callable[[], bool]) -> bool:
        """Make a picture durable and say so in the journal; False where another did before.

        holds: whether the item is still ours. Raises OSError.
        """
        path = self.place / item.file
        try:
            write_atomically(path, png, replace=False, before=lambda: self._may(item, holds))
        except _Lost:
            return False
        except OutputExists:
            return self.adopt(item)
        self._at("renamed")
        self._done(item, path, png, {})
        return True

    def adopt(self, item: Item) -> bool:
        """Say in the journal that a picture is there which it does not know; whether it did.

        So it is after a kill between both. Raises OutputExists where something else is there.
        """
        path = self.place / item.file
        self.journal.refresh()
        if item.id in self.journal.done:
            return False
        if not _is_of(path, item):
            raise OutputExists(
                "a picture's place must be free", f"{path}, which is not this picture",
                "Move it away, then --retry-failed.",
            )  # fmt: skip
        self._done(item, path, path.read_bytes(), {"adopted": True})
        return True

    def fail(self, item: Item, error: str) -> None:
        """Say in the journal that an item went wrong. Raises OSError."""
        self.journal.append(FAILED, item.id, {"row": item.row.where, "error": error})

    def clear(self) -> None:
        """Remove what only a batch under way needs, if no other process is at it."""
        leases = self.leases()
        leases.owner.unlink()
        leases.sweep()
        if not leases.folder.exists():
            shutil.rmtree(self.work, ignore_errors=True)

    def _may(self, item: Item, holds: Callable[[], bool]) -> None:
        self._at("drafted")
        if not holds():
            raise _Lost(item.id)

    def _done(self, item: Item, path: Path, png: bytes, more: Mapping[str, Any]) -> None:
        status = path.stat()
        digest = hashlib.sha256(png).hexdigest()
        known = Done(item.file, status.st_size, status.st_mtime_ns, digest)
        told = {**known._asdict(), "row": item.row.where, **more}
        self.journal.append(DONE, item.id, told)


class _Lost(Exception):
    """Another process has the item now."""


def gone_or_edited(place: Path, done: Done) -> str | None:
    """What has happened to a finished picture since: "deleted", "edited", or nothing."""
    path = place / done.file
    try:
        status = path.stat()
        if status.st_size == done.size and status.st_mtime_ns == done.changed:
            return None
        if status.st_size == done.size:
            same = hashlib.sha256(path.read_bytes()).hexdigest() == done.sha256
            return None if same else "edited"
    except OSError:
        return "deleted"
    return "edited"


def is_sick(error: OSError) -> bool:
    """Whether a disk may take it later."""
    return error.errno in SICK


def paused(place: Path, error: OSError) -> Paused:
    """What to say of a disk that takes no more."""
    return Paused(
        "pictures must be written", f"{error.strerror or error} for {error.filename or place}",
        "What is done stays done; make room, then give the same command again.",
    )  # fmt: skip


def _is_of(path: Path, item: Item) -> bool:
    """Whether a file is the whole picture of an item, by its receipt."""
    try:
        receipt = json.loads(png_texts(path)[RECEIPT_KEY])
        return item.mark in receipt["notes"] and _is_whole(path)
    except (RequestError, OSError, ValueError, LookupError, TypeError):
        return False


def _is_whole(path: Path) -> bool:
    """Whether all of a PNG is there."""
    from PIL import Image  # noqa: PLC0415

    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
    except Exception:  # a damaged file makes Pillow fail in many ways
        return False
    return True
