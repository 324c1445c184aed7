"""What became of what was said: atom by atom for a picture, and in numbers for a row."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from sakuga.chibi.binding.asks import Ask
from sakuga.chibi.binding.scorers import Sight

_Z = 1.96  # of a 95% interval


@dataclass(frozen=True, slots=True)
class Verdict:
    """One picture: (slot, right) of every atom that was said, and of whom is what.

    `leaked`, `could`: of the atoms that somebody else has another value of, how many show that
    one's. `placed`: how many of `people` stand where the scene has them.
    """

    atoms: tuple[tuple[str, bool], ...]
    leaked: int
    could: int
    counted: bool
    placed: int
    people: int

    @property
    def whole(self) -> bool:
        """Whether all that was said is drawn."""
        return all(right for _, right in self.atoms)

    @property
    def code(self) -> str:
        """The verdict as text: a digit for each atom, then the count, then who is placed."""
        digits = "".join(str(int(right)) for _, right in self.atoms)
        return f"{digits} {int(self.counted)} {self.placed}"


def judged(ask: Ask, sight: Sight) -> Verdict:
    """Hold what is seen against what was said."""
    atoms: list[tuple[str, bool]] = []
    leaked = could = 0
    characters = ask.scene.characters
    for index, (said, seen) in enumerate(zip(ask.people, sight.figures, strict=True)):
        for slot in _slots(said):
            if slot == "position":
                atoms.append((slot, sight.placed[index]))
                continue
            value = getattr(characters[index], slot)
            atoms.append((slot, seen.get(slot) == value))
            others = {
                getattr(other, slot)
                for number, other in enumerate(characters)
                if number != index and slot in _slots(ask.people[number])
            } - {value}
            could += bool(others)
            leaked += seen.get(slot) in others
    atoms += [(slot, sight.around.get(slot) == getattr(ask.scene, slot)) for slot in ask.around]
    counted = sight.count == len(characters)
    return Verdict(tuple(atoms), leaked, could, counted, sum(sight.placed), len(characters))


def _slots(said: Iterable[str]) -> list[str]:
    """What of a character is looked at: a garment is said with its colour, a name is nothing."""
    slots = [slot for slot in said if slot != "name"]
    return [*slots, *(("garment_color",) if "garment" in slots else ())]


@dataclass(slots=True)
class Tally:
    """The verdicts of a row, counted: each as [right, of how many]."""

    pictures: int = 0
    whole: int = 0
    counted: int = 0
    atoms: list[int] = field(default_factory=lambda: [0, 0])
    leaks: list[int] = field(default_factory=lambda: [0, 0])
    placed: list[int] = field(default_factory=lambda: [0, 0])
    slots: dict[str, list[int]] = field(default_factory=dict)

    def add(self, verdict: Verdict) -> None:
        """Count one more picture."""
        self.pictures += 1
        self.whole += verdict.whole
        self.counted += verdict.counted
        _more(self.leaks, verdict.leaked, verdict.could)
        _more(self.placed, verdict.placed, verdict.people)
        for slot, right in verdict.atoms:
            _more(self.atoms, right, 1)
            _more(self.slots.setdefault(slot, [0, 0]), right, 1)


def _more(pair: list[int], right: int, of: int) -> None:
    pair[0] += right
    pair[1] += of


def wilson(right: float, of: float) -> tuple[float, float]:
    """The 95% interval of a share, 0 to 1 (Wilson, 1927); all of it where nothing was counted."""
    if not of:
        return 0.0, 1.0
    share, z = right / of, _Z
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    reach = z / (1 + z * z / of) * math.sqrt(share * (1 - share) / of + (z / 2 / of) ** 2)
    return max(0.0, middle - reach), min(1.0, middle + reach)
