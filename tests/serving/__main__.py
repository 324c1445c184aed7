"""Each promise of a server with a number, measured: a line each, exit 1 if one did not hold."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from serving import faults, strangers, times

Line = tuple[str, str, bool]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name, usual in (("kills", 20), ("cancels", 100), ("cases", 2000), ("flood", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--soak", type=float, default=0.0, help="minutes")
    asked = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as stores:
        for lines in _all(asked, Path(stores)):
            for name, told, held in lines():
                print(f"{'ok  ' if held else 'BAD '} {name}: {told}", flush=True)
                bad += not held
    print("all held" if not bad else f"{bad} did not hold")
    return int(bad > 0)


def _all(asked: argparse.Namespace, stores: Path) -> Iterator[Callable[[], Iterator[Line]]]:
    yield lambda: times.overheads(stores / "times", 60)
    yield lambda: times.flood(stores / "flood", asked.flood)
    yield lambda: faults.cancels(stores / "cancels", asked.cancels)
    yield lambda: faults.kills(stores / "kills", asked.kills)
    yield lambda: strangers.clients(stores / "clients", asked.folder)
    yield lambda: strangers.cases(stores / "cases", asked.folder, asked.cases)
    if asked.soak:
        yield lambda: faults.soak(stores / "soak", asked.soak)


sys.exit(main())
