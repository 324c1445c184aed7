"""Picture files as clients of other families send and want them: base64, other formats."""

from __future__ import annotations

import base64
import io
import re

from sakuga.errors import RequestError
from sakuga.files.png import Picture
from sakuga.server.live import encode_preview

FORMATS = ("png", "jpeg", "webp")
DATA = re.compile(r"data:[\w/+.-]*;base64,")


def text_of(data: bytes) -> str:
    """Bytes as base64."""
    return base64.b64encode(data).decode("ascii")


def preview_text(preview: Picture) -> tuple[str, str]:
    """The format of a preview, and its file as base64."""
    kind, data = encode_preview(preview)
    return kind, text_of(data)


def in_format(png: bytes, kind: str, quality: int) -> bytes:
    """A picture of the store in another format; as PNG it is what was drawn, byte for byte."""
    if kind == "png":
        return png
    from PIL import Image  # noqa: PLC0415  # most want the PNG

    file = io.BytesIO()
    Image.open(io.BytesIO(png), formats=["PNG"]).convert("RGB").save(file, kind, quality=quality)
    return file.getvalue()


def data_url(given: str, name: str) -> str:
    """A picture as clients send it, base64 with or without a prefix, as a data URL.

    Raises RequestError for addresses: this server fetches none.
    """
    if match := DATA.match(given):
        given = given[match.end() :]
    try:
        base64.b64decode(given, validate=True)
    except ValueError:
        raise RequestError(
            f"{name} is the picture itself, as base64", repr(given[:40]),
            "Send its bytes; no address is fetched and no file opened.",
        ) from None  # fmt: skip
    return f"data:;base64,{given}"
