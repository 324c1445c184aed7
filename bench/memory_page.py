"""From the sheets of `bench/memory.py` to tables: a short one for a terminal, a page for docs."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from sakuga.commands.plan import ARTICLE

Row = Mapping[str, Any]
# What the article's table holds of one picture of 1024x1024, where everything is resident; ours is
# the peak of the stage that uses the network, since the others are not there then.
MODULES = (
    ("DiT", "8.2 GB", "denoise_gib"),
    ("Jina CLIP", "3.1 GB", "jina_gib"),
    ("Gemma", "missing there", "gemma_gib"),
    ("VAE", "2.0 GB", "decode_gib"),
    ("in all", "15.0 GB", "peak_gib"),
)
FORMATS_HEAD = """\
## Storage formats on the embedded model

What each format of the matrices of transformer and Gemma costs the pictures of the embedded
model (`python bench/formats.py`), on the CPU in float32: bytes, time, PSNR against float32 from
the same seeds, and how often the judge finds the attributes bound. Times are the quickest of
three in turns on a machine that others used too.

"""
PREDICTED = {
    "predictions": "Predicted and measured peaks",
    "quantised": "Predicted and measured peaks of files that are quantised",
}
WARM = 3  # percent that a warm request may take beyond the warm one before it
Sheets = Mapping[str, Mapping[str, Row]]

SHOWN = ("ms", "peak_gib", "planned_gib", "seconds", "step_ms", "identical", "gb_per_s",
         "tflop_per_s", "ledger_gib", "over_bound", "error")  # fmt: skip
INTRODUCTION = """\
# Memory

What drawing needs of a card, measured. This page is written by `python bench/memory.py OUT
--write docs/memory.md` from what it measured on one kind of machine; no figure is typed by
hand. Weights are random and of the real size, which decides neither time nor memory. GB is 10^9
bytes, GiB 2^30. A peak is torch's `max_memory_allocated`; the device holds its context and
libraries besides.
"""


def card_of() -> dict[str, str]:
    """The machine and the versions that figures belong to."""
    on_card = torch.cuda.is_available()
    found = {
        "card": torch.cuda.get_device_name() if on_card else "none: the CPU stands in for a card",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    for name in ("transformers", "diffusers", "triton"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def read_sheets(out: Path) -> dict[str, dict[str, Row]]:
    """What each part measured, by its name."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(out.glob("*.json"))}


def summary(out: Path) -> str:
    """Every row with its main figures, one line each."""
    lines = []
    for part, rows in read_sheets(out).items():
        if part == "machine":
            lines.append(", ".join(f"{name} {value}" for name, value in rows.items()))
            continue
        for name, row in rows.items():
            found = (f"{key} {row[key]}" for key in SHOWN if row.get(key) is not None)
            lines.append(f"{part:12.12} {name:54.54} {'  '.join(found)[:160]}")
    lines.append(f"worst prediction: {worst(read_sheets(out))}")
    return "\n".join(lines)


def worst(sheets: Sheets) -> str:
    """How far predicted peaks are from measured ones, over all settings."""
    errors = [
        (100 * (row["planned_gib"] / row["peak_gib"] - 1), name)
        for part in PREDICTED
        for name, row in sheets.get(part, {}).items()
        if row.get("peak_gib")
    ]
    if not errors:
        return "none measured"
    (low, under), (high, over) = min(errors), max(errors)
    return f"{low:+.2f}% ({under}) to {high:+.2f}% ({over}) over {len(errors)} settings"


def write_page(out: Path, page: Path) -> None:
    """Write the document."""
    sheets = read_sheets(out)
    machine = ", ".join(f"{name} {value}" for name, value in sheets.get("machine", {}).items())
    parts = [INTRODUCTION, f"Measured on: {machine}.\n"]
    notes = out / "notes.md"  # what a reader must know of these sheets, if anything
    if notes.is_file():
        parts.append(notes.read_text(encoding="utf-8"))
    parts += [
        section("Rates of this card", sheets, "rates",
                ("gb_per_s", "tflop_per_s", "gib", "bytes_per_head_and_token", "plain_bytes",
                 "with_bias_bytes")),
        section("Denoising, both sides of the guidance: one evaluation of a run", sheets, "denoise",
                ("ms", "spread_ms", "peak_gib", "device_gib", "gb_per_s", "bound_ms", "over_bound",
                 "over_resident", "hidden", "equal", "relative_error", "lending_s",
                 "pinned_gib")),
        hiding(sheets),
        section("Encoding a prompt of 256 tokens and a negative of 40", sheets, "encode",
                ("ms", "spread_ms", "peak_gib", "device_gib", "equal")),
        section("Decoding", sheets, "decode",
                ("ms", "spread_ms", "peak_gib", "ledger_gib", "max_level", "within_1",
                 "identical", "from_float32")),
        section("The same by diffusers and transformers", sheets, "peers",
                ("ms", "spread_ms", "peak_gib", "device_gib")),
        section("Loading all four networks from a warm cache", sheets, "loading",
                ("seconds", "gb_per_s", "over_slower", "anonymous_gib")),
        section("Whole pictures", sheets, "budgets",
                ("peak_gib", "planned_gib", "gemma_gib", "denoise_gib", "decode_gib",
                 "reserved_gib", "planned_reserved_gib", "retries", "seconds", "planned_s",
                 "step_ms", "max_level", "identical", "notes")),
        beside_article(sheets),
        section("One request after the other", sheets, "again",
                ("first_s", "second_s", "ratios", "warm_over_warm", "grown_bytes")),
        one_after_other(sheets),
        *(section(title, sheets, part,
                  ("planned_gib", "peak_gib", "gemma_error_%", "jina_error_%", "denoise_error_%",
                   "decode_error_%", "reserved_gib", "planned_reserved_gib", "retries", "notes"))
          for part, title in PREDICTED.items()),
    ]  # fmt: skip
    if any(sheets.get(part) for part in PREDICTED):
        parts.append(f"Predicted peaks against measured ones: {worst(sheets)}.\n")
    formats = out / "formats.md"
    if formats.is_file():
        parts.append(FORMATS_HEAD + formats.read_text())
    page.write_text("\n".join(filter(None, parts)), encoding="utf-8")


