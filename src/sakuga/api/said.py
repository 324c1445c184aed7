"""What a picture says of itself: our receipt, or what another program wrote into it.

We write two texts. `sakuga` is the Receipt as JSON, in ASCII so that every program keeps it;
`parameters` is what A1111's web UI and its many readers expect. Of strangers' pictures we know
these two, ComfyUI's graphs and the objects of `dialects`, in the texts of a PNG file or in EXIF.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from sakuga.api.codec import plain, typed
from sakuga.api.comfy import read_graph, read_workflow
from sakuga.api.dialects import object_of, read_dialect
from sakuga.api.infotext import Infotext, read_infotext
from sakuga.api.parameters import write_infotext
from sakuga.api.receipt import Receipt
from sakuga.errors import RequestError

RECEIPT_KEY = "sakuga"
PARAMETERS_KEY = "parameters"

_PACKED = re.compile(r"(prompt|workflow):\s*(\{.*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Said:
    """What another program's picture says: which program wrote it, and what it tells."""

    program: str
    text: Infotext


def texts_of(receipt: Receipt) -> dict[str, str]:
    """The texts to write into a picture, by PNG keyword."""
    form = json.dumps(plain(receipt), separators=(",", ":"))
    return {PARAMETERS_KEY: write_infotext(receipt), RECEIPT_KEY: form}


def receipt_from(texts: Mapping[str, str], name: str) -> Receipt:
    """The Receipt in the texts of the picture `name`. Raises RequestError."""
    if RECEIPT_KEY not in texts:
        raise RequestError(
            "the picture must carry a receipt",
            f"{name} without one",
            "Use a picture that sakuga has written and no other program has saved again.",
        )
    try:
        receipt = typed(Receipt, json.loads(texts[RECEIPT_KEY]))
    except (ValueError, RecursionError):
        raise RequestError(
            "a receipt must be JSON", f"{name}: {texts[RECEIPT_KEY][:40]!r}", "Use another picture."
        ) from None
    if not 0 <= receipt.index < receipt.request.number:
        raise RequestError(
            "a receipt must be of one of the pictures that were asked for",
            f"{name}: index {receipt.index} of {receipt.request.number}",
            "Use another picture.",
        )
    return receipt


def said_by(texts: Mapping[str, str]) -> Said | None:
    """What another program, or ours without its receipt, says in the texts of a picture."""
    texts = {**_unpacked(texts.get("UserComment", "")), **texts}
    for key in (PARAMETERS_KEY, "UserComment", "ImageDescription"):
        found = read_infotext(texts.get(key, ""))
        if found.settings:
            return Said("sakuga" if found.ours else "A1111 or its like", found)
    other = read_dialect(texts)
    return Said(*other) if other else _by_comfy(texts)


def _unpacked(text: str) -> Mapping[str, str]:
    """The texts in a comment that is a JSON object of them."""
    if not text.lstrip().startswith("{"):
        return {}
    data = object_of(text)
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in data.items()
    }


def _by_comfy(texts: Mapping[str, str]) -> Said | None:
    """ComfyUI's graph: the one that was run, or else the one that was on the screen.

    WebP files have them in EXIF, as `prompt:{...}` under tags meant for other things.
    """
    packed = {match[1].lower(): match[2] for text in texts.values()
              if (match := _PACKED.match(text))}  # fmt: skip
    for key, read in (("prompt", read_graph), ("workflow", read_workflow)):
        for text in (texts.get(key), packed.get(key), texts.get("UserComment")):
            found = read(object_of(text)) if text else None
            if found is not None:
                return Said("ComfyUI", found)
    return None
