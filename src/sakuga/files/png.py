"""Pictures as PNG files: pixels and texts to bytes, and the texts of a file without its pixels.

Texts are written as tEXt chunks where Latin-1 has all their characters, for many readers know no
other; else as iTXt (UTF-8). Reading them back walks the chunks without decoding a pixel and
trusts nothing: a picture from a stranger costs no more than the caps below.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from sakuga.errors import RequestError

if TYPE_CHECKING:
    from PIL.Image import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_TEXT_BYTES = 1 << 20
MAX_CHUNKS = 100_000
EXIF_CHUNK = "eXIf"


@dataclass(frozen=True, slots=True)
class Picture:
    """Pixels: `rgb` holds height x width x 3 bytes, rows from the top."""

    width: int
    height: int
    rgb: bytes


def encode_png(picture: Picture, texts: Mapping[str, str], alpha: bytes | None = None) -> bytes:
    """A PNG file of a picture, with one chunk per text. alpha: how opaque each pixel is."""
    # Reading a receipt needs neither of these; they cost a tenth of a second to import.
    from PIL import PngImagePlugin  # noqa: PLC0415

    chunks = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        chunks.add_text(key, text)  # tEXt, or iTXt where it must
    file = io.BytesIO()
    image = image_of(picture, alpha)
    image.save(file, "PNG", pnginfo=chunks)
    return file.getvalue()


def image_of(picture: Picture, alpha: bytes | None = None) -> Image:
    """A picture as Pillow's, with what is transparent of it."""
    from PIL import Image  # noqa: PLC0415

    size = picture.width, picture.height
    image = Image.frombytes("RGB", size, picture.rgb)
    if alpha is not None:
        image.putalpha(Image.frombytes("L", size, alpha))
    return image


def png_texts(path: Path) -> dict[str, str]:
    """The texts of a PNG file, by keyword; of a keyword given twice, the first.

    A block of EXIF is one of them, its bytes as Latin-1. Raises RequestError if there is no such
    file, it is not a PNG, it is cut short, or its texts pass 1 MiB.
    """
    texts: dict[str, str] = {}
    room = MAX_TEXT_BYTES
    try:
        with path.open("rb") as file:
            for kind, length in chunks(file, str(path)):
                if kind not in (b"tEXt", b"iTXt", b"zTXt", b"eXIf"):
                    file.seek(length + 4, os.SEEK_CUR)
                    continue
                room -= length
                if room < 0:
                    raise _unreadable(path, "texts of more than 1 MiB")
                body = file.read(length)
                if len(body) < length or file.read(4) != struct.pack(">I", zlib.crc32(kind + body)):
                    raise _unreadable(path, "a damaged text")
                key, text = _text(kind, body, room, path)
                room -= len(text)
                texts.setdefault(key, text)
    except OSError as error:
        raise RequestError(
            "a picture must be a file that can be read", f"{path}: {error.strerror}", "Check it."
        ) from None
    return texts


def chunks(file: BinaryIO, name: str) -> Iterator[tuple[bytes, int]]:
    """Kind and length of each chunk; the reader leaves the file behind the chunk's CRC.

    Raises RequestError if `name` is not a PNG, or is cut short.
    """
    if file.read(8) != SIGNATURE:
        raise _unreadable(name, "no PNG")
    for _ in range(MAX_CHUNKS):
        header = file.read(8)
        if len(header) < 8:
            raise _unreadable(name, "a PNG cut short")
        length, kind = struct.unpack(">I4s", header)
        if kind == b"IEND":
            return
        yield kind, length
    raise _unreadable(name, f"more than {MAX_CHUNKS:,} chunks")


def _text(kind: bytes, body: bytes, room: int, path: Path) -> tuple[str, str]:
    if kind == b"eXIf":
        return EXIF_CHUNK, body.decode("latin-1")
    key, _, rest = body.partition(b"\0")
    packed = kind == b"zTXt"
    if packed:
        rest = rest[1:]
    elif kind == b"iTXt":
        packed = rest[:1] == b"\1"
        rest = rest[2:].split(b"\0", 2)[-1]
    if packed:
        stream = zlib.decompressobj()
        try:
            rest = stream.decompress(rest, room + 1)
        except zlib.error:
            raise _unreadable(path, "a damaged text") from None
        if len(rest) > room:
            raise _unreadable(path, "texts of more than 1 MiB")
    encoding = "utf-8" if kind == b"iTXt" else "latin-1"
    return key.decode("latin-1"), rest.decode(encoding, "replace")


def _unreadable(name: Path | str, what: str) -> RequestError:
    return RequestError("a picture must be a sound PNG file", f"{name}: {what}", "Use another.")
