"""The programs that measure still fit what they measure: each can be opened, a few rows run."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import TINY

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(autouse=True)
def _beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)


@pytest.mark.parametrize("name", sorted(file.stem for file in BENCH.glob("*.py")))
def test_a_program_finds_all_that_it_imports(name: str) -> None:
    importlib.import_module(name)


def test_every_part_of_the_memory_bench_is_there() -> None:
    for part in importlib.import_module("memory").PARTS.values():
        module, function = part.split(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_the_encoder_of_the_peers_runs() -> None:
    values = importlib.import_module("peers").encode(importlib.import_module("measured").TINY)
    assert math.isfinite(values["ms"])
    assert values["ms"] > 0


@pytest.mark.parametrize("part", ["encode", "denoise"])
def test_networks_that_are_streamed_compute_the_same_bits(part: str, tmp_path: Path) -> None:
    memory, measured = (importlib.import_module(name) for name in ("memory", "measured"))
    scale = replace(measured.TINY, spec=TINY, sides=(64, 64), quick=True)
    module, function = memory.PARTS[part].split(":")
    sheet = measured.Sheet(tmp_path / "sheet.json")
    getattr(importlib.import_module(module), function)(sheet, scale)
    assert not [row["error"] for row in sheet.rows.values() if "error" in row]
    same = [row["equal"] for row in sheet.rows.values() if "equal" in row]
    assert len(same) >= 3
    assert all(same)
