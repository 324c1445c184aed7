"""The rows of the benchmark: what is said, who has it, where; each form as it may be encoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from random import Random

from sakuga.chibi.binding import forms
from sakuga.chibi.binding.asks import Ask, Make, alike, full, peers, placed, rare, sparse
from sakuga.chibi.binding.forms import Form
from sakuga.chibi.regime import Size

USUAL = (256, 256)
WIDE = (384, 256)  # where five and six have room
SAID = (1, 2, 3, 4, 6, 8)
SOME = (2, 4, 8)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
LANGUAGES = ("en", "zh", "ja")
NAMES = {"en": "English", "zh": "Chinese", "ja": "Japanese"}
# Seven aspects and sides of 192 to 512; the last three lie between the sizes of training.
SIZES = (
    (192, 192), (256, 256), (320, 320), (384, 384), (512, 512), (256, 320), (320, 256), (256, 384),
    (384, 256), (384, 512), (512, 384), (256, 512), (512, 256), (320, 384), (448, 320), (288, 480),
)  # fmt: skip
ROOMY = ((384, 256), (512, 256), (512, 384), (512, 512))
ENCODINGS = ("as XML", "as typed", "per character")


@dataclass(frozen=True, slots=True)
class Row:
    """Pictures that are asked for in one way.

    `form`: the name of how prompts are written. `said`: how much of each of `people`.
    `encoding`: one of ENCODINGS, what becomes of a text before it is encoded.
    """

    group: str
    form: str
    write: Form
    make: Make
    said: int
    people: int = 1
    size: Size = USUAL
    encoding: str = "as XML"

    @property
    def name(self) -> str:
        """What tells it from all other rows."""
        size = "" if self.size == USUAL else f", {self.size[0]}x{self.size[1]}"
        many = f", {self.people} people" if self.group != "said" else ""
        said = f", {self.said} said" if self.make is sparse else ""
        how = "" if self.encoding == "as XML" else f", {self.encoding}"
        return f"{self.group}: {self.form}{said}{many}{size}{how}"

    def ask(self, index: int) -> tuple[Ask, str]:
        """What is asked of a picture, and the prompt as it is typed."""
        ask = self.make(index, self.people, self.said)
        return ask, self.write(ask, Random(f"{self.form} {self.said} {self.people} {index}"))


@cache
def all_rows() -> tuple[Row, ...]:
    """Every row of the benchmark."""
    return (*_said(), *_who(), *_where())


def _twice(row: Row) -> Iterator[Row]:
    """A row of texts that are structured before they are encoded, and as they are typed."""
    yield row
    yield replace(row, encoding="as typed")


def _said() -> Iterator[Row]:
    def row(form: str, write: Form, said: int) -> Row:
        return Row("said", form, write, sparse, said)

    for said in SAID:
        yield row("XML", forms.xml, said)
    for said in SOME:
        yield row("XML, shuffled", forms.xml_shuffled, said)
        yield replace(row("XML", forms.xml, said), encoding="per character")
    flats = {
        "flat": forms.flat,
        "flat, shuffled": forms.flat_shuffled,
        "flat, spaces": forms.spaced(forms.flat),
        "flat, spaces, shuffled": forms.spaced(forms.flat_shuffled),
    }
    for form, write in flats.items():
        for said in SOME if "shuffled" in form else SAID:
            yield from _twice(row(form, write, said))
    for language in LANGUAGES:
        for said in (1, 3, 6):
            yield from _twice(row(f"prose, {NAMES[language]}", forms.prose(language), said))
    for language in LANGUAGES:
        caption = f"caption in {NAMES[language]}"
        yield row(f"XML, {caption}", forms.captioned(forms.xml, language), 5)
        yield from _twice(row(f"flat, {caption}", forms.captioned(forms.flat, language), 5))
    for taught, kind in ((True, "a name of training"), (False, "another name")):
        yield row(f"XML, {kind}", forms.named(forms.xml, taught), 4)
        yield from _twice(row(f"flat, {kind}", forms.named(forms.flat, taught), 4))
    for share in SHARES:
        yield from _twice(row(f"flat, {share:.0%} unknown", forms.flat_strangers(share), 4))
    yield row("XML, 50% unknown", forms.xml_strangers(0.5), 4)


def _who() -> Iterator[Row]:
    def row(form: str, write: Form, make: Make, people: int, said: int = 8) -> Row:
        size = USUAL if people <= 4 else WIDE
        return Row("who", form, write, make, said, people, size)

    for people in range(1, 7):
        yield row("XML, 8 atoms each", forms.xml, full, people)
        yield row("XML, shuffled, 8 atoms each", forms.xml_shuffled, full, people)
        if people > 1:
            one = row("XML, 8 atoms each", forms.xml, full, people)
            yield replace(one, encoding="per character")
    for people in (2, 3, 4):
        yield row("XML", forms.xml, sparse, people, 3)
        yield from _twice(row("flat, 8 atoms each", forms.flat, peers, people))
        yield row("look-alikes", forms.xml, alike, people)
        yield row("places", forms.xml, placed, people, 5)
    for people in (1, 2, 3):
        yield row("rare pairs", forms.xml, rare, people, 6)
    for language in LANGUAGES:
        told = f"prose, {NAMES[language]}, 8 atoms each"
        yield from _twice(row(told, forms.prose(language), full, 2))


def _where() -> Iterator[Row]:
    def row(people: int, size: Size) -> Row:
        return Row("where", "XML, 8 atoms each", forms.xml, full, 8, people, size)

    for size in SIZES:
        yield from (row(people, size) for people in (1, 3))
    for size in ROOMY:
        yield from (row(people, size) for people in (5, 6))


def chosen(begins: Iterable[str], as_typed: bool = False) -> tuple[Row, ...]:
    """The rows whose names begin so, all if nothing is given; `as_typed`: none that is changed."""
    starts = tuple(begins)
    found = [row for row in all_rows() if not starts or row.name.startswith(starts)]
    if as_typed:
        typed = {(row.form, row.said, row.people) for row in found if row.encoding == "as typed"}
        found = [
            row for row in found
            if row.encoding != "as XML" or (row.form, row.said, row.people) not in typed
        ]  # fmt: skip
    return tuple(found)
