"""Text made fit to show: without what a terminal obeys, sizes and times as people say them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, zip_longest

LISTED = 8  # names that a message tells of many


def shown(text: str) -> str:
    """A line of text with all that is not printable written out, as Python would write it.

    Names in a file can hold what a terminal obeys. So escapes and other controls are written
    out, line ends, marks that turn the direction of writing, and what is no character at all.
    Printable text of any script stays as it is.
    """
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def cut(text: str, most: int = 60) -> str:
    """A text as it is, or its first characters and how many there are."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def listed(names: Iterable[str], hints: Iterable[str] = ()) -> str:
    """The first names of many for a message, each with its hint, and how many more there are.

    hints: what is said behind the first names, as far as there are any.
    """
    names = list(names)
    first = names[:LISTED]
    pairs = zip_longest(first, islice(hints, len(first)), fillvalue="")
    told = ", ".join(f"{name[:120]!r}{hint}" for name, hint in pairs) or "nothing"
    return told + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def readable(size: int) -> str:
    """Bytes as people say them: 940 MB, 7.53 GB."""
    return f"{size / 1e9:.2f} GB" if size >= 10**9 else f"{size / 1e6:.0f} MB"


def duration(seconds: float) -> str:
    """Seconds as people say them: 0.080 s, 12.4 s, 3:05 min."""
    if seconds >= 100:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes}:{rest:02d} min"
    return f"{seconds:.3f} s" if seconds < 1 else f"{seconds:.1f} s"


def columns(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> Iterator[str]:
    """Rows of cells, equally many in each, as lines with aligned columns.

    right: the places of columns that are aligned at their right, as numbers are.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
