"""An unchanged prompt runs no encoder, and what is kept has the bits of what would be computed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from engines import open_engine
from sakuga.api.engine_spec import Budget
from sakuga.api.events import Finished, Result, Warned
from sakuga.api.request import Request
from sakuga.engine.engine import Engine

ASK = Request("1girl, blue_hair", seed=5, steps=1, width=64, height=64)
ENCODERS = ("text_encoder", "text_encoder_2")


def opened(model: Path, cache: Path | None, **words) -> Engine:
    return open_engine(model, cache=cache, **words)


def drawn(engine: Engine, ask: Request = ASK) -> Result:
    (result,) = [event.result for event in engine.generate(ask) if isinstance(event, Finished)]
    return result


def loaded(engine: Engine) -> set[str]:
    return set(engine.networks._loaded) & set(ENCODERS)


def test_a_prompt_read_before_loads_no_encoder(tiny_model, tmp_path) -> None:
    first, second = (opened(tiny_model, tmp_path) for _ in range(2))
    fresh = drawn(opened(tiny_model, None))
    assert drawn(first).picture == fresh.picture
    assert loaded(first) == set(ENCODERS)
    assert drawn(second).picture == fresh.picture
    assert loaded(second) == set()
    drawn(second, replace(ASK, prompt="red_eyes"))  # the negative is still known
    assert loaded(second) == set(ENCODERS)


@pytest.mark.parametrize("vram", ["auto", "1GB"])
def test_what_decides_the_bits_decides_what_is_found(tiny_model, tmp_path, vram) -> None:
    drawn(opened(tiny_model, tmp_path, budget=Budget(vram=vram)))
    same = opened(tiny_model, tmp_path, budget=Budget(vram="2GB"))
    drawn(same)
    assert loaded(same) == set()  # where weights lie changes no bit
    other = opened(tiny_model, tmp_path, budget=Budget(vram=vram, weights="int8"))
    drawn(other)
    assert loaded(other) == {"text_encoder"}
    half = opened(tiny_model, tmp_path, dtype="bfloat16")
    drawn(half)
    assert loaded(half) == set(ENCODERS)


def test_another_config_of_the_same_weights_is_another_encoder(tiny_model, tmp_path) -> None:
    drawn(opened(tiny_model, tmp_path / "cache"))
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    file = model / "text_encoder" / "config.json"
    config = json.loads(file.read_text())
    config["sliding_window"] = 3
    file.write_text(json.dumps(config))
    changed = opened(model, tmp_path / "cache")
    drawn(changed)
    assert loaded(changed) == {"text_encoder"}


def test_a_folder_that_cannot_be_written_is_told_and_survived(tiny_model, tmp_path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    events = list(opened(tiny_model, blocked).generate(ASK))
    (warned,) = [event for event in events if isinstance(event, Warned)]
    assert warned.code == "cache"
    assert isinstance(events[-1], Finished)


def test_what_is_not_finite_is_not_kept(tiny_model, tmp_path) -> None:
    engine = opened(tiny_model, tmp_path, dtype="bfloat16", faults="nan@gemma")
    result = drawn(engine)
    assert result.receipt.notes
    again = opened(tiny_model, tmp_path, dtype="bfloat16")
    drawn(again)
    assert loaded(again) == {"text_encoder"}
