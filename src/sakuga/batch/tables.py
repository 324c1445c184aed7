"""Files that ask for many pictures, read entry by entry: JSONL, JSON, TOML, CSV, Parquet, text.

An entry is what one row says, by name, and where it stands. What a file says at its top for
all its rows comes as an entry that is marked so.
"""

from __future__ import annotations

import csv
import io
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from sakuga.errors import RequestError
from sakuga.printable import cut

DEFAULTS = "defaults"  # the key of what holds for all rows
ROWS = ("rows", "items", "requests")  # keys of the rows of a TOML or JSON file
PARQUET = ".parquet"
MOST_BYTES = 1 << 30
SETTING = re.compile(r"#\s*(\w+)\s*=\s*(.*)")


@dataclass(frozen=True, slots=True)
class JobEntry:
    """What a row says. `columns`: where each value stands, if that is more than its name.

    `texts`: values are texts that have yet to be read as numbers, as CSV has them. `every`: it
    holds for all rows. `error`: why it could not be read at all.
    """

    where: str
    values: Mapping[str, Any]
    columns: Mapping[str, int] | None = None
    texts: bool = False
    every: bool = False
    error: str = ""


def read_table(name: str, data: bytes) -> Iterator[JobEntry]:
    """The entries of a file by the end of its name. Raises RequestError where none can be read."""
    kind = Path(name).suffix.lower()
    if kind == PARQUET:
        return _parquet(name, data)
    if kind not in READERS:
        raise RequestError(
            "a job is a folder of prompts or one of " + ", ".join((*READERS, PARQUET)), repr(name),
            "Rename it, or write prompts to standard input and give -.",
        )  # fmt: skip
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise RequestError(
            "a job must be UTF-8 text", f"{name}:{line}: byte {error.start} is none", "Convert it."
        ) from None
    return READERS[kind](name, text)


def prompts(name: str, text: str) -> Iterator[JobEntry]:
    """Prompts as text: one a line; where one begins with <, they are parted by empty lines."""
    if re.match(r"\s*\{\s*\"", text):  # not a choice in braces
        yield from _jsonl(name, text)
        return
    if not re.search(r"^\s*<", text, re.MULTILINE):
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip() and not line.startswith("#"):
                yield JobEntry(f"{name}:{number}", {"prompt": line.strip()})
        return
    number = 1
    for block in re.split(r"(\n\s*\n)", text):
        if block.strip():
            lead = len(block) - len(block.lstrip())
            yield JobEntry(
                f"{name}:{number + block[:lead].count(chr(10))}", {"prompt": block.strip()}
            )
        number += block.count("\n")


def _jsonl(name: str, text: str) -> Iterator[JobEntry]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            column = getattr(error, "colno", 1)
            said = getattr(error, "msg", str(error))
            yield JobEntry(f"{name}:{number}:{column}", {}, error=f"a row must be JSON; got {said}")
            continue
        yield _entry(f"{name}:{number}", value)


def _entry(where: str, value: Any) -> JobEntry:
    """A row of JSON or TOML: an object, or a prompt alone."""
    if isinstance(value, str):
        return JobEntry(where, {"prompt": value})
    if not isinstance(value, dict):
        return JobEntry(
            where, {}, error=f"a row must be an object or a text; got {cut(repr(value))}"
        )
    if set(value) == {DEFAULTS} and isinstance(value[DEFAULTS], dict):
        return JobEntry(where, value[DEFAULTS], every=True)
    return JobEntry(where, value)


def _json(name: str, text: str) -> Iterator[JobEntry]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise _unreadable(name, "JSON", error) from None
    yield from _tree(name, value)


def _toml(name: str, text: str) -> Iterator[JobEntry]:
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _unreadable(name, "TOML", error) from None
    starts = [
        number for number, line in enumerate(text.split("\n"), 1)
        if re.match(r"\s*\[\[\s*(" + "|".join(ROWS) + r")\s*\]\]", line)
    ]  # fmt: skip
    yield from _tree(name, value, starts)


def _tree(name: str, value: Any, lines: list[int] | None = None) -> Iterator[JobEntry]:
    """Rows in a list, or under one of ROWS with what holds for all of them beside it."""
    rows = value
    if isinstance(value, dict):
        key = next((one for one in ROWS if one in value), None)
        if key is None:
            raise RequestError(
                f"a job has its rows under {' or '.join(ROWS)}", f"{name} with {', '.join(value)}",
                "Write [[rows]] before each, or a list.",
            )  # fmt: skip
        rows = value.pop(key)
        every = {**value.pop(DEFAULTS, {}), **value}
        yield JobEntry(name, every, every=True)
    if not isinstance(rows, list):
        raise RequestError("the rows of a job are a list", f"{name}: {cut(repr(rows))}", "Use [].")
    for number, row in enumerate(rows, 1):
        place = f"{name}:{lines[number - 1]}" if lines and len(lines) == len(rows) else None
        yield _entry(place or f"{name}: row {number}", row)


def _csv(name: str, text: str) -> Iterator[JobEntry]:
    lines, skipped = io.StringIO(text, newline=""), 0
    while True:  # settings of all rows, before the line of names
        start = lines.tell()
        found = SETTING.fullmatch(lines.readline().strip())
        if not found:
            lines.seek(start)
            break
        skipped += 1
        where = f"{name}:{skipped}"
        yield JobEntry(where, {found[1]: found[2]}, texts=True, every=True)
    table = csv.reader(lines, delimiter="\t" if name.lower().endswith(".tsv") else ",", strict=True)
    header, before = [one.strip() for one in next(table, [])], table.line_num
    while True:
        where, before = f"{name}:{skipped + before + 1}", table.line_num
        try:
            cells = next(table, None)
        except csv.Error as error:
            yield JobEntry(where, {}, error=f"a row must be CSV; got {error}")
            cells = []
        if cells is None:
            return
        where, before = f"{name}:{skipped + before + 1}", table.line_num
        if not any(cells):
            continue
        if len(cells) > len(header):
            told = f"a row has at most the {len(header)} columns of the first; got {len(cells)}"
            yield JobEntry(f"{where}:{len(header) + 1}", {}, error=told + ". Quote its commas.")
            continue
        named = {key: cell for key, cell in zip(header, cells, strict=False) if cell.strip()}
        yield JobEntry(where, named, {key: i for i, key in enumerate(header, 1)}, texts=True)


def _parquet(name: str, data: bytes) -> Iterator[JobEntry]:
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError:
        fix = "pip install 'sakuga[parquet]', or write it as JSONL."
        raise RequestError("reading Parquet needs pyarrow", name, fix) from None
    try:
        rows: Iterable[Mapping[str, Any]] = parquet.read_table(io.BytesIO(data)).to_pylist()
    except Exception as error:  # pyarrow's own kinds, known to it alone
        raise _unreadable(name, "Parquet", error) from None
    for number, row in enumerate(rows, 1):
        given = {key: value for key, value in row.items() if value is not None}
        yield JobEntry(f"{name}: row {number}", given)


def _unreadable(name: str, kind: str, error: Exception) -> RequestError:
    return RequestError(f"a job must be {kind}", f"{name}: {cut(str(error), 200)}", "Mend it.")


READERS: Mapping[str, Callable[[str, str], Iterator[JobEntry]]] = {
    ".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _json, ".toml": _toml, ".csv": _csv,
    ".tsv": _csv, ".txt": prompts,
}  # fmt: skip
