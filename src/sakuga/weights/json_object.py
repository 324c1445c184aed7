"""Reads JSON objects, such as headers and configs, as untrusted text."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from sakuga.errors import CorruptFile
from sakuga.weights.access import confine, reading
from sakuga.weights.corrupt import AGAIN, short

MAX_DIGITS = 40
MAX_COMMAS = 100_000  # reading more would take seconds; real headers have thousands
MAX_CONFIG = 16_000_000  # bytes


def parse_json(text: bytes, where: str) -> dict[str, Any]:
    """A JSON object from untrusted text. Raises CorruptFile on anything else, double keys too."""
    rule = "JSON from a checkpoint is one object without double keys"
    if text.count(b",") > MAX_COMMAS:
        raise CorruptFile(
            f"JSON from a checkpoint has at most {MAX_COMMAS} commas",
            f"{text.count(b',')} in {where}",
            "Split the file into shards",
        )
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(rule, f"{short(error)} in {where}", AGAIN) from None
    if not isinstance(value, dict):
        raise CorruptFile(rule, f"a {type(value).__name__} in {where}", AGAIN)
    return value


def read_json(file: Path, root: Path) -> dict[str, Any]:
    """A JSON object from a file within `root`. Raises CorruptFile on anything else."""
    confine(file, root)
    with reading(file):
        size = file.stat().st_size
        text = file.read_bytes() if size <= MAX_CONFIG else b""
    if size > MAX_CONFIG:
        raise CorruptFile(
            f"a config has at most {MAX_CONFIG} bytes",
            f"{size} bytes in {file}",
            "Use the config that belongs to these weights",
        )
    return parse_json(text, str(file))


def _whole(digits: str) -> int:
    """A whole number. Raises ValueError on one that no float could hold, let alone an address."""
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ValueError on a double key, and on one that is no text in UTF-8."""
    result = dict(pairs)
    "".join(result).encode()
    if len(result) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"the key {short(max(counts, key=counts.__getitem__))} twice")
    return result
