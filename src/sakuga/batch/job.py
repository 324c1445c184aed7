"""A job: what somebody wants drawn, as rows that are ready, and what is wrong with the others."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sakuga.api.codec import plain
from sakuga.api.request import RANDOM, parse_size
from sakuga.batch.item import JobRow
from sakuga.batch.tables import MOST_BYTES, JobEntry, prompts, read_table
from sakuga.batch.values import NAMES, checked_value, read_value
from sakuga.batch.variation import Variation
from sakuga.errors import RequestError

STDIN = "-"
PROMPT_FILES = (".xml", ".txt")
PATHS = ("image", "mask", "lora")


@dataclass(slots=True)
class JobFile:
    """The rows of a job. `wrong`: where others stand, and what is wrong with them."""

    rows: list[JobRow] = field(default_factory=list)
    wrong: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Reader:
    """How jobs are read. `given`: fields that hold where a row says nothing.

    `base`: the folder that paths are relative to; `outside`: they may lead out of it. `vary`:
    how rows become several.
    """

    given: Mapping[str, Any]
    base: Path
    outside: bool = False
    vary: Variation = field(default_factory=Variation)

    def read(self, entries: Iterable[JobEntry]) -> JobFile:
        """The rows of entries, each with a seed. Raises RequestError for wrong defaults."""
        job, every, seen = JobFile(), dict(self.given), Counter[str]()
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
                for one in self.vary.of(JobRow(entry.where, fields, name)):
                    job.rows.append(replace(one, fields=_seeded(one.fields, seen)))
            except RequestError as error:
                job.wrong.append((entry.where, str(error)))
            except _Wrong as error:
                if entry.every:
                    fix = "It holds for all rows; mend it first."
                    raise RequestError(str(error), entry.where, fix) from None
                job.wrong.append((entry.where + error.place, str(error)))
        return job

    def _fields(self, entry: JobEntry) -> tuple[dict[str, Any], str]:
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
        read = read_value if texts and isinstance(value, str) else checked_value
        checked = read(key, value)
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


def open_job(
    name: str, given: Mapping[str, Any], *, outside: bool = False, vary: Variation | None = None
) -> JobFile:
    """The job in a folder, a file or standard input. Raises RequestError where there is none."""
    vary = vary or Variation()
    if name == STDIN:
        data = sys.stdin.buffer.read(MOST_BYTES)
        text = data.decode("utf-8-sig", "replace")
        return Reader(given, Path(), outside, vary).read(prompts("stdin", text))
    path = Path(name)
    if path.is_dir():
        return Reader(given, path, outside, vary).read(_folder(path))
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise RequestError("a job has at most 1 GiB", f"{size:,} bytes", "Split it.")
        data = path.read_bytes()
    except OSError as error:
        raise RequestError(
            "a job must be readable", f"{name}: {error.strerror}", "Check the path."
        ) from None
    return Reader(given, path.parent, outside, vary).read(read_table(name, data))


def _folder(path: Path) -> Iterator[JobEntry]:
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
            yield JobEntry(str(file), {}, error=f"a prompt must be UTF-8 text; got {error}")
            continue
        name = "_".join(file.relative_to(path).with_suffix("").parts)
        yield JobEntry(str(file), {"prompt": text.strip(), "name": name})


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
