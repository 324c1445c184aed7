"""Where the files of a drawing go: named, proven writable before it, at worst kept elsewhere."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from sakuga.errors import OutputExists, RequestError, SakugaError
from sakuga.files.atomic import refuse_existing, try_writing
from sakuga.files.saving import SUFFIXES, kind_of

STDOUT = Path("-")  # for --out: a picture is written to standard output


def picture_paths(out: str | None, default: str, indices: Iterable[int]) -> dict[int, Path]:
    """Where each picture goes, by its index; numbered if there are several.

    out: a file, a folder, which need not be there if its name ends in a slash, or - for
    standard output. default: the name that is taken in a folder. Raises RequestError.
    """
    indices = list(indices)
    if out == str(STDOUT):
        if len(indices) > 1:
            raise RequestError(
                "one picture goes to standard output", f"{len(indices)}", "Name a file or a folder."
            )
        return dict.fromkeys(indices, STDOUT)
    place = Path(out or default)
    if place.is_dir() or (out or "").endswith("/"):
        place = place / default
    if kind_of(place.name) is None:
        ends = ", ".join(SUFFIXES)
        fix = f"Let --out end in one of {ends}, or in / for a folder."
        raise RequestError("a picture must be a PNG, WebP, JPEG or AVIF file", str(place), fix)
    if len(indices) == 1:
        return {indices[0]: place}
    return {index: place.with_stem(f"{place.stem}-{index + 1}") for index in indices}


def prove_writable(path: Path, size: int, *, replace: bool, flag: str) -> None:
    """Make the folder of a file to come, and try a draft of `size` bytes there.

    flag: what named the file. Raises OutputExists, RequestError.
    """
    if path == STDOUT:
        return
    try:
        refuse_existing(path, replace=replace)
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"{flag} must be in a folder that can be made",
            f"{path.parent}: {error.strerror}",
            "Choose another.",
        ) from None
    try:
        try_writing(path, size)
    except OSError as error:
        raise RequestError(
            f"{flag} must be a place that can be written",
            f"{path}: {error.strerror}",
            "Nothing was drawn yet; choose another, or make room.",
        ) from None


def write_or_keep(
    path: Path, write: Callable[[Path], object], suffix: str = ".png"
) -> SakugaError | None:
    """Let `write` write to a path; where that fails, to one in a temporary folder.

    suffix: of its name there, where the path is standard output. Returns the error that says
    where it is then.
    """
    try:
        write(path)
    except (OSError, OutputExists) as error:
        why = "it is there by now" if isinstance(error, OutputExists) else error.strerror
        place = "standard output" if path == STDOUT else path
        return SakugaError(
            "a file must be written whole", f"{why} for {place}", _kept(path, write, suffix)
        )
    return None


def _kept(path: Path, write: Callable[[Path], object], suffix: str) -> str:
    """Keep what could not be written, and say where."""
    name = f"picture{suffix}" if path == STDOUT else path.name
    try:
        kept = Path(tempfile.mkdtemp(prefix="sakuga-")) / name
        write(kept)
    except OSError as error:
        return f"A temporary folder does not take it either: {error.strerror}."
    return f"Nothing was left there; it is kept as {kept}"
