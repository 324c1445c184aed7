"""Kills the processes of a batch at every point there is, and looks at what is left.

    python -m tests.soak [--points 300] [--seed 0]

One process opens the engine and forks for each attempt, so that an attempt costs no start. The
last line says how many points there were, and what was torn, missing, doubled or redone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sakuga.api.engine_spec import EngineSpec
from sakuga.batch.album import Album
from sakuga.batch.item import JobRow
from sakuga.batch.journal import Journal
from sakuga.batch.worker import Worker
from sakuga.engine.engine import Engine

# Where it is killed, and how often that is passed within one attempt.
PLACES = ("leased", "drafted", "renamed", "line", "beat", "step1", "decode", "gemma", "time")
PASSED = 4
ROWS = [
    JobRow(f"row {i}", {"prompt": prompt, "seed": i, "steps": 1, "width": 128, "height": 128})
    for i, prompt in enumerate(("1girl, red_hair", "1boy", "1girl, hat, smile", "2girls"))
]


@dataclass(slots=True)
class BatchTally:
    """What was found. `redone`: pictures begun again after a kill, at most in any round."""

    points: int = 0
    torn: int = 0
    missing: int = 0
    doubled: int = 0
    unequal: int = 0
    redone: float = 0.0
    killed: Counter[str] = field(default_factory=Counter)


def main() -> int:
    """Kill, resume, look; 1 if anything was lost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    torch.set_num_threads(1)  # what is forked has no other threads
    engine = Engine.open(EngineSpec(device="cpu", threads=1))
    tally = BatchTally()
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        right = undisturbed(engine, Path(folder) / "right")
        usual = time.monotonic() - begun
        while tally.points < asked.points:
            round_of_kills(engine, Path(folder) / str(tally.points), right, tally, chance, usual)
    lost = tally.torn + tally.missing + tally.doubled + tally.unequal
    form = {name: getattr(tally, name) for name in BatchTally.__slots__} | {
        "killed": dict(tally.killed)
    }
    sys.stdout.write(json.dumps(form) + "\n")
    return int(lost > 0 or tally.redone > 1)


def undisturbed(engine: Engine, place: Path) -> dict[str, str]:
    """The digest of each picture where nobody is killed, by its file."""
    assert attempt(engine, place, lambda _: None) == 0
    return digests(place)


def digests(place: Path) -> dict[str, str]:
    """The SHA-256 of every picture in a folder."""
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in place.glob("*.png")}


def round_of_kills(
    engine: Engine, place: Path, right: Mapping[str, str], tally: BatchTally, chance: random.Random,
    usual: float,
) -> None:  # fmt: skip
    """Kill attempts at one batch until it is done in spite of that, and look at it."""
    before = tally.points
    while True:
        where, after = chance.choice(PLACES), chance.randrange(PASSED)
        killer = Killer(where, after)
        pid = fork(engine, place, killer.at)
        if where == "time":
            time.sleep(chance.random() * usual)
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status):
            break
        tally.points += 1
        tally.killed[where] += 1
    look(place, right, tally)
    begun = len((place / "begun").read_text(encoding="utf-8").splitlines())
    kills = max(1, tally.points - before)
    tally.redone = max(tally.redone, (begun - len(right)) / kills)


@dataclass(slots=True)
class Killer:
    """Kills its process where it passes a place for the `after`-th time."""

    where: str
    after: int

    def at(self, place: str) -> None:
        if place == self.where:
            self.after -= 1
            if self.after < 0:
                os.kill(os.getpid(), signal.SIGKILL)


def fork(engine: Engine, place: Path, at: Callable[[str], None]) -> int:
    """A process that goes on with a batch; its number."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        os._exit(attempt(engine, place, at))
    finally:
        os._exit(9)


def attempt(engine: Engine, place: Path, at: Callable[[str], None]) -> int:
    """Go on with a batch, and write down which items are begun."""
    place.mkdir(exist_ok=True)

    def told(event: Mapping[str, Any]) -> None:
        if event["event"] == "begun":
            with open(place / "begun", "a", encoding="utf-8") as file:
                file.write(event["id"] + "\n")

    with engine.observed(lambda where, *_: at(where)):
        worker = Worker(engine, Album(place, at), told)
        worker.run(ROWS)
    return 0


def look(place: Path, right: Mapping[str, str], tally: BatchTally) -> None:
    """Count what a batch lost."""
    found = digests(place)
    tally.missing += len(right.keys() - found.keys())
    tally.doubled += len(found.keys() - right.keys())
    tally.unequal += sum(found[name] != right[name] for name in found.keys() & right.keys())
    journal = Journal(place / "journal")
    journal.refresh()
    told = Counter(
        line.partition('"id":"')[2][:16]
        for file in (place / "journal").iterdir()
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines()
        if '"event":"done"' in line and line.rstrip().endswith("}")
    )
    tally.torn += sum(done.file not in found for done in journal.done.values())
    tally.missing += len(right) - len(journal.done)
    tally.doubled += sum(count > 1 for count in told.values())


if __name__ == "__main__":
    sys.exit(main())
