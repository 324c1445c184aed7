"""The document of the speed bench, made from its figures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Rows = Mapping[str, Mapping[str, Any]]
INTRODUCTION = """# Speed

One evaluation of the transformer at the real size: random weights in bfloat16, the pair of
guidance, 256 and 40 tokens of text. Medians in milliseconds, all rows in one process on one card.
Written by `python bench/speed.py OUT --write docs/speed.md`; how is said there.
"""


def write_speed(rows: Rows, page: Path) -> None:
    """Write the tables of all that was measured."""
    parts = [INTRODUCTION, machine(rows["machine"]), evaluations(rows), shares(rows), errors(rows)]
    page.write_text("\n".join(part for part in parts if part), encoding="utf-8")


def machine(found: Mapping[str, Any]) -> str:
    """The card and the versions, one line."""
    return "Measured on: " + ", ".join(f"{name} {value}" for name, value in found.items()
                                       if name != "took_s") + ".\n"  # fmt: skip


def evaluations(rows: Rows) -> str:
    """A table of evaluations, each against torch's operations at the same size."""
    lines = ["## Evaluations\n", "| what | ms | against torch's | first call | peak GiB |"]
    lines.append("|---|---|---|---|---|")
    for name, row in rows.items():
        found = re.match(r"(?:ours|diffusers \w+) (\d+ x\d+)", name)
        if found is None:
            continue
        if "ms" not in row:
            lines.append(f"| {name} | {row.get('error', row.get('skipped', ''))[:80]} | | | |")
            continue
        base = rows.get(f"ours {found[1]}, torch, torch", {}).get("ms")
        ratio = f"{row['ms'] / base:.3f}" if base else ""
        peak, first = row.get("peak_gib", ""), row.get("first_ms", "")
        lines.append(f"| {name} | {row['ms']} | {ratio} | {first} | {peak} |")
    return "\n".join(lines) + "\n"


def shares(rows: Rows) -> str:
    """Where the time of one evaluation goes."""
    found = {name: rows[name] for name in ("shares, torch", "shares, kernels") if name in rows}
    if not found or any("skipped" in row or "error" in row for row in found.values()):
        return ""
    lines = ["## Where the time goes\n", "Milliseconds of kernels in one evaluation.\n"]
    lines += ["| kind | torch's operations | our kernels |", "|---|---|---|"]
    kinds = [kind for kind in found["shares, torch"] | found["shares, kernels"] if kind != "took_s"]
    for kind in kinds:
        cells = " | ".join(str(row.get(kind, 0)) for row in found.values())
        lines.append(f"| {kind} | {cells} |")
    return "\n".join(lines) + "\n"


def errors(rows: Rows) -> str:
    """What rounding costs."""
    row = rows.get("errors", {})
    if "ratio" not in row:
        return ""
    return (
        "## Errors\n\n"
        f"Velocities against float32, the mean of {row['inputs']} fresh inputs: torch's operations "
        f"{row['torch']:.2e}, our kernels {row['kernels']:.2e}, {row['ratio']:.2f} times as much.\n"
    )
