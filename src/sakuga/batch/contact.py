"""Contact sheets: pictures in rows and columns, with what each row and column is called."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from sakuga.batch.item import JobRow
from sakuga.batch.variation import Axis
from sakuga.files.atomic import write_atomically

CELL = 256  # pixels of the longer side of a picture
GAP, LETTER = 8, 16
PAPER, INK = (255, 255, 255), (40, 40, 40)
MOST_SIDE = 16_000  # pixels of a sheet


def grid_sheets(
    axes: Sequence[Axis], rows: Sequence[JobRow], files: Mapping[str, str], place: Path
) -> list[Path]:
    """Write a sheet for each row of a job and value of the third axis; where they are.

    rows: those of the grids, in their order. files: of each row by where it stands.
    """
    x, y, z = (*axes, Axis("", ("",)), Axis("", ("",)))[:3]
    each = len(x.values) * len(y.values) * len(z.values)
    written = []
    for first in range(0, len(rows), each):
        cells = [files.get(one.where) for one in rows[first : first + each]]
        by_place = dict(zip(product(x.values, y.values, z.values), cells, strict=True))
        for number, deep in enumerate(z.values):
            names = [[by_place[across, down, deep] for across in x.values] for down in y.values]
            title = z.label(deep) if z.name else ""
            data = contact_sheet(
                [[None if one is None else place / one for one in line] for line in names],
                [x.label(one) for one in x.values],
                [y.label(one) if y.name else "" for one in y.values], title,
            )  # fmt: skip
            path = place / f"grid-{first // each + 1}-{number + 1}.png"
            write_atomically(path, data, replace=True)
            written.append(path)
    return written


def contact_sheet(
    cells: Sequence[Sequence[Path | None]], across: Sequence[str], down: Sequence[str], title: str
) -> bytes:
    """A PNG file of pictures in lines; a place without one stays empty."""
    from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415

    font = ImageFont.load_default(LETTER)
    most = max((_side(one) for line in cells for one in line if one), default=CELL)
    size = min(CELL, most, MOST_SIDE // max(1, len(across), len(down)) - GAP)
    left = max((int(font.getlength(one)) for one in down), default=0) + 2 * GAP if any(down) else 0
    top = GAP + (LETTER + GAP) * (bool(title) + any(map(bool, across)))
    sheet = Image.new(
        "RGB", (left + len(across) * (size + GAP) + GAP, top + len(cells) * (size + GAP)), PAPER
    )
    ink = ImageDraw.Draw(sheet)
    if title:
        ink.text((GAP, GAP), title, INK, font)
    for column, label in enumerate(across):
        text = _fitted(label, size, font.getlength)
        ink.text((left + column * (size + GAP) + GAP, top - LETTER - GAP), text, INK, font)
    for line, names in enumerate(cells):
        ink.text((GAP, top + line * (size + GAP) + size // 2), down[line], INK, font)
        for column, name in enumerate(names):
            if name is None:
                continue
            with Image.open(name, formats=["PNG"]) as image:
                small = image.convert("RGB")
            small.thumbnail((size, size), Image.Resampling.LANCZOS)
            sheet.paste(small, (left + column * (size + GAP) + GAP, top + line * (size + GAP)))
    out = io.BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()


def _side(picture: Path) -> int:
    """The longer side of a picture."""
    from PIL import Image  # noqa: PLC0415

    with Image.open(picture, formats=["PNG"]) as image:
        return max(image.size)


def _fitted(text: str, width: int, length: object) -> str:
    """A label as far as it fits beside its neighbour."""
    assert callable(length)
    while len(text) > 1 and length(text) > width:
        text = text[:-1]
    return text
