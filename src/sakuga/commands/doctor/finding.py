"""What the doctor found at one place: green, yellow or red; and all of it as a report."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

import typer

from sakuga.api.codec import plain
from sakuga.errors import SakugaError
from sakuga.printable import shown

GREEN, YELLOW, RED = "green", "yellow", "red"
R = TypeVar("R")

WIDTH = max(map(len, (GREEN, YELLOW, RED)))


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One line of a report: what was looked at, how it is, and what to do about it.

    colour: green, as it should be; yellow, worth knowing; red, no drawing can be trusted. What
    is red names its remedy.
    """

    check: str
    colour: str
    says: str
    remedy: str = ""

    def __post_init__(self) -> None:
        """Refuse a problem without a remedy. Raises ValueError."""
        if self.colour == RED and not self.remedy:
            raise ValueError(f"no remedy for {self.check}: {self.says}")


Diagnoses = Iterator[Diagnosis]
Examination = Generator[Diagnosis, None, R]


def green(check: str, says: str) -> Diagnosis:
    """All is well."""
    return Diagnosis(check, GREEN, says)


def yellow(check: str, says: str, remedy: str = "") -> Diagnosis:
    """It draws, but this is worth knowing."""
    return Diagnosis(check, YELLOW, says, remedy)


def red(check: str, says: str, remedy: str) -> Diagnosis:
    """No drawing can be trusted before this is mended."""
    return Diagnosis(check, RED, says, remedy)


def refused(check: str, error: SakugaError) -> Diagnosis:
    """What sakuga itself would refuse, with its own words."""
    return red(check, f"{error.rule}; got {error.got}", error.fix)


def trouble(check: str, error: Exception) -> Diagnosis:
    """What nobody expected: the check ends, the examination goes on."""
    if isinstance(error, SakugaError):
        return refused(check, error)
    if isinstance(error, OSError):
        return red(check, f"cannot be read: {error}", "Check that it is there and may be read.")
    said = " ".join(str(error).split())[:300]
    if isinstance(error, ImportError):
        fix = "Install it again: pip install --force-reinstall sakuga."
        return red(check, f"a library cannot be imported: {said}", fix)
    return red(
        check, f"the check itself failed: {type(error).__name__}: {said}",
        "Report this line to the makers of sakuga, with the output of --json.",
    )  # fmt: skip


def tell(findings: Diagnoses, *, as_json: bool, colour: bool | None = None) -> bool:
    """Print findings as they come, or as one JSON object at the end; whether none is red.

    colour: None leaves it to whether standard output is a terminal.
    """
    started = time.perf_counter()
    told = []
    for finding in findings:
        told.append(finding)
        if not as_json:
            _print(finding, colour)
    counts = Counter(finding.colour for finding in told)
    seconds = time.perf_counter() - started
    if as_json:
        form = {"healthy": not counts[RED], "seconds": round(seconds, 3), "findings": plain(told)}
        typer.echo(json.dumps(form, indent=2))
    else:
        told_of = [f"{counts[one]} {one}" for one in (GREEN, YELLOW, RED) if counts[one]]
        typer.echo(f"{', '.join(told_of)}; {seconds:.1f} s")
    return not counts[RED]


def _print(finding: Diagnosis, colour: bool | None) -> None:
    """One line, and below it what to do."""
    mark = typer.style(f"{finding.colour:<{WIDTH}}", fg=finding.colour, bold=True)
    typer.echo(f"{mark}  {finding.check:<14} {shown(finding.says)}", color=colour)
    if finding.remedy:
        typer.echo(f"{'':{WIDTH}}  {'':14} -> {shown(finding.remedy)}", color=colour)
