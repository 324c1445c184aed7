"""The texts in a picture's file: PNG by its chunks; JPEG, WebP and AVIF by their EXIF and XMP.

No pixel is decoded, and nothing is trusted: a picture from a stranger costs no more than the
caps here and in `files.png`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from html import unescape
from pathlib import Path
from typing import Any

from sakuga.errors import RequestError
from sakuga.files.png import EXIF_CHUNK, MAX_TEXT_BYTES, SIGNATURE, png_texts

MAX_FILE_BYTES = 64 << 20  # of those that must be read whole
USER_COMMENT, EXIF_IFD = 0x9286, 0x8769
SPACE = "urn:sakuga:1"  # of our names in XMP
OURS = {"sakuga": "receipt", "sakuga-pixels": "pixels"}  # texts by keyword, and their names there
IN_XMP = re.compile(rb"<sakuga:(receipt|pixels)>([^<]*)</sakuga:\1>")
TAGS = {"ImageDescription": 0x010E, "Make": 0x010F, "Model": 0x0110}


def read_texts(path: Path) -> dict[str, str]:
    """The texts of a picture, by PNG keyword or EXIF tag; of one given twice, the first.

    Raises RequestError if there is no such file, it is no PNG, JPEG, WebP or AVIF file, it is
    damaged, or its texts pass 1 MiB.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if head.startswith(SIGNATURE):
            texts = png_texts(path)
            return texts | _exif_texts(texts.pop(EXIF_CHUNK, "").encode("latin-1", "replace"), path)
        kind = _kind(head)
        if kind is None:
            raise RequestError(
                "only PNG, JPEG, WebP and AVIF pictures are read",
                f"{path}: none of them",
                "Use another file.",
            )
        exif, xmp = _blocks_of(path, kind)
        return _exif_texts(exif, path) | _ours(xmp, path)
    except OSError as error:
        raise RequestError(
            "a picture must be a file that can be read", f"{path}: {error.strerror}", "Check it."
        ) from None


def _kind(head: bytes) -> str | None:
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    return "AVIF" if head[4:12] in (b"ftypavif", b"ftypavis", b"ftypmif1") else None


def _blocks_of(path: Path, kind: str) -> tuple[bytes, bytes]:
    """EXIF and XMP of a picture. Pillow reads its frame, and no pixel."""
    from PIL import Image  # noqa: PLC0415

    if path.stat().st_size > MAX_FILE_BYTES:
        raise _unsound(path, f"more than {MAX_FILE_BYTES >> 20} MiB of {kind}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged tags, which are left out
            with Image.open(path, formats=[kind]) as image:
                found = [image.info.get(name) for name in ("exif", "xmp")]
    except Exception:  # a damaged file makes its readers fail in any way
        raise _unsound(path, f"a damaged {kind}") from None
    exif, xmp = (one if isinstance(one, bytes) else b"" for one in found)
    return exif, xmp


def _ours(packet: bytes, path: Path) -> dict[str, str]:
    """The texts of ours in a packet of XMP, which is searched and not trusted to be XML."""
    if len(packet) > MAX_TEXT_BYTES:
        raise _unsound(path, "texts of more than 1 MiB")
    names = {ours: key for key, ours in OURS.items()}
    return {
        names[one[1].decode()]: unescape(one[2].decode("utf-8", "replace"))
        for one in IN_XMP.finditer(packet)
    }


def _exif_texts(block: bytes, path: Path) -> dict[str, str]:
    """The texts of an EXIF block, by the names of their tags."""
    if not block:
        return {}
    from PIL import Image  # noqa: PLC0415

    if len(block) > MAX_TEXT_BYTES:
        raise _unsound(path, "texts of more than 1 MiB")
    exif = Image.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exif.load(block)
            comment = exif.get_ifd(EXIF_IFD).get(USER_COMMENT)
            found = {name: exif.get(tag) for name, tag in TAGS.items()}
    except Exception:  # as above
        return {}
    return dict(_told({"UserComment": comment, **found}))


def _told(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, bytes):
            text = _comment(value) if name == "UserComment" else _utf8(value)
        elif isinstance(value, str):  # Pillow takes bytes for Latin-1, and writers mean UTF-8
            text = _utf8(value.encode("latin-1", "replace"))
        else:
            continue
        if text := text.rstrip("\0 "):
            yield name, text


def _comment(data: bytes) -> str:
    """A UserComment: eight bytes that name its character set, then the text."""
    prefix, text = data[:8], data[8:]
    if prefix == b"UNICODE\0":
        return _utf16(text)
    if prefix == b"JIS\0\0\0\0\0":
        return text.decode("iso2022_jp", "replace")
    if prefix in (b"ASCII\0\0\0", bytes(8)):
        return _utf8(text)
    return _utf8(data)


def _utf16(data: bytes) -> str:
    """UTF-16 in the order that its mark says, or else its spaces and other common characters do."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    big = data[0::2].count(0) >= data[1::2].count(0)
    return data.decode("utf-16-be" if big else "utf-16-le", "replace")


def _utf8(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _unsound(path: Path, what: str) -> RequestError:
    return RequestError("a picture must be a sound file", f"{path}: {what}", "Use another.")
