"""`sakuga doctor`, as people and programs use it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sakuga.commands.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def doctor(monkeypatch, capsys) -> Run:
    """Run `sakuga doctor ARGUMENTS`: (exit code, stdout, stderr)."""

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sakuga", "doctor", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return command


@pytest.fixture
def broken(tiny_model: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "broken"))
    os.truncate(folder / "vae" / "diffusion_pytorch_model.safetensors", 1000)
    return folder


def test_a_sound_model_ends_with_zero(doctor, tiny_model) -> None:
    code, out, err = doctor(str(tiny_model), "--device", "cpu")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].startswith("green   python")
    assert any(line.startswith("green   drawing        32x32, 1 step on cpu") for line in lines)
    assert re.fullmatch(r"\d+ green(, \d+ yellow)?; [\d.]+ s", lines[-1])
    assert "\x1b" not in out  # no colours where nobody sees them


def test_a_broken_one_with_one_and_a_remedy(doctor, broken) -> None:
    code, out, err = doctor(str(broken), "--device", "cpu")
    lines = out.splitlines()
    (at,) = (i for i, line in enumerate(lines) if line.startswith("red "))
    assert (code, err) == (1, "")
    assert lines[at].startswith("red     vae")
    assert lines[at + 1].strip() == "-> Download or convert the file again."
    assert "1 red; " in lines[-1]


def test_json_is_one_object(doctor, tiny_model, broken) -> None:
    code, out, _ = doctor(str(tiny_model), "--device", "cpu", "--no-draw", "--scan", "--json")
    form = json.loads(out)
    assert (code, form["healthy"]) == (0, True)
    assert {tuple(one) for one in form["findings"]} == {("check", "colour", "says", "remedy")}
    assert "drawing" not in {one["check"] for one in form["findings"]}
    code, out, _ = doctor(str(broken), "--json", "--device", "cpu")
    form = json.loads(out)
    assert (code, form["healthy"]) == (1, False)
    assert [one["check"] for one in form["findings"] if one["colour"] == "red"] == ["vae"]


@pytest.mark.parametrize(
    "arguments",
    [["nowhere"], ["--device", "cuda:77", "--no-draw"], ["--dtype", "float8", "--no-draw"]],
    ids=" ".join,
)
def test_what_cannot_be_is_a_red_line(doctor, arguments) -> None:
    code, out, err = doctor(*arguments)
    assert (code, err) == (1, "")
    assert re.search(r"^red +(model|torch) .*\n +-> \w", out, re.MULTILINE)


def test_what_needs_no_torch_is_told_before_it_is_imported(tiny_model) -> None:
    script = (
        "import sys\n"
        "from sakuga.commands.doctor.examine import Visit, examine\n"
        "seen = []\n"
        "for finding in examine(Visit(sys.argv[1], device='cpu', draw=False)):\n"
        "    if 'torch' in sys.modules:\n"
        "        break\n"
        "    seen.append(finding.check)\n"
        "print(*seen)\n"
    )
    run = [sys.executable, "-c", script, str(tiny_model)]
    said = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    assert said[-3:] == ["tokenizer", "tokenizer_2", "hashes"]


def without_torch(*arguments: str) -> list[str]:
    """A command line that runs the doctor where torch cannot be imported, which is quick."""
    script = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        f"sys.argv = ['sakuga', 'doctor', *{arguments!r}]\n"
        "from sakuga.commands.cli import main\n"
        "main()\n"
    )
    return [sys.executable, "-c", script]


def test_without_torch_it_says_what_to_install(tiny_model) -> None:
    run = without_torch(str(tiny_model))
    said = subprocess.run(run, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (1, "")
    problem = r"^red +torch +a library cannot be imported.*\n +-> Install"
    assert re.search(problem, said.stdout, re.MULTILINE)
    assert re.search(r"^green +transformer", said.stdout, re.MULTILINE)


@pytest.mark.parametrize(("wish", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_for_a_terminal_that_wants_them(wish, coloured) -> None:
    pty = pytest.importorskip("pty")
    main_end, other_end = pty.openpty()
    run = without_torch("nowhere")
    subprocess.run(run, stdout=other_end, env={**os.environ, **wish}, check=False)
    os.close(other_end)
    said = os.read(main_end, 1 << 16)
    os.close(main_end)
    assert b"nowhere" in said
    assert (b"\x1b[31" in said) is coloured
