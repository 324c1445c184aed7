"""Pictures that were drawn from: where they were, kept apart from any receipt, and found again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sakuga.api.receipt import Receipt, UpscalerRecord
from sakuga.errors import RequestError
from sakuga.files.pictures import PictureRecord, record_of
from sakuga.files.shelf import Shelf
from sakuga.weights.sha256 import file_sha256

NAMES = ("image", "mask", "upscale")  # the fields of a request that name a file, as a receipt
FileRecord = PictureRecord | UpscalerRecord
FOLDER, LIMIT = "pictures", 1 << 20
MOST_LOOKED_AT = 1000  # files of a folder


def _places(cache: str | None) -> Shelf | None:
    return None if cache is None else Shelf(Path(cache) / FOLDER, ".txt", LIMIT)


def remember(receipt: Receipt, given: Mapping[str, str | None], cache: str | None) -> None:
    """Keep in the user's cache where the pictures of a drawing are; a receipt does not tell it."""
    for name in NAMES:
        record, place, shelf = getattr(receipt, name), given.get(name), _places(cache)
        if record and place and shelf:
            with contextlib.suppress(OSError):  # it is asked for, then
                shelf.write(record.sha256, str(Path(place).resolve()).encode())


def same_picture(record: FileRecord | None, given: str) -> bool:
    """Whether a file is the one of a record. Raises RequestError, OSError if it cannot be read."""
    if isinstance(record, UpscalerRecord):
        return file_sha256(Path(given)) == record.sha256
    return record is not None and record_of(given).sha256 == record.sha256


def find_picture(record: FileRecord, flag: str, beside: Path, cache: str | None) -> str:
    """Where a picture is by now: where it was, or near the one drawn from it. Raises RequestError.

    flag: what names it. beside: the picture that is drawn again.
    """
    for place in _candidates(record, beside, cache):
        with contextlib.suppress(OSError, RequestError):
            if place.stat().st_size == record.bytes and same_picture(record, str(place)):
                return str(place)
    raise RequestError(
        f"a picture is drawn again from the {flag} it was drawn from",
        f"no {record.file} with SHA-256 {record.sha256[:16]}... where it was or beside {beside}",
        f"Give it as --{flag}.",
    )


def _candidates(record: FileRecord, beside: Path, cache: str | None) -> Iterator[Path]:
    """Files that may be it, the likeliest first."""
    shelf = _places(cache)
    if shelf and (place := shelf.read(record.sha256)):
        yield Path(place.decode(errors="replace"))
    folders = dict.fromkeys((beside.resolve().parent, Path.cwd()))
    for folder in folders:
        yield folder / Path(record.file).name
    for folder in folders:
        yield from _files(folder)


def _files(folder: Path) -> Iterable[Path]:
    """The files of a folder, some of very many."""
    found = []
    with contextlib.suppress(OSError):
        for place, _ in zip(folder.iterdir(), range(MOST_LOOKED_AT), strict=False):
            if place.is_file():
                found.append(place)
    return found
