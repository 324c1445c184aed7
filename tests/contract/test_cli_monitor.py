"""`sakuga monitor`, as typed; without a card, what it says instead."""

from __future__ import annotations

import json
import sys
from functools import partial

import pytest

from sakuga.commands.cli import main
from sakuga.memory.monitor import HEADER, CardMemory

GIB = 2**30


def has_driver() -> bool:
    pynvml = pytest.importorskip("pynvml")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    pynvml.nvmlShutdown()
    return True


@pytest.fixture
def monitor(run):
    return partial(run, "monitor")


def test_a_card_is_a_line_as_nvidia_smi_writes_it() -> None:
    card = CardMemory(0, "NVIDIA GeForce RTX 4060 Ti", 3 * GIB // 2, 14 * GIB, 16 * GIB)
    line = "0, NVIDIA GeForce RTX 4060 Ti, 1536 MiB, 14336 MiB, 16384 MiB"
    assert str(card) == line
    assert len(HEADER.split(", ")) == len(line.split(", "))


def test_it_says_what_to_install(monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it could not be imported
    monkeypatch.setattr(sys, "argv", ["sakuga", "monitor"])
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    assert "no nvidia-ml-py" in err
    assert "pip install 'sakuga[monitor]'" in err


def test_without_a_driver_it_says_so(monitor) -> None:
    if has_driver():
        pytest.skip("needs a machine without NVIDIA's driver")
    said = monitor("--json")
    assert (said.returncode, said.stdout) == (2, "")
    assert "'nvml shared library not found' from NVIDIA's driver" in said.stderr
    assert "Traceback" not in said.stderr


def test_with_a_card_it_prints_used_and_free(monitor) -> None:
    if not has_driver():
        pytest.skip("needs NVIDIA's driver")
    said = monitor("--count", "2", "--interval", "0.1", "--json")
    ticks = [json.loads(line) for line in said.stdout.splitlines()]
    assert len(ticks) == 2
    for card in (card for tick in ticks for card in tick):
        assert 0 < card["used"] + card["free"] <= card["total"]
    plain = monitor("--count", "1").stdout.splitlines()
    assert (plain[0], len(plain)) == (HEADER, 1 + len(ticks[0]))


@pytest.mark.parametrize("arguments", [("--interval", "0"), ("--count", "0")])
def test_what_makes_no_sense_is_refused(monitor, arguments) -> None:
    assert monitor(*arguments).returncode == 2
