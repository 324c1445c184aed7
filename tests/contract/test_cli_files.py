"""`sakuga inspect` and `sakuga convert`, as typed, and drawing from what they write."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engines import open_engine
from hostile import PROGRAMS, torch_zip
from sakuga.api.events import Finished
from sakuga.api.request import Request
from sakuga.checkpoint.convert import GOALS
from sakuga.commands.cli import main
from sakuga.files.png import Picture

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
    engine = open_engine(model)
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


def test_the_model_that_ships_goes_by_its_name(run: Run) -> None:
    code, said, _ = run("inspect", "chibi")
    assert (code, said.count("  layout ")) == (0, 4)
    code, said, _ = run("convert", "chibi", "out", "--layout", "diffusers")
    assert (code, said.count(" -> ")) == (0, 4)


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


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_conversion_that_fails_tells_of_no_file(
    flags: tuple[str, ...], run: Run, tiny_model: Path
) -> None:
    model = Path(shutil.copytree(tiny_model, "model"))
    state = load_file(model / "vae" / "diffusion_pytorch_model.safetensors")
    state["decoder.conv_in.bias"][0] = float("nan")
    save_file(state, model / "vae" / "diffusion_pytorch_model.safetensors")
    code, said, error = run("convert", model, "out", "--layout", "original", *flags)
    assert (code, said) == (1, "")
    assert "decoder.conv_in.bias" in error
    assert not Path("out").exists()


def test_places_and_names_that_no_system_takes(run: Run, tiny_model: Path) -> None:
    Path("file").write_text("")
    vae = tiny_model / "vae"
    for command in (
        ("inspect", "n" * 5000), ("lora", "show", "n" * 5000), ("inspect", "a\0b"),
        ("convert", "n" * 5000, "out", "--layout", "original"),
        ("convert", vae, "a\0b", "--layout", "original"),
        ("convert", vae, "n" * 5000, "--layout", "original"),
        ("convert", vae, "file/x.safetensors", "--layout", "original"),
    ):  # fmt: skip
        code, said, error = run(*command)
        assert code in (1, 2)
        assert said == ""
        assert error.startswith("sakuga: ")
    assert [path.name for path in Path().iterdir()] == ["file"]


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


def test_a_torch_archive_is_shown_and_converted(run: Run, tiny_model: Path) -> None:
    state = load_file(tiny_model / "vae" / "diffusion_pytorch_model.safetensors")
    torch.save({"state_dict": state, "epoch": 3}, "vae.pt")
    shutil.copy(tiny_model / "vae" / "config.json", "config.json")
    Path("train.py").write_text("raise SystemExit('ran')")
    code, said, _ = run("inspect", "vae.pt")
    assert code == 0
    assert "layout  FLUX autoencoder, diffusers names" in said
    assert "beside  epoch: lies beside 'state_dict'" in said
    code, said, _ = run("convert", "vae.pt", "vae.safetensors", "--layout", "diffusers")
    assert code == 0
    written = load_file("vae.safetensors")
    assert set(written) == set(state)
    assert all(torch.equal(written[key], value) for key, value in state.items())


def test_a_torch_archive_with_a_program_is_refused_by_name(run: Run) -> None:
    torch_zip(Path("dit.pt"), PROGRAMS["os.system"][0])
    for command in (["inspect", "dit.pt"], ["convert", "dit.pt", "out", "--layout", "original"]):
        code, said, error = run(*command)
        assert (code, said) == (1, "")
        assert "'posix.system' at byte" in error
    assert not Path("out").exists()
    assert not Path("ran").exists()


def test_inspect_names_code_that_is_never_read(run: Run, tiny_model: Path) -> None:
    model = Path(shutil.copytree(tiny_model, "model"))
    (model / "text_encoder_2" / "modeling.py").write_text("raise SystemExit('ran')")
    code, said, _ = run("inspect", model)
    assert code == 0
    assert "unread  modeling.py: code, which is never read or run" in said
    code, said, _ = run("inspect", model, "--json")
    assert [each["unread"] for each in json.loads(said) if each["unread"]] == [["modeling.py"]]


def test_an_unknown_layout_names_the_nearest(run: Run, tiny_model: Path) -> None:
    code, _, error = run("convert", tiny_model, "out", "--layout", "single_file")
    assert code == 2
    assert "'single-file'" in error
    assert not Path("out").exists()
