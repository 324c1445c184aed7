"""The standard streams as a command may find them: closed, full, or a terminal of some width."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

PAGE = 80  # columns where nobody says how many there are
INDENT = "  "  # before what goes on on the next line of a terminal
_unsaid: list[OSError] = []  # why standard output did not take what was told


class Patient(io.FileIO):
    """A stream that takes whatever it is given, whether or not it has a place for it."""

    def write(self, data: Any, /) -> int:
        """Write what can be written; what fails counts as written."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def mend() -> None:
    """Give the process the three streams it should have; to be called once, and first.

    A number that is free would go to the next file that is opened, and what libraries print
    would be written into that. So a closed stream is the null device, opened so that writing
    pictures to it still fails. Standard error never fails: what it cannot take must not stop
    a drawing.
    """
    for number, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest number that is free, this one
    sys.stdin = sys.stdin or io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
    sys.stdout = sys.stdout or _patient(1, "utf-8")
    sys.stderr = _patient(2, sys.stderr.encoding if sys.stderr else "utf-8")


def _patient(number: int, encoding: str) -> TextIO:
    raw = io.BufferedWriter(Patient(number, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding, "backslashreplace", line_buffering=True)


def say(text: str, *, err: bool = False, wrap: bool = True) -> None:
    """Print text for people; on a terminal its lines break between words, but where not `wrap`.

    Raises OSError where standard output takes no more.
    """
    stream = sys.stderr if err else sys.stdout
    print("\n".join(fold(text, _width(stream))) if wrap else text, file=stream)


def tell(text: str, *, err: bool = False, wrap: bool = True) -> None:
    """As `say`, by a command that goes on all the same; `close` says what was not printed."""
    try:
        say(text, err=err, wrap=wrap)
        sys.stdout.flush()
    except OSError as error:
        _unsaid.append(error)


def close() -> None:
    """Write what waits. Raises OSError where standard output did not take all that was said."""
    sys.stdout.flush()
    if _unsaid:
        raise _unsaid[0]


def write_out(data: bytes) -> None:
    """Write a whole file to standard output. Raises OSError."""
    sys.stdout.flush()
    with open(1, "wb", closefd=False) as stream:
        stream.write(data)


def give_up() -> None:
    """Let nothing more of what waits be written, which would fail again when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def page_width() -> int:
    """Columns of what standard output is read on: of its terminal, else as many as most have."""
    return _width(sys.stdout) or PAGE


def fold(text: str, width: int | None) -> Iterator[str]:
    """The lines of a text, each broken between words where it has more columns than there are."""
    for line in text.split("\n"):
        if width is None or _columns(line) <= width:
            yield line
        else:
            yield from _broken(line, width)


def _broken(line: str, width: int) -> Iterator[str]:
    """A line in lines of at most `width` columns, but for longer words, which stay whole."""
    indent = line[: len(line) - len(line.lstrip(" "))]
    part = ""
    for word in line[len(indent) :].split(" "):
        longer = f"{part} {word}" if part else indent + word
        if part and _columns(longer) > width:
            yield part
            longer = indent + INDENT + word
        part = longer
    yield part


def _columns(text: str) -> int:
    """How many columns of a terminal a text takes: letters of East Asia take two."""
    if text.isascii():
        return len(text)
    import unicodedata  # most texts need none

    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))


def _width(stream: TextIO) -> int | None:
    """Columns of a terminal; None for anything else."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):  # no terminal, or not even a file
        return None
