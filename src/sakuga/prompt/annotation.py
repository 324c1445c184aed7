"""The dataset's annotation JSON: {"image": {"tags": "<xml>", "caption": "..."}, ...}.

People paste it as it is. Only `tags` and `caption` reach the encoders; boxes and names of
`character_n` have no place in a prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from sakuga.prompt.nodes import Offsets

_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]:,]', re.S)
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\."
)


def find_annotation(text: str, start: int) -> dict[str, tuple[str, Offsets]] | None:
    """`tags` and `caption` with the way back to `text`; None if it is no annotation."""
    if not text.startswith("{", start):
        return None
    try:
        whole = json.loads(text[start:])
    except (ValueError, RecursionError):
        return None
    image = whole.get("image")
    if not isinstance(image, dict):
        return None
    wanted = {name: image[name] for name in ("tags", "caption") if name in image}
    if not wanted or not all(isinstance(value, str) for value in wanted.values()):
        return None
    places = dict(_strings(text, start))
    return {name: (value, _offsets(text, places["image", name])) for name, value in wanted.items()}


def write_annotation(tags: str, caption: str) -> str:
    """An annotation that holds these two."""
    return json.dumps({"image": {"tags": tags, "caption": caption}}, ensure_ascii=False, indent=1)


def _strings(text: str, start: int) -> Iterator[tuple[tuple[str, ...], int]]:
    """Path and offset of every string value; the JSON is known to be valid."""
    path: list[str] = []
    before = ""
    for token in _TOKEN.finditer(text, start):
        mark = token[0][0]
        if mark in "{[":
            path.append("")
        elif mark in "}]":
            path.pop()
        elif mark == '"':
            if before == ":":
                yield tuple(path), token.start()
            else:
                path[-1] = json.loads(token[0])
        before = mark


def _offsets(text: str, quote: int) -> Offsets:
    """From the decoded string whose opening quote is at `quote`, back to `text`."""
    token = _TOKEN.match(text, quote)
    end = token.end() if token else quote + 1
    back = Offsets(0, quote + 1)
    decoded = done = 0
    done = quote + 1
    for escape in _ESCAPE.finditer(text, quote + 1, end - 1):
        decoded += escape.start() - done + 1
        done = escape.end()
        back.add(decoded, done)
    return back
