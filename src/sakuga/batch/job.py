"""A job: what somebody wants drawn, as rows that are ready, and what is wrong with the others."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

from sakuga.api.codec import hints_of, plain, unknown
from sakuga.api.options import settled_field
from sakuga.api.request import RANDOM, Request, parse_size
from sakuga.batch.item import Row
from sakuga.batch.tables import MOST_BYTES, Entry, prompts, read_table
from sakuga.errors import RequestError
from sakuga.prompt.document import MAX_BYTES

STDIN = "-"
PROMPT_FILES = (".xml", ".txt")
NAMES = ("name", "id")  # columns that are no field, but what a picture is called
PATHS = ("image", "mask", "lora")
FIELDS = tuple(one.name for one in fields(Request) if one.name != "sent")
SURROGATE = re.compile("[\ud800-\udfff]")
TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(slots=True)
class Job:
    """The rows of a job. `wrong`: where others stand, and what is wrong with them."""

    rows: list[Row] = field(default_factory=list)
    wrong: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Reader:
    """How jobs are read. `given`: fields that hold where a row says nothing.

    `base`: the folder that paths are relative to; `outside`: they may lead out of it.
    """

    given: Mapping[str, Any]
    base: Path
    outside: bool = False

    def read(self, entries: Iterable[Entry]) -> Job:
        """The rows of entries, each with a seed. Raises RequestError for wrong defaults."""
        job, every, seen = Job(), dict(self.given), Counter[str]()
        for entry in entries:
            try:
                if entry.error:
                    raise _Wrong(entry.error)
                fields, name = self._fields(entry)
                if entry.every:
                    every |= fields
                    continue
                fields = {**every, **fields}
                if "prompt" not in fields:
                    raise _Wrong("a row needs a prompt; got none. Add it.")
                job.rows.append(Row(entry.where, _seeded(fields, seen), name))
            except _Wrong as error:
                if entry.every:
                    fix = "It holds for all rows; mend it first."
                    raise RequestError(str(error), entry.where, fix) from None
                job.wrong.append((entry.where + error.place, str(error)))
        return job

    def _fields(self, entry: Entry) -> tuple[dict[str, Any], str]:
        """What an entry says of Request, checked, and the name it gives."""
        found: dict[str, Any] = {}
        name = ""
        for key, value in entry.values.items():
            try:
                if key in NAMES:
                    name = str(value)
                elif key == "size":
                    found |= _sized(value)
                else:
                    found[key] = self._value(key, value, texts=entry.texts)
            except RequestError as error:
                raise _Wrong(str(error), entry.columns[key] if entry.columns else None) from None
        return found, name

    def _value(self, key: str, value: Any, *, texts: bool) -> Any:
        """A value of a field as the field has it. Raises RequestError."""
        if key not in FIELDS:
            raise unknown("a column", key, (*FIELDS, *NAMES, "size"))
        if texts and isinstance(value, str):
            value = _read(key, value)
        checked = settled_field(Request, key, value)
        if isinstance(checked, str):
            checked = SURROGATE.sub("\ufffd", checked)
        if key == "prompt" and len(checked.encode()) > MAX_BYTES:
            got = f"{len(checked):,} characters"
            raise RequestError("a prompt has at most 64 KiB", got, "Shorten it.")
        if key in PATHS:
            return self._placed(key, checked)
        return checked

    def _placed(self, key: str, value: Any) -> Any:
        """Paths from the folder of the job."""
        if value is None:
            return None
        if key != "lora":
            return str(self._inside(value))
        return [str(self._inside(one.split(":", 1)[0])) + one[len(one.split(":", 1)[0]) :]
                for one in value]  # fmt: skip

    def _inside(self, path: str) -> Path:
        full = (self.base / path).resolve()
        if not self.outside and not full.is_relative_to(self.base.resolve()):
            raise RequestError(
                "a job names files in its own folder", repr(path),
                "Put it there, or pass --allow-outside.",
            )  # fmt: skip
        return full


class _Wrong(Exception):
    """A row that cannot be drawn, and the column that is why, if the table has columns."""

    def __init__(self, error: str, column: int | None = None) -> None:
        super().__init__(error)
        self.place = "" if column is None else f":{column}"


def open_job(name: str, given: Mapping[str, Any], *, outside: bool = False) -> Job:
    """The job in a folder, a file or standard input. Raises RequestError where there is none."""
    if name == STDIN:
        data = sys.stdin.buffer.read(MOST_BYTES)
        text = data.decode("utf-8-sig", "replace")
        return Reader(given, Path(), outside).read(prompts("stdin", text))
    path = Path(name)
    if path.is_dir():
        return Reader(given, path, outside).read(_folder(path))
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise RequestError("a job has at most 1 GiB", f"{size:,} bytes", "Split it.")
        data = path.read_bytes()
    except OSError as error:
        raise RequestError(
            "a job must be readable", f"{name}: {error.strerror}", "Check the path."
        ) from None
    return Reader(given, path.parent, outside).read(read_table(name, data))


def _folder(path: Path) -> Iterator[Entry]:
    """A prompt for each file, called as that is."""
    found = sorted(
        one for one in path.rglob("*")
        if one.suffix.lower() in PROMPT_FILES and one.is_file() and not _hidden(one, path)
    )  # fmt: skip
    if not found:
        raise RequestError(
            f"a folder of prompts has files in {' or '.join(PROMPT_FILES)}", f"none in {path}",
            "Name the folder that has them.",
        )  # fmt: skip
    for file in found:
        try:
            text = file.read_bytes().decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            yield Entry(str(file), {}, error=f"a prompt must be UTF-8 text; got {error}")
            continue
        name = "_".join(file.relative_to(path).with_suffix("").parts)
        yield Entry(str(file), {"prompt": text.strip(), "name": name})


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _seeded(given: Mapping[str, Any], seen: Counter[str]) -> dict[str, Any]:
    """Fields with a seed: where it is left open, always the same for the same row.

    Rows that are alike get one each.
    """
    if given.get("seed") not in (None, RANDOM):
        return dict(given)
    form = json.dumps(plain(given), sort_keys=True)
    seen[form] += 1
    digest = hashlib.sha256(f"{seen[form]} {form}".encode()).digest()
    return {**given, "seed": int.from_bytes(digest[:4], "big")}


def _sized(value: Any) -> dict[str, int]:
    found = parse_size(str(value))
    if found is None:
        raise RequestError("size is WIDTHxHEIGHT or one number", repr(value), "Write 832x1216.")
    return dict(zip(("width", "height"), found, strict=True))


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
