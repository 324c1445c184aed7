"""The programs that measure still fit what they measure: each can be opened, a few rows run."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import TINY, TINY_KIN

from sakuga.checkpoint.folder import open_checkpoint

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


def test_a_random_model_has_the_networks_of_its_kind(tmp_path: Path) -> None:
    random_model = importlib.import_module("random_model")
    for spec in (TINY, TINY_KIN):
        folder = tmp_path / spec.name
        random_model.write_random_model(folder, replace(random_model.TINY, spec=spec))
        assert open_checkpoint(folder).spec.jina == spec.jina
        assert (folder / "tokenizer_2").exists() == (spec.jina is not None)


def test_a_model_is_written_quantised_beside_itself(tmp_path: Path) -> None:
    random_model = importlib.import_module("random_model")
    whole = importlib.import_module("whole")
    plain = tmp_path / "plain"
    random_model.write_random_model(plain, replace(random_model.TINY, spec=TINY))
    for kind, form in whole.QUANTISED.items():
        for _ in range(2):  # one that was cut off is written again
            whole.quantised_copy(plain, tmp_path / kind, kind)
        model = open_checkpoint(tmp_path / kind)
        for name in whole.COMPONENTS:
            stored = {each.form.name for each in getattr(model, name).stored.values()}
            assert stored == {form}
