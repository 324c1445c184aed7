"""Contact sheets: of many rows a picture that shows all that was said, and one that shows least."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw

from sakuga.chibi.binding.bench import Judged

_COLUMNS, _MOST = 6, 24
_SIDE, _LINE = 144, 11  # of a thumbnail; of a line of text, in pixels
_COLOURS = 96


@dataclass(slots=True)
class Sheets:
    """The pictures that are kept of each row."""

    best: dict[str, Judged] = field(default_factory=dict)
    worst: dict[str, Judged] = field(default_factory=dict)

    def keep(self, one: Judged) -> None:
        """Look at one more picture of a row."""
        name = one.row.name
        if _right(one) > _right(self.best.get(name)):
            self.best[name] = one
        if name not in self.worst or _right(one) < _right(self.worst[name]):
            self.worst[name] = one

    def write(self, folder: Path) -> None:
        """Write best.png, spread over the rows, and worst.png, of the rows that do worst."""
        best = [one for one in self.best.values() if one.verdict.whole and one.verdict.counted]
        spread = best[:: max(1, len(best) // _MOST)][:_MOST]
        worst = sorted((one for one in self.worst.values() if _right(one) < 1), key=_right)
        for name, chosen in (("best", spread), ("worst", worst[:_MOST])):
            if chosen:
                sheet(chosen).save(folder / f"{name}.png", optimize=True)


def _right(one: Judged | None) -> float:
    """Share of what was said that is there; a wrong number of people is one thing more."""
    if one is None:
        return -1.0
    atoms = [right for _, right in one.verdict.atoms]
    return (sum(atoms) + one.verdict.counted) / (len(atoms) + 1)


def sheet(chosen: Sequence[Judged]) -> Image.Image:
    """Thumbnails in rows, each with its row's name and what of it is missed below."""
    tall = _SIDE + 4 * _LINE
    rows = -(-len(chosen) // _COLUMNS)
    image = Image.new("RGB", (_COLUMNS * _SIDE, rows * tall), "white")
    brush = ImageDraw.Draw(image)
    for index, one in enumerate(chosen):
        x, y = index % _COLUMNS * _SIDE, index // _COLUMNS * tall
        small = Image.fromarray(one.pixels)
        small.thumbnail((_SIDE - 4, _SIDE - 4))
        image.paste(small, (x + 2, y + 2))
        missed = [slot for slot, right in one.verdict.atoms if not right]
        missed += [] if one.verdict.counted else ["count"]
        lines = [*_wrapped(one.row.name.split(": ", 1)[1], 2), *_wrapped(", ".join(missed), 2)]
        for number, line in enumerate(lines):
            brush.text((x + 3, y + _SIDE + number * _LINE), line, fill="black", font_size=9)
    return image.quantize(_COLOURS)


def _wrapped(text: str, lines: int) -> Iterable[str]:
    """The text on so many lines; what does not fit is cut."""
    width, words, made = 30, text.split(), [""]
    for word in words:
        if len(made[-1]) + len(word) >= width:
            made.append("")
        made[-1] = f"{made[-1]} {word}".strip()
    return made[:lines]
