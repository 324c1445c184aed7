"""The pairs of flat prompts and what they say: read from prompt_pairs.txt, and held to account."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sakuga.prompt import canonical
from sakuga.prompt.document import read
from sakuga.prompt.mention import PEOPLE
from sakuga.prompt.structured import structured
from sakuga.prompt.tags import normal, pieces

FILE = Path(__file__).with_name("prompt_pairs.txt")
Slots = frozenset[tuple[str, str]]  # field and tag


@dataclass(frozen=True, slots=True)
class Said:
    """Characters and picture: the tags of each, by field."""

    people: tuple[Slots, ...]
    general: Slots
    caption: bool


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and what it says."""

    number: int
    kind: str
    prompt: str
    said: Said


def pairs() -> list[Pair]:
    """All pairs, numbered from 1."""
    chunks = FILE.read_text(encoding="utf-8").split("\n## ")[1:]
    return [_pair(number, chunk) for number, chunk in enumerate(chunks, 1)]


def _pair(number: int, chunk: str) -> Pair:
    kind, *lines = chunk.splitlines()
    prompt = "\n".join(line[2:] for line in lines if line.startswith(">"))
    people = tuple(_slots(line[2:]) for line in lines if line.startswith("@"))
    general = [_slots(line[2:]) for line in lines if line.startswith("*")]
    said = Said(people, general[0] if general else frozenset(), "= caption" in lines)
    return Pair(number, kind, prompt, said)


def _slots(line: str) -> Slots:
    found = set()
    for part in line.split("; "):
        field, _, tags = part.partition(": ")
        found |= {(field.strip(), normal(tag)) for tag in tags.split(", ")}
    return frozenset(found)


def heard(prompt: str) -> Said:
    """What the code says of a prompt, as the encoders will read it."""
    document = read(prompt)
    return said_of(canonical.canonical(structured(document).document))


def said_of(xml: str) -> Said:
    """What a prompt of XML says."""
    people: list[Slots] = []
    general: Slots = frozenset()
    caption = False
    for section in canonical.sections(read(xml)):
        tags = frozenset(
            (part.name, normal(part.text[start:end]))
            for part in section.parts
            for start, end in pieces(part.text)
        )
        if section.number is not None:
            people.append(tags)
        elif section.name == "caption":
            caption = True
        else:
            general |= tags
    return Said(tuple(people), general, caption)


def score(pair: Pair, got: Said) -> tuple[int, int, int, int, list[str]]:
    """Characters right and all, slots right and all, and what is wrong, in words.

    A character is right when the one in its place has its name and gender, and none is there
    too many. Slots count that are asked for or given: what is too much is wrong, too.
    """
    wrong: list[str] = []
    number = max(len(pair.said.people), len(got.people))
    right = 0
    for at in range(number):
        mine, theirs = (
            who[at] if at < len(who) else None for who in (pair.said.people, got.people)
        )
        if mine is not None and theirs is not None and _who(mine) == _who(theirs):
            right += 1
        else:
            wrong.append(f"character {at + 1}: {_shown(mine)} is {_shown(theirs)}")
    asked, given = set(_all(pair.said)), set(_all(got))
    wrong += [f"missing {where} {field}: {tag}" for where, field, tag in sorted(asked - given)]
    wrong += [f"too much {where} {field}: {tag}" for where, field, tag in sorted(given - asked)]
    return right, number, len(asked & given), len(asked | given), wrong


def _who(slots: Slots) -> Slots:
    """Name and gender; however a prompt calls that, the blocks have 1girl, 1boy or 1other."""
    genders = {tag: f"1{kind}" for tag, kind in PEOPLE.items()}
    named = ((field, tag) for field, tag in slots if field in {"n", "gender"})
    return frozenset((field, genders.get(tag, tag)) for field, tag in named)


def _shown(slots: Slots | None) -> str:
    return "nobody" if slots is None else ", ".join(tag for _, tag in sorted(_who(slots))) or "?"


def _all(said: Said) -> Iterator[tuple[str, str, str]]:
    for number, slots in enumerate(said.people, 1):
        yield from (
            (str(number), field, tag) for field, tag in slots if field not in {"n", "gender"}
        )
    yield from (("*", field, tag) for field, tag in said.general)
    if said.caption:
        yield "*", "caption", ""
