"""Prompts that leave a choice, as users of dynamic prompts write them, and what can be chosen.

    {a|b}             one of them; an empty one counts too
    {3::a|b}          a three times as often as b
    {2$$a|b|c}        two of them, joined by ", "; {1-2$$ and $$a|b|c} one or two, by " and "
    __colour__        a line of colour.txt, or, without such a file, a tag of that slot
    __dress/*__       a line of any of the files that match
    \\{ \\| \\} \\__      the signs themselves

A line of a file may leave a choice too, and may begin with a weight. Braces that hold neither
| nor $$ stay as they are. In XML, what a file says is written so that it stays text.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from random import Random

from sakuga.errors import RequestError
from sakuga.printable import cut, listed
from sakuga.prompt.slots import FIELDS
from sakuga.prompt.tag_table import all_keys, known_tag

MOST_DEEP = 16  # choices within choices, and files that lead to files
MOST_BYTES = 64 << 20
OFTEN = 1000  # uses of a tag that stands for its slot
JOINT = ", "
SIGN = re.compile(r"\\[{}|]|\\__|__([A-Za-z0-9*][\w*/ .-]*?)__(?!\w)|[{}|]")
WEIGHT = re.compile(r"\s*(\d+(?:\.\d+)?)::")
COUNT = re.compile(r"\s*(?:(\d+)(?:-(\d+))?|-(\d+))\$\$(?:([^|{}$]*)\$\$)?")
MARKUP = re.compile(r"<[A-Za-z_]")


@dataclass(frozen=True, slots=True)
class Wildcard:
    """A name that stands for a line of a file, or for a tag of a slot."""

    name: str


@dataclass(frozen=True, slots=True)
class Branch:
    """What may be chosen, and how often: text with choices of its own."""

    weight: float
    pieces: tuple[str | Choice | Wildcard, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """Some of several: at least `low` and at most `high`, in a row with `joint` between."""

    text: str
    branches: tuple[Branch, ...]
    low: int = 1
    high: int = 1
    joint: str = JOINT


@dataclass(frozen=True, slots=True)
class Chosen:
    """A text without a choice, and what was chosen for it, a sentence each."""

    text: str
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Wildcards:
    """What names stand for: files in a folder, then the slots of the table of tags."""

    folder: Path | None = None
    _known: dict[str, Choice] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def count(self, text: str) -> int:
        """In how many ways a text can be chosen. Raises RequestError where it cannot."""
        return self._count_all(parse(text), ())

    def all(self, text: str) -> Iterator[Chosen]:
        """Every way, in the order of the text."""
        markup = bool(MARKUP.search(text))
        return (Chosen(one, notes) for one, notes in self._each(parse(text), markup))

    def pick(self, text: str, chance: Random) -> Chosen:
        """One way, by chance. Raises RequestError as `count`."""
        self.count(text)
        notes: list[str] = []
        return Chosen(self._pick(parse(text), chance, notes, bool(MARKUP.search(text))), (*notes,))

    def choice(self, name: str) -> Choice:
        """What a name stands for. Raises RequestError."""
        if name not in self._known:
            lines = self._lines(name)
            branches = tuple(map(_line, lines))
            if not branches:
                raise RequestError("a wildcard has lines", f"none for __{name}__", "Add some.")
            self._known[name] = Choice(f"__{name}__", branches)
        return self._known[name]

    def _count_all(self, pieces: Sequence[str | Choice | Wildcard], above: tuple[str, ...]) -> int:
        total = 1
        for piece in pieces:
            total *= 1 if isinstance(piece, str) else self._count(piece, above)
        return total

    def _count(self, piece: Choice | Wildcard, above: tuple[str, ...]) -> int:
        """Ways of a choice; `above`: the names of what it stands in."""
        if isinstance(piece, Choice):
            ways = [self._count_all(one.pieces, above) for one in piece.branches]
            sums = [1] + [0] * piece.high  # of products of so many different ones
            for way in ways:
                for size in range(piece.high, 0, -1):
                    sums[size] += sums[size - 1] * way
            return sum(sums[piece.low : piece.high + 1])
        if piece.name in above:
            path = " -> ".join((*above[above.index(piece.name) :], piece.name))
            raise RequestError("a wildcard must not lead to itself", path, "Break the circle.")
        if len(above) >= MOST_DEEP:
            got = " -> ".join(above)
            raise RequestError(f"wildcards lead {MOST_DEEP} deep at most", got, "Flatten them.")
        if piece.name not in self._counts:
            self._counts[piece.name] = self._count(self.choice(piece.name), (*above, piece.name))
        return self._counts[piece.name]

    def _each(
        self, pieces: Sequence[str | Choice | Wildcard], markup: bool
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Every way of some pieces, and its notes."""
        if not pieces:
            yield "", ()
            return
        first, *rest = pieces
        for head, said in self._ways(first, markup):
            for tail, more in self._each(rest, markup):
                yield head + tail, (*said, *more)

    def _ways(
        self, piece: str | Choice | Wildcard, markup: bool
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        if isinstance(piece, str):
            yield piece, ()
            return
        choice = self.choice(piece.name) if isinstance(piece, Wildcard) else piece
        for size in range(choice.low, choice.high + 1):
            for some in itertools.combinations(choice.branches, size):
                for parts in itertools.product(*(list(self._each(b.pieces, markup)) for b in some)):
                    made = _escaped(choice.joint.join(p for p, _ in parts), piece, markup)
                    yield made, (f"{choice.text}: {made}", *(n for _, ns in parts for n in ns))

    def _pick(
        self, pieces: Sequence[str | Choice | Wildcard], chance: Random, notes: list[str],
        markup: bool,
    ) -> str:  # fmt: skip
        made = []
        for piece in pieces:
            if isinstance(piece, str):
                made.append(piece)
                continue
            choice = self.choice(piece.name) if isinstance(piece, Wildcard) else piece
            place = len(notes)
            some = _sample(choice, chance)
            parts = [self._pick(one.pieces, chance, notes, False) for one in some]
            text = _escaped(choice.joint.join(parts), piece, markup)
            notes.insert(place, f"{choice.text}: {text}")
            made.append(text)
        return "".join(made)

    def _lines(self, name: str) -> list[str]:
        """The lines that a name stands for, of its files or of its slot."""
        files = self._files()
        found = [files[one] for one in sorted(files) if fnmatchcase(one, name.strip().lower())]
        if found:
            texts = [_read(one) for one in found]
            return [line for text in texts for line in text.splitlines() if _counts(line)]
        slot = name.strip().lower().replace("_", " ").replace("color", "colour")
        if slot in FIELDS:
            known = (known_tag(key) for key in all_keys())
            tags = [tag for tag in known if tag and tag.slot == slot and tag.uses >= OFTEN]
            return [re.sub(r"([{}|])", r"\\\1", one) for one in sorted({tag.name for tag in tags})]
        names = [*files, *(one.replace(" ", "_") for one in FIELDS)]
        near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
        where = f"Write {name}.txt into {self.folder}" if self.folder else "Pass --wildcards FOLDER"
        fix = f"Did you mean __{near[0]}__?" if near else f"{where}, or use {listed(names)}."
        raise RequestError("a wildcard is a file or a slot of tags", f"__{name}__", fix)

    def _files(self) -> Mapping[str, Path]:
        """The files there are, by their names as prompts have them."""
        if self.folder is None or not self.folder.is_dir():
            return {}
        return {
            one.relative_to(self.folder).with_suffix("").as_posix().lower(): one
            for one in self.folder.rglob("*.txt")
            if one.is_file()
        }


def leaves_choice(text: str) -> bool:
    """Whether there is anything to choose in a text."""
    return any(not isinstance(one, str) for one in parse(text)) or "\\" in text


def parse(text: str) -> tuple[str | Choice | Wildcard, ...]:
    """A text taken apart. Raises RequestError for a choice that cannot be."""
    return _merged(_Parser(text).pieces(0))


class _Parser:
    """Reads a text from left to right, choice within choice."""

    def __init__(self, text: str) -> None:
        self.text, self.place = text, 0
        self._closed = _closed(text)

    def pieces(self, deep: int) -> list[str | Choice | Wildcard]:
        """Up to the | or } that ends them, or the end of the text."""
        if deep > MOST_DEEP:
            raise RequestError(
                f"choices lie {MOST_DEEP} deep at most", cut(self.text), "Flatten them."
            )
        found: list[str | Choice | Wildcard] = []
        while sign := SIGN.search(self.text, self.place):
            found.append(self.text[self.place : sign.start()])
            self.place = sign.start()
            if sign[0] in "|}" and deep:
                return found
            self.place = sign.end()
            if sign[1]:
                found.append(Wildcard(sign[1]))
            elif sign.start() in self._closed:
                found += self._choice(sign.start(), deep)
            else:
                found.append(sign[0].removeprefix("\\"))
        found.append(self.text[self.place :])
        self.place = len(self.text)
        return found

    def _choice(self, start: int, deep: int) -> list[str | Choice | Wildcard]:
        """The choice whose { was read; what is no choice, as it is written."""
        count = COUNT.match(self.text, self.place)
        self.place = count.end() if count else self.place
        branches: list[Branch] = []
        while True:
            weight = WEIGHT.match(self.text, self.place)
            begun = self.place
            self.place = weight.end() if weight else begun
            pieces = self.pieces(deep + 1)
            branches.append(Branch(float(weight[1]) if weight else 1.0, _merged(pieces)))
            self.place += 1
            if self.text[self.place - 1] == "}":
                break
        if len(branches) == 1 and not count:
            lead = self.text[start:begun] + (weight[0] if weight else "")
            return [lead, *pieces, "}"]
        return [_counted(self.text[start : self.place], tuple(branches), count)]


def _closed(text: str) -> set[int]:
    """Where the braces open that are closed again; the others are text."""
    waiting, closed = list[int](), set[int]()
    for sign in SIGN.finditer(text):
        if sign[0] == "{":
            waiting.append(sign.start())
        elif sign[0] == "}" and waiting:
            closed.add(waiting.pop())
    return closed


def _counted(text: str, branches: tuple[Branch, ...], count: re.Match[str] | None) -> Choice:
    """A choice with how many are taken. Raises RequestError where there are not so many."""
    if count is None:
        return Choice(text, branches)
    low = int(count[1] or 0)
    high = int(count[2] or count[3] or count[1])
    if not low <= high <= len(branches):
        raise RequestError(
            "a choice takes no more than there are, and a range goes up",
            f"{cut(text)} with {len(branches)}", "Write as in {1-2$$a|b|c}.",
        )  # fmt: skip
    return Choice(text, branches, low, high, JOINT if count[4] is None else count[4])


def _merged(pieces: Sequence[str | Choice | Wildcard]) -> tuple[str | Choice | Wildcard, ...]:
    """Pieces with texts that follow each other as one, and none empty."""
    found: list[str | Choice | Wildcard] = []
    for piece in pieces:
        if isinstance(piece, str) and found and isinstance(found[-1], str):
            found[-1] += piece
        elif piece != "":
            found.append(piece)
    return tuple(found)


def _sample(choice: Choice, chance: Random) -> list[Branch]:
    """Some branches by their weights, none twice."""
    left, some = list(choice.branches), []
    for _ in range(chance.randint(choice.low, choice.high)):
        weights = [one.weight for one in left]
        place = chance.choices(range(len(left)), weights if any(weights) else None)[0]
        some.append(left.pop(place))
    return some


def _escaped(text: str, piece: Choice | Wildcard, markup: bool) -> str:
    """What a file says as text of XML; what a person wrote in a prompt is as they wrote it."""
    if not markup or not isinstance(piece, Wildcard):
        return text
    return re.sub(r"&(?!\w{1,8};|#)", "&amp;", text).replace("<", "&lt;").replace(">", "&gt;")


def _line(line: str) -> Branch:
    weight = WEIGHT.match(line)
    return Branch(float(weight[1]) if weight else 1.0, parse(line[weight.end() if weight else 0 :]))


def _counts(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise RequestError("a wildcard's file has at most 64 MiB", str(file), "Split it.")
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(
            "a wildcard's file must be UTF-8 text", f"{file}: {error}", "Mend it."
        ) from None
