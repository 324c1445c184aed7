"""How fast a batch is: against `draw` in a loop, one warm engine, and two processes on a folder.

    taskset -c 0,1 python bench/batch.py --items 60

Every figure is of the embedded model with its own settings, one line each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sakuga.api.engine_spec import EngineSpec
from sakuga.api.events import Finished
from sakuga.api.request import Request
from sakuga.engine.engine import Engine

COMMAND = (sys.executable, "-m", "sakuga")
CPU = ("--device", "cpu")


def timed(*commands: list[str], cores: list[int] | None = None) -> float:
    """Seconds that commands take that run side by side, each bound to one of `cores`."""
    began = time.perf_counter()
    running = []
    for i, one in enumerate(commands):
        bound = [] if cores is None else ["taskset", "-c", str(cores[i])]
        running.append(subprocess.Popen([*bound, *one], stdout=subprocess.DEVNULL))
    assert all(one.wait() == 0 for one in running)
    return time.perf_counter() - began


def job(folder: Path, items: int) -> Path:
    """A job of so many prompts."""
    file = folder / f"job{items}.txt"
    file.write_text("".join(f"1girl, red_hair, smile, {i}\n" for i in range(items)))
    return file


def warm(items: int) -> float:
    """Seconds that one open engine draws, one picture after the other, without its start."""
    engine = Engine.open(EngineSpec(device="cpu"))
    began = 0.0
    for i in range(-1, items):  # the first loads the weights
        if i == 0:
            began = time.perf_counter()
        for event in engine.generate(Request(f"1girl, red_hair, smile, {i}", seed=i + 1)):
            if isinstance(event, Finished):
                assert event.result.png
    return time.perf_counter() - began


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=60)
    parser.add_argument("--loop", type=int, default=8, help="of which are drawn by draw")
    parser.add_argument("--shared", type=int, default=200)
    asked = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = job(folder, asked.items)
        spent = sum(
            timed([*COMMAND, "draw", f"1girl, {i}", *CPU, "--out", str(folder / f"{i}.png")])
            for i in range(asked.loop)
        )
        loop = spent / asked.loop * asked.items
        print(f"draw in a loop: {loop:.1f} s for {asked.items}, from {asked.loop}", flush=True)
        one = warm(asked.items)
        print(f"one warm engine, {len(cores)} threads: {one:.1f} s without its start", flush=True)
        both = timed([*COMMAND, "batch", str(rows), *CPU, "--out", str(folder / "a")])
        print(
            f"batch: {both:.1f} s; x{loop / both:.2f} of the loop, x{one / both:.2f} of the engine"
        )
        sys.stdout.flush()
        rows = job(folder, asked.shared)
        each = [*COMMAND, "batch", str(rows), *CPU, "--workers", "1", "--threads", "1", "--out"]
        alone = timed([*each, str(folder / "b")], cores=cores)
        shared = timed(*[[*each, str(folder / "c")]] * 2, cores=cores)
        drawn = len(list((folder / "c").glob("*.png")))
        print(f"{drawn} of {asked.shared} by one: {alone:.1f} s, by two: {shared:.1f} s, "
              f"x{alone / shared:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
