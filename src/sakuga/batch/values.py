"""Values of a request as a table's cell or a flag has them, checked by the rule of their field."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any, get_args

from sakuga.api.codec import hints_of, unknown
from sakuga.api.options import settled_field
from sakuga.api.request import Request
from sakuga.errors import RequestError
from sakuga.prompt.document import MAX_BYTES

NAMES = ("name", "id")  # columns that are no field, but what a picture is called
FIELDS = tuple(one.name for one in fields(Request) if one.name != "sent")
SURROGATE = re.compile("[\ud800-\udfff]")
TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def checked_value(key: str, value: Any) -> Any:
    """A value as its field has it. Raises RequestError."""
    if key not in FIELDS:
        raise unknown("a field of a request", key, (*FIELDS, *NAMES, "size"))
    found = settled_field(Request, key, value)
    if isinstance(found, str):
        found = SURROGATE.sub("\ufffd", found)
    if key == "prompt" and len(found.encode()) > MAX_BYTES:
        got = f"{len(found):,} characters"
        raise RequestError("a prompt has at most 64 KiB", got, "Shorten it.")
    return found


def read_value(key: str, text: str) -> Any:
    """A value of a text. Raises RequestError."""
    return checked_value(key, _read(key, text) if key in FIELDS else text)


def _read(key: str, text: str) -> Any:
    """A text as the type of its field. Raises RequestError."""
    hint = hints_of(Request)[key]
    kinds = get_args(hint) or (hint,)
    if key == "lora":
        return [one.strip() for one in text.split(";")]
    if bool in kinds:
        if text.strip().lower() not in TRUTH:
            raise RequestError(f"{key} is true or false", repr(text), "Write one of them.")
        return TRUTH[text.strip().lower()]
    for kind, what in ((int, "a whole number"), (float, "a number")):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                raise RequestError(f"{key} must be {what}", repr(text), f"Give {what}.") from None
    return text