def hiding(sheets: Sheets) -> str:
    """From which size on streaming costs next to nothing."""
    rows = {name.split(",")[0]: row for name, row in sheets.get("denoise", {}).items()
            if "hidden" in row and name.endswith("parts 1")}  # fmt: skip
    if not rows:
        return ""
    hidden = [name for name, row in rows.items() if row["hidden"]]
    shown = [f"{name} ({row['over_resident']:.2f} times the time of blocks that stay)"
             for name, row in rows.items() if not row["hidden"]]  # fmt: skip
    return (
        f"Computing takes longer than copying, and hides it, at: {', '.join(hidden) or 'none'}.\n"
        f"It does not at: {', '.join(shown) or 'none of these'}.\n"
    )


def one_after_other(sheets: Sheets) -> str:
    """What the rows of requests in a row say, and which of them miss what is asked."""
    rows = sheets.get("again", {})
    more = {name: 100 * (row["warm_over_warm"] - 1) for name, row in rows.items()
            if "warm_over_warm" in row}  # fmt: skip
    if not more:
        return ""
    missed = [name for name, percent in more.items() if percent > WARM]
    said = ", ".join(f"{percent:+.2f}% ({name})" for name, percent in more.items())
    ended = f"missed by: {', '.join(missed)}" if missed else "all keep it"
    return (
        "Every engine draws one request to warm up, then these two; each has its own prompt.\n"
        f"The median of the second over the first: {said}.\n"
        f"Asked is at most +{WARM:.2f}%; {ended}.\n"
    )


def beside_article(sheets: Sheets) -> str:
    """What an article of 2026-02 says of this model on a 16 GB card, and ours within as much."""
    rows = sheets.get("budgets", {})
    lines = [
        "## Beside what an article says of a 16 GB card\n",
        table_line(["", "the article", "measured within 16 GB"]),
        table_line(["---"] * 3),
    ]
    for (side, number), said in ARTICLE.items():
        row = rows.get(f"16GB {side} x{number}", {})
        got = f"yes, {gigabytes(row['peak_gib'])}" if "peak_gib" in row else "not measured"
        lines.append(table_line([f"{side}x{side}, batch {number}", said, got]))
    one = rows.get("16GB 1024 x1", {})
    for title, said, key in MODULES:
        got = gigabytes(one[key]) if key in one else "not measured"
        lines.append(table_line([title, said, got]))
    return "\n".join(lines) + "\n"


def gigabytes(gib: float) -> str:
    """A size as the article gives it."""
    return f"{gib * 2**30 / 1e9:.1f} GB"


def section(title: str, sheets: Sheets, part: str, columns: tuple[str, ...]) -> str:
    """One table; columns that no row fills are left out, and a row that failed says why."""
    found = sheets.get(part, {})
    rows = {name: row for name, row in found.items() if {"error", *columns} & set(row)}
    if not rows:
        return f"## {title}\n\nNot measured in this run.\n"
    shown = [name for name in columns if any(row.get(name) is not None for row in rows.values())]
    lines = [f"## {title}\n", table_line(["", *(heading(name) for name in shown)])]
    lines.append(table_line(["---", *["--:"] * len(shown)]))
    for name, row in rows.items():
        cells = [cell(row.get(column)) for column in shown]
        if "error" in row:
            cells[:1] = [f"failed: {row['error'].splitlines()[0][:120]}"]
        lines.append(table_line([name, *cells]))
    return "\n".join(lines) + "\n"


def heading(name: str) -> str:
    """A key as the head of a column: its unit behind a comma."""
    words = name.split("_")
    if name.endswith("_per_s"):
        return {"gb_per_s": "GB/s", "tflop_per_s": "TFLOP/s"}[name]
    unit = {"gib": "GiB", "ms": "ms", "s": "s"}.get(words[-1])
    return f"{' '.join(words[:-1])}, {unit}" if unit and words[:-1] else unit or " ".join(words)


def cell(value: object) -> str:
    """A value as people read it."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(cell(one) for one in value)
    return f"{value:,.6g}" if isinstance(value, float) else f"{value}"


def table_line(cells: list[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"
