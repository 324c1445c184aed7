"""Reads files with every reader of sakuga, and tells what Python's audit hooks saw meanwhile.

A program, run with an order on standard input (see `tests/contract/test_hostile.py`). Audit hooks
also see what happens in C, and cannot be taken off: an import, a class that a pickle asks for, a
socket, a program, a file that is opened to write, renamed, removed or made.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sakuga.adapters.fit import fit_adapters
from sakuga.adapters.spec import parse_adapter
from sakuga.checkpoint.folder import code_in, open_checkpoint, open_component
from sakuga.commands.convert import convert
from sakuga.commands.inspect import inspect
from sakuga.errors import SakugaError
from sakuga.weights.archive import open_archive
from sakuga.weights.store import Store

HARMLESS = {"builtins.id", "mmap.__new__", "os.listdir", "os.scandir", "sys._getframe"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CODE = (".py", ".pyc", ".so")
TARGETS = {"layers.0.attention.out": (4, 4), "norm": (4,)}  # what the adapters are held against

Reader = Callable[[Path], object]


class Watch:
    """What happened while it was on: anything but reading files that are no code."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note an audit event."""
        if not self.on or event in HARMLESS:
            return
        if event == "open" and not arguments[2] & WRITES and not str(arguments[0]).endswith(CODE):
            return
        self.seen.append(f"{event} {arguments!r}"[:200])


def read_store(store: Store) -> None:
    """Map every tensor."""
    for key in store:
        store.view(key)


def read_model(path: Path) -> None:
    """Read all that drawing reads of a model, but for the weights themselves."""
    checkpoint = open_checkpoint(path)
    for name in ("tokenizer", "tokenizer_2"):
        checkpoint.tokenizer(name)
    checkpoint.vocabulary()


def made_of(path: Path, ending: str = "") -> Path:
    """Where a file would be converted to: a place of its own."""
    return Path(f"made of {path.parent.name} {path.name}{ending}")


# Readers by what a path would pass for. Those that must refuse what is hostile ...
STRICT: dict[str, list[Reader]] = {
    "model": [read_model, lambda path: list(convert(path, made_of(path), "original"))],
    "adapter": [lambda path: fit_adapters([parse_adapter(str(path))], TARGETS)],
    "file": [
        lambda path: read_store(Store.open(path)),
        lambda path: read_store(open_archive(path)),
        lambda path: open_component(path, "vae"),
        lambda path: list(convert(path, made_of(path, ".safetensors"), "original")),
    ],
}
# ... and those that look on, and may say what they see. What is opened is in order.
LOOKING: dict[str, list[Reader]] = {
    "model": [inspect, code_in], "file": [inspect], "opened": [read_model, inspect, code_in]
}  # fmt: skip


def outcome(reader: Reader, path: Path) -> tuple[str, str, float]:
    """How reading ended: the error's class and text, empty if there was none, and CPU seconds."""
    start = time.process_time()
    try:
        reader(path)
    except SakugaError as error:
        return type(error).__name__, str(error), time.process_time() - start
    return "", "", time.process_time() - start


def read_all(readers: Iterable[Reader], path: Path) -> list[tuple[str, str, float]]:
    return [outcome(reader, path) for reader in readers]


def main() -> None:
    """Read what the order on standard input lists, and print what came of it."""
    order = json.load(sys.stdin)
    for kind, path in order["warm"]:  # what is imported late is imported now
        read_all(STRICT.get(kind, []) + LOOKING.get(kind, []), Path(path))
    watch = Watch()
    sys.addaudithook(watch.hook)
    results, looked = {}, {}
    for name, (kind, path) in order["paths"].items():
        watch.on = True
        results[name] = read_all(STRICT.get(kind, []), Path(path))
        looked[name] = read_all(LOOKING.get(kind, []), Path(path))
        watch.on = False
    seen, watch.seen = watch.seen, []
    watch.on = True
    exec(order["provoke"], {})  # what the watch is shown to see
    watch.on = False
    told = {"results": results, "looked": looked, "seen": seen, "provoked": watch.seen}
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
