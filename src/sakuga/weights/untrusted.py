"""Files read as untrusted: whether one may be opened, its JSON, the error for one that lies."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sakuga.errors import CorruptFile, ModelNotFound

AGAIN = "Download or convert the file again"
SAVE_AGAIN = "Download the file again, or save it again with torch.save"

MAX_NAME = 255  # bytes of a file name, as most file systems have it
MAX_DIGITS = 40
MAX_COMMAS = 100_000  # reading more would take seconds; real headers have thousands
MAX_CONFIG = 16_000_000  # bytes


def corrupt(file: Path, rule: str, got: str, fix: str = AGAIN) -> CorruptFile:
    """The error for a file that breaks a rule, with what it holds instead and what helps."""
    return CorruptFile(rule, f"{got} in {file}", fix)


def short(value: object) -> str:
    """A value from a file, escaped and short enough for a message."""
    if isinstance(value, str):
        value = value[:80]
    text = str(value) if isinstance(value, Exception) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise ModelNotFound where the system cannot look at `path`, or at what is in it."""
    try:
        yield
    except OSError as error:
        raise ModelNotFound(
            "weights are where the system can read them",
            f"{error.strerror or error} for {str(path)[:MAX_NAME]}",
            "Check the path, and who may read what is there",
        ) from None


def confine(file: Path, root: Path) -> None:
    """Refuse a file whose links or dots lead out of `root`, with CorruptFile.

    The hub's download cache links each file of a snapshot to a blob of the same
    repository, or through it to the store of blobs that all repositories of the cache
    share; those links are followed.
    """
    real, home = file.resolve(), root.resolve()
    if real.is_relative_to(home):
        return
    for snapshot in (home, *home.parents):
        if snapshot.parent.name == "snapshots":
            repository = snapshot.parent.parent
            stores = (repository / "blobs", repository.parent / "blobs")
            if any(real.is_relative_to(store) for store in stores):
                return
            break
    raise CorruptFile(
        "the files of a checkpoint lie within its folder",
        f"{file} leads to {real}",
        "Copy the file in, or name it directly",
    )


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
