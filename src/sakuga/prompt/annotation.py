"""JSON that holds a prompt: the dataset's annotation, and what is sent to other programs.

    {"image": {"tags": "<xml>", "caption": "..."}, ...}        {"prompt": "1girl", "steps": 20}

People paste it as it is, line breaks inside its strings included. Of an annotation only `tags`
and `caption` reach the encoders; boxes and names of `character_n` have no place in a prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from sakuga.prompt.nodes import Offsets, Span
from sakuga.prompt.passage import Passage

PROMPT_KEYS = ("prompt", "positive_prompt", "positive")
_JSON = json.JSONDecoder(strict=False)
_BEGIN = re.compile(r"(?:\[\s*+)?\{\s*+\"")
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]:,]', re.S)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\."
)


def annotation_range(text: str) -> Span | None:
    """Where a text holds an annotation, or a list of one."""
    begin = _BEGIN.search(text) if '"tags"' in text or '"caption"' in text else None
    found = begin and _decoded(text, begin.start())
    return Span(begin.start(), found[1]) if begin and found else None


def request_range(text: str) -> tuple[Span, dict[str, object]] | None:
    """Where the prompt stands in a text that is a JSON object with one, and the whole object."""
    start = len(text) - len(text.lstrip())
    if not text.startswith("{", start) or not any(key in text for key in PROMPT_KEYS):
        return None
    whole, end = _json_at(text, start)
    if not isinstance(whole, dict) or text[end:].strip():
        return None
    for path, quote in _strings(text, start):
        if len(path) == 1 and path[0] in PROMPT_KEYS and (token := _TOKEN.match(text, quote)):
            return Span(quote + 1, token.end() - 1), whole
    return None


def find_annotation(whole: Passage) -> dict[str, Passage] | None:
    """`tags` and `caption` of a text that is an annotation; None if it is none."""
    text = whole.text
    start = len(text) - len(text.lstrip())
    found = _decoded(text, start) if text.startswith(("{", "["), start) else None
    if found is None or text[found[1] :].strip():
        return None
    wanted, _, path = found
    places = dict(_strings(text, start))
    return {name: _string(whole, places[*path, name], value) for name, value in wanted.items()}


def _decoded(text: str, start: int) -> tuple[dict[str, str], int, tuple[str, ...]] | None:
    """The texts of the annotation that begins at `start`, its end, and the path to them."""
    whole, end = _json_at(text, start)
    path: tuple[str, ...] = ("image",)
    if isinstance(whole, list) and len(whole) == 1:
        whole, path = whole[0], ("", "image")
    image = whole.get("image") if isinstance(whole, dict) else None
    if not isinstance(image, dict):
        return None
    wanted = {name: image[name] for name in ("tags", "caption") if name in image}
    if not wanted or not all(isinstance(value, str) for value in wanted.values()):
        return None
    return wanted, end, path


def _json_at(text: str, start: int) -> tuple[Any, int]:
    """What the JSON at `start` says, and its end; None where there is none."""
    try:
        # Not strict: people paste a prompt into the string with its line breaks.
        return _JSON.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, start


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
                path[-1] = _JSON.decode(token[0])
        before = mark


def _string(whole: Passage, quote: int, value: str) -> Passage:
    """The string whose opening quote is at `quote`, decoded, with the way back."""
    token = _TOKEN.match(whole.text, quote)
    end = token.end() if token else quote + 1
    back = Offsets(0, whole.origin.at(quote + 1))
    decoded, done = 0, quote + 1
    escapes = ((*match.span(), 1) for match in _ESCAPE.finditer(whole.text, quote + 1, end - 1))
    for start, stop, width in (*escapes, (end - 1, end - 1, 0)):
        for key, origin in whole.origin.runs(done, start):
            back.add(decoded + key - done, origin)
        decoded += start - done
        if width:
            back.add(decoded, whole.origin.at(start))
        decoded += width
        done = stop
    # A lone surrogate has no place in a text.
    return Passage(_LONE_SURROGATE.sub("\ufffd", value), back)
