"""Rows that become several: by choices that their prompts leave, and by the axes of a grid."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod
from random import Random
from typing import Any

from sakuga.api.codec import plain
from sakuga.api.request import parse_size
from sakuga.batch.item import JobRow
from sakuga.batch.values import read_value
from sakuga.errors import RequestError
from sakuga.printable import cut
from sakuga.prompt.wildcards import Wildcards, leaves_choice

MOST = 100_000  # pictures of one row
CHOOSING = ("prompt", "negative")
REPLACED = re.compile(r"s(?P<sign>[/#!])(?P<old>.*?)(?P=sign)(?P<new>.*?)(?P=sign)")


@dataclass(frozen=True, slots=True)
class Axis:
    """One direction of a grid: a field of the request or of its XML, and its values as texts."""

    name: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Axis:
        """An axis of `guidance=3,4.5` or `appearance=s/blue/red/,s/blue/green/`.

        Values of a replacement begin with the text as it is. Raises RequestError.
        """
        name, sign, values = text.partition("=")
        if not sign or not values.strip():
            fix = 'Write --x guidance=3,4.5 or --x "appearance=s/blue/red/".'
            raise RequestError("an axis is FIELD=VALUE,VALUE...", repr(text), fix)
        found = [one.strip() for one in values.split(",")]
        if REPLACED.fullmatch(found[0]):
            found.insert(0, "")
        return cls(name.strip(), tuple(found))

    def apply(self, fields: Mapping[str, Any], value: str) -> dict[str, Any]:
        """Fields of a row at one place of the axis. Raises RequestError."""
        if not value:
            return dict(fields)
        if found := REPLACED.fullmatch(value):
            return {**fields, "prompt": self._replaced(str(fields["prompt"]), found)}
        if self.name == "size" and (size := parse_size(value)):
            return {**fields, "width": size[0], "height": size[1]}
        return {**fields, self.name: read_value(self.name, value)}

    def label(self, value: str) -> str:
        """What stands beside the pictures of a value."""
        found = REPLACED.fullmatch(value)
        if found:
            return f"{found['old']} > {found['new']}"
        return f"{self.name} {value}" if value else f"{self.name} as it is"

    def _replaced(self, prompt: str, found: re.Match[str]) -> str:
        """A prompt with words of its elements of this name replaced; `prompt`: in all of it."""
        whole = re.compile(f"(<{re.escape(self.name)}>)(.*?)(</{re.escape(self.name)}>)", re.DOTALL)

        def inner(text: str) -> str:
            return text.replace(found["old"], found["new"])

        if self.name == "prompt":
            made = inner(prompt)
        else:
            made = whole.sub(lambda one: one[1] + inner(one[2]) + one[3], prompt)
        if made == prompt:
            raise RequestError(
                f"{self.name} has what is replaced", f"{found['old']!r} nowhere in it",
                "Write what is there, as it is there.",
            )  # fmt: skip
        return made


@dataclass(frozen=True, slots=True)
class Variation:
    """How a row becomes several. `number`: picks by chance of what it leaves open; `every`: each.

    `axes`: of a grid, of which every row gets one.
    """

    cards: Wildcards = field(default_factory=Wildcards)
    number: int = 1
    every: bool = False
    axes: tuple[Axis, ...] = ()

    def of(self, row: JobRow) -> Iterator[JobRow]:
        """The rows that a row stands for. Raises RequestError before the first, if at all."""
        open_fields = [
            name for name in CHOOSING
            if not row.fields.get("verbatim") and leaves_choice(str(row.fields.get(name, "")))
        ]  # fmt: skip
        count = prod(self.cards.count(row.fields[name]) for name in open_fields)
        places = prod(len(axis.values) for axis in self.axes)
        total = places * (count if self.every else self.number)
        if total > MOST:
            raise RequestError(
                f"a row is at most {MOST:,} pictures", f"{total:,} of {cut(row.fields['prompt'])}",
                "Leave out --every and ask for --variations, or choose among less.",
            )  # fmt: skip
        for chosen in self._chosen(row, open_fields) if open_fields else self._again(row):
            yield from self._placed(chosen)

    def _again(self, row: JobRow) -> Iterator[JobRow]:
        """As often as was asked for; each gets a seed of its own, if it has none."""
        return (row for _ in range(self.number if row.fields.get("seed") is None else 1))

    def _chosen(self, row: JobRow, names: list[str]) -> Iterator[JobRow]:
        if self.every:
            for some in product(*(self.cards.all(row.fields[name]) for name in names)):
                made = {name: one.text for name, one in zip(names, some, strict=True)}
                notes = tuple(note for one in some for note in one.notes)
                yield replace(row, fields={**row.fields, **made}, notes=notes)
            return
        form = json.dumps(plain(row.fields), sort_keys=True)
        for number in range(self.number):
            chance = Random(f"{number} {form}")
            found = {name: self.cards.pick(row.fields[name], chance) for name in names}
            made = {name: one.text for name, one in found.items()}
            notes = tuple(note for one in found.values() for note in one.notes)
            yield replace(row, fields={**row.fields, **made}, notes=notes)

    def _placed(self, row: JobRow) -> Iterator[JobRow]:
        """A row at every place of the grid, with one seed: pictures that are to be compared."""
        if not self.axes:
            yield row
            return
        for values in product(*(axis.values for axis in self.axes)):
            fields, labels = dict(row.fields), []
            for axis, value in zip(self.axes, values, strict=True):
                fields = axis.apply(fields, value)
                labels.append(axis.label(value))
            fields.setdefault("seed", 0)
            where = f"{row.where} [{' | '.join(labels)}]"
            yield replace(row, where=where, fields=fields, notes=(*row.notes, *labels))
