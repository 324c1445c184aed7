"""Progress is shown to people who watch, and to nobody else."""

from __future__ import annotations

import io
import sys

import pytest

from sakuga.api.events import Decoded, Encoded, Planned, Stepped
from sakuga.api.receipt import Plan, TokenCounts
from sakuga.api.request import Request
from sakuga.api.resolved import resolve
from sakuga.commands.meter import open_meter
from sakuga.model.spec import CHIBI

USED = 2_500_000_000
EVENTS = (
    Encoded(TokenCounts(1, 1, 1, 1, 512)), Stepped(1, 3, (), USED), Stepped(3, 3, (), USED),
    Decoded(),
)  # fmt: skip


def planned(limit: int | None) -> Planned:
    request = resolve(Request("1girl"), CHIBI.drawing)
    return Planned(request, Plan("cpu", "AVX2", "float32", 1, 2, limit), "chibi", {})


class Terminal(io.StringIO):
    """A terminal that keeps what was written to it."""

    def isatty(self) -> bool:
        return True


def shown(monkeypatch, stream: io.StringIO, *, quiet: bool, limit: int | None = None) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    with open_meter(quiet=quiet) as meter:
        for event in (planned(limit), *EVENTS):
            meter.show(event)
    return stream.getvalue()


def test_a_watcher_sees_steps_pace_and_memory(monkeypatch) -> None:
    text = shown(monkeypatch, Terminal(), quiet=False)
    for word in ("3/3", "s/step", "2.50 GB"):
        assert word in text
    assert "2.50 of 8.00 GB" in shown(monkeypatch, Terminal(), quiet=False, limit=8 * 10**9)


@pytest.mark.parametrize(
    ("stream", "quiet"), [(io.StringIO(), False), (Terminal(), True)], ids=["pipe", "json"]
)
def test_nobody_else_sees_anything(monkeypatch, stream, quiet) -> None:
    assert shown(monkeypatch, stream, quiet=quiet) == ""
