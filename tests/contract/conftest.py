"""What the tests of this folder share."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from sakuga.commands.cli import main
from servers import RunningServer

sys.path.insert(0, str(Path(__file__).parent))


class Ended(NamedTuple):
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Run:
    """Run `sakuga ARGUMENTS` in this process, in an empty folder, on a text."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object, stdin: str = "") -> Ended:
        monkeypatch.setattr(sys, "argv", ["sakuga", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return Ended(int(end.value.code or 0), out, err)

    return command


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[RunningServer]:
    """A server with the embedded model, for all tests that do it no harm."""
    with RunningServer(tmp_path_factory.mktemp("server") / "store") as running:
        yield running
