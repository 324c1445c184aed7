"""Findings on a terminal, in a file, or as JSON."""

from __future__ import annotations

import json
import time
from collections import Counter

import typer

from sakuga.api.codec import plain
from sakuga.commands.doctor.finding import GREEN, RED, YELLOW, Diagnosis, Report
from sakuga.printable import shown

WIDTH = max(map(len, (GREEN, YELLOW, RED)))


def tell(findings: Report, *, as_json: bool, colour: bool | None = None) -> bool:
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
