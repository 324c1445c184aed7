"""`sakuga inspect` and `sakuga convert`, as typed, and drawing from what they write."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sakuga.cli import main
from sakuga.engine import Engine
from sakuga.request import Finished, Picture, Request
from sakuga.weights.convert import GOALS

PROMPT = "<character_1><appearance>red_eyes, blue_hair</appearance></character_1>"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `sakuga ARGUMENTS` in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sakuga", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return command


def drawn(model: Path) -> Picture:
    engine = Engine.open(str(model), device="cpu")
    request = Request(PROMPT, seed=5, steps=2)
    (end,) = (event for event in engine.generate(request) if isinstance(event, Finished))
    return end.result.picture


@pytest.mark.parametrize("layout", GOALS)
def test_every_layout_draws_the_same_picture(layout: str, run: Run, tiny_model: Path) -> None:
    code, said, _ = run("convert", tiny_model, "out", "--layout", layout)
    assert code == 0
    assert said.count(" -> ") == 4
    assert drawn(Path("out")) == drawn(tiny_model)
    code, said, _ = run("inspect", "out")
    assert code == 0
    assert said.count(" bound") > 100


def test_convert_for_programs(run: Run, tiny_model: Path) -> None:
    arguments = ("convert", tiny_model / "vae", "vae.safetensors", "--layout", "single-file")
    code, said, _ = run(*arguments, "--dtype", "float16", "--json")
    assert code == 0
    told = json.loads(said)
    assert told["file"] == "vae.safetensors"
    assert {entry["fate"] for entry in told["report"]["entries"]} == {"cast"}
    assert Path("vae.manifest.json").is_file()
    code, said, error = run(*arguments)
    assert (code, said) == (2, "")
    assert "--force" in error
    assert run(*arguments, "--force")[0] == 0


def test_inspect_for_programs(run: Run, tiny_model: Path) -> None:
    code, said, _ = run("inspect", tiny_model, "--json")
    assert code == 0
    assert {each["component"] for each in json.loads(said)} == {
        "transformer", "text_encoder", "text_encoder_2", "vae",
    }  # fmt: skip


def test_inspect_ends_with_1_where_a_file_cannot_be_used(run: Run, tiny_model: Path) -> None:
    code, said, _ = run("inspect", Path(__file__).parents[2] / "src/sakuga/chibi/judge.safetensors")
    assert code == 1
    assert "problem" in said
    code, _, error = run("inspect", "nowhere")
    assert code == 2
    assert "nowhere" in error


def test_an_unknown_layout_names_the_nearest(run: Run, tiny_model: Path) -> None:
    code, _, error = run("convert", tiny_model, "out", "--layout", "single_file")
    assert code == 2
    assert "'single-file'" in error
    assert not Path("out").exists()
