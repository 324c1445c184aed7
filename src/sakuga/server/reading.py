"""Pictures that are sent to be read: what they say of how they were made."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sakuga.api.codec import plain
from sakuga.api.resolved import Defaults
from sakuga.api.said import RECEIPT_KEY, receipt_from, said_by
from sakuga.api.taken import taken_from
from sakuga.errors import RequestError
from sakuga.files.texts import read_texts
from sakuga.server.desk import sparse
from sakuga.server.forms import data_url


def texts_in(image: str) -> dict[str, str]:
    """The texts of a picture that was sent as base64. Raises RequestError."""
    data = base64.b64decode(data_url(image, "image").partition(",")[2])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "the picture"
        file.write_bytes(data)
        try:
            return read_texts(file)
        except RequestError as error:
            got = error.got.replace(f"{folder}/", "")
            raise RequestError(error.rule, got, error.fix) from None


def read_picture(image: str, defaults: Defaults) -> dict[str, Any]:
    """What a picture says, as fields of a request, and what of it was left."""
    texts = texts_in(image)
    if RECEIPT_KEY in texts:
        receipt = receipt_from(texts, "the picture")
        again = {**plain(receipt.request), "seed": receipt.seed, "number": 1}
        return _told("sakuga", sparse(again), (), plain(receipt))
    said = said_by(texts)
    if said is None:
        raise RequestError(
            "the picture must carry a receipt, or another program's settings", "neither",
            "Use the file that was drawn; saving it again elsewhere loses them.",
        )  # fmt: skip
    taken = taken_from(said.text, defaults)
    return _told(said.program, taken.values, taken.left, None)


def _told(
    kind: str, request: Mapping[str, Any], left: tuple[str, ...], receipt: object
) -> dict[str, Any]:
    return {"kind": kind, "request": dict(request), "left": list(left), "receipt": receipt}
