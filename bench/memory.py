"""Measures what drawing needs of a card: our stages under budgets, and diffusers' beside them.

    python bench/memory.py OUT [--only PART,...] [--minutes 9] [--quick] [--tiny]
    python bench/memory.py OUT --write docs/memory.md

OUT is a folder; each part writes OUT/PART.json, in a process of its own, so that one that fails
takes nothing with it. After --minutes none goes on; what is left is named, to be measured by
another call with the same OUT. --quick leaves out the slow rows, --tiny runs the same code at the
embedded model's size on the CPU. --write makes the tables of the document from what OUT holds.

Weights are random: they decide neither time nor memory. The peers need diffusers on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from measured import REAL, TINY, Sheet
from memory_page import card_of, summary, write_page

PARTS = {
    "rates": "ours:measure_rates",
    "loading": "loading:measure_loading",
    "denoise": "denoise:measure_denoise",
    "budgets": "whole:measure_budgets",
    "again": "whole:measure_again",
    "decode": "ours:measure_decode",
    "encode": "encode:measure_encode",
    "predictions": "whole:measure_predictions",
    "quantised": "whole:measure_quantised",
    "peers": "peers:measure_peers",
}
SECONDS = 300  # a part that takes longer hangs


def main() -> None:
    """Measure each part, then print the short table; or write the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--minutes", type=float, default=9, help="for all parts together")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    scale = replace(TINY if options.tiny else REAL, quick=options.quick)
    if options.part:
        module, name = PARTS[options.part].split(":")
        measure = getattr(importlib.import_module(module), name)
        measure(Sheet(options.out / f"{options.part}.json"), scale)
    elif options.write:
        write_page(options.out, options.write)
    else:
        run_parts(options.only.split(","), sys.argv[1:], options.out, 60 * options.minutes)


def run_parts(names: list[str], arguments: list[str], out: Path, most: float) -> None:
    """Each part in a process of its own, for `most` seconds in all, then the table of all."""
    end, left = time.perf_counter() + most, []
    (out / "machine.json").write_text(json.dumps(card_of(), indent=1))
    for name in names:
        began = time.perf_counter()
        if began >= end:
            left.append(name)
            continue
        command = [sys.executable, __file__, *arguments, "--part", name]
        try:
            wait = min(SECONDS, end - began)
            code = subprocess.run(command, timeout=wait, check=False).returncode
        except subprocess.TimeoutExpired:
            code = -1
            left.append(name)
        ended = "ended" if code == 0 else f"FAILED ({code})"
        print(f"{name} {ended} after {time.perf_counter() - began:.0f} s", flush=True)
    print(summary(out))
    if left:
        print(f"out of time, to be measured by another call: --only {','.join(left)}")


if __name__ == "__main__":
    main()
