"""The standard streams as a command may find them: closed, full, or a terminal of some width."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

INDENT = "  "  # before what goes on on the next line of a terminal


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


def say(text: str, *, err: bool = False) -> None:
    """Print text for people; on a terminal its lines break between words.

    Raises OSError where standard output takes no more.
    """
    stream = sys.stderr if err else sys.stdout
    print("\n".join(_wrapped(text, stream)), file=stream)


def tell(text: str, *, err: bool = False) -> None:
    """As `say`, by a command that goes on all the same; how it ends says what was not printed."""
    with contextlib.suppress(OSError):
        say(text, err=err)


def write_out(data: bytes) -> None:
    """Write a whole file to standard output. Raises OSError."""
    sys.stdout.flush()
    with open(1, "wb", closefd=False) as stream:
        stream.write(data)


def give_up() -> None:
    """Let nothing more of what waits be written, which would fail again when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _wrapped(text: str, stream: TextIO) -> Iterator[str]:
    """The lines of a text, each broken between words where the stream is a narrower terminal."""
    width = _width(stream)
    for line in text.split("\n"):
        if width is None or len(line) <= width:
            yield line
            continue
        import textwrap  # only terminals need it

        start = line[: len(line) - len(line.lstrip())]
        yield from textwrap.wrap(
            line, width, subsequent_indent=start + INDENT,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip


def _width(stream: TextIO) -> int | None:
    """Columns of a terminal; None for anything else."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):  # no terminal, or not even a file
        return None
