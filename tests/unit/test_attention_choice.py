"""Which back-end computes attention: asked for, measured, remembered, and never trusted blindly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sakuga.errors import RequestError
from sakuga.memory import attention
from sakuga.memory.attention import AttentionChoice, AttentionShape, read_times
from sakuga.model.attention import BACKENDS, usable
from sakuga.model.layers import Segments
from sakuga.model.packing import packing_of
from sakuga.model.spec import NEWBIE_3_5B

CPU, CARD = torch.device("cpu"), torch.device("cuda:0")
SHAPE = AttentionShape.of(NEWBIE_3_5B.transformer, (4352, 4136), torch.bfloat16)
TIMES = {"cudnn": 0.744, "flash": 1.038, "flash3": 0.582}


def test_a_cpu_has_no_choice() -> None:
    assert [one.name for one in usable(CPU, torch.float32)] == ["torch"]
    assert AttentionChoice().choose(CPU, SHAPE) == "torch"


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "torch"])
def test_what_cannot_compute_here_is_refused_before_work(name: str) -> None:
    with pytest.raises(RequestError, match=r"it computes on cards alone.*torch"):
        AttentionChoice(name).check(CPU, torch.float32)


def test_a_name_that_nobody_knows_is_refused_with_those_that_are() -> None:
    with pytest.raises(RequestError, match=r"Did you mean .flash."):
        AttentionChoice("flas")
    AttentionChoice("torch").check(CPU, torch.float32)


def test_what_is_asked_for_is_not_measured() -> None:
    assert AttentionChoice("cudnn").choose(CARD, SHAPE) == "cudnn"


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"{}", b'{"cudnn": "fast"}', b'{"cudnn": -1.0}', b'{"magic": 1.0}',
     b'{"cudnn": 1}', b'{"cudnn": NaN}', b"\xff\xfe"],
)  # fmt: skip
def test_a_file_that_holds_anything_else_is_no_measurement(data: bytes) -> None:
    assert read_times(data) is None


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The facts of a card that is not here, and a count of what was measured on it."""
    facts = {"card": "H100", "driver": "580.1", "torch": "2.11", "measured": "0"}

    def measure(*_: object) -> dict[str, float]:
        facts["measured"] = str(int(facts["measured"]) + 1)
        return dict(TIMES)

    here = lambda _: {name: facts[name] for name in ("card", "driver", "torch")}  # noqa: E731
    monkeypatch.setattr(attention, "machine", here)
    monkeypatch.setattr(attention, "measure", measure)
    monkeypatch.setattr(attention, "usable", lambda *_: tuple(BACKENDS.values()))
    return facts


def test_the_fastest_is_measured_once_and_found_again_by_another_process(card, tmp_path) -> None:
    assert AttentionChoice(cache=tmp_path).choose(CARD, SHAPE) == "flash3"
    again = AttentionChoice(cache=tmp_path)
    assert again.choose(CARD, SHAPE) == again.choose(CARD, SHAPE) == "flash3"
    assert card["measured"] == "1"


@pytest.mark.parametrize("fact", ["card", "driver", "torch"])
def test_a_measurement_of_another_machine_is_not_found(card, tmp_path, fact) -> None:
    AttentionChoice(cache=tmp_path).choose(CARD, SHAPE)
    card[fact] += "9"
    AttentionChoice(cache=tmp_path).choose(CARD, SHAPE)
    assert card["measured"] == "2"


def test_a_measurement_that_was_spoiled_is_made_again(card, tmp_path: Path) -> None:
    AttentionChoice(cache=tmp_path).choose(CARD, SHAPE)
    [file] = (tmp_path / "attention").glob("*.json")
    assert json.loads(file.read_text()) == TIMES
    file.write_text('{"flash2": 0.0}')
    assert AttentionChoice(cache=tmp_path).choose(CARD, SHAPE) == "flash3"
    assert card["measured"] == "2"


def test_a_cache_that_cannot_be_written_is_done_without(card, tmp_path: Path) -> None:
    (tmp_path / "attention").write_text("a file where a folder should be")
    assert AttentionChoice(cache=tmp_path).choose(CARD, SHAPE) == "flash3"


def test_a_packing_names_what_computes_each_of_its_packs() -> None:
    packing = packing_of(NEWBIE_3_5B.transformer, (5, 3), [(4, 4), (4, 4)])
    assert {packing.text.backend, packing.image.backend, packing.joint.backend} == {"torch"}

    def choose(segments: Segments) -> str:
        return "flash" if segments.uniform else "cudnn"

    chosen = packing.attending(choose)
    assert (chosen.image.backend, chosen.joint.backend) == ("flash", "cudnn")
    assert chosen.to(CPU).joint.backend == "cudnn"
    assert chosen.joint.starts.tolist() == [0, 9, 16]
