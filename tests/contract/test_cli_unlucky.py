"""The command where things go wrong around it: places, streams, interrupts, odd arguments."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import sakuga
from sakuga.api.engine_spec import Budget, EngineSpec
from sakuga.api.request import Request
from sakuga.commands.cli import main
from sakuga.commands.places import write_or_keep
from sakuga.errors import RequestError

Run = Callable[..., tuple[int, str, str]]
ROOT_WRITES_ANYWHERE = pytest.mark.skipif(
    not Path("/proc/self").is_dir(), reason="needs a place nobody can write"
)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Run:
    """Run `sakuga ARGUMENTS` in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sakuga", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return command


def started(*arguments: str, **given) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "sakuga", *arguments], **given)


@ROOT_WRITES_ANYWHERE
@pytest.mark.parametrize("flag", ["--out", "--memory-report"])
def test_a_place_is_proven_before_anything_is_drawn(run, tiny_model, flag) -> None:
    place = "/proc/x.png" if flag == "--out" else "/proc/report"
    begun = time.perf_counter()
    code, out, err = run("draw", "1girl", "--model", str(tiny_model), "--steps", "200", flag, place)
    assert (code, out) == (2, "")
    assert err.startswith(f"sakuga: {flag} must be ")
    assert "Nothing was drawn yet" in err
    assert time.perf_counter() - begun < 60
    assert os.listdir() == []


def test_what_cannot_be_written_is_kept_elsewhere(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    error = write_or_keep(Path("/proc/a.png"), lambda path: path.write_bytes(b"picture"))
    assert error is not None
    assert error.fix.startswith("Nothing was left there; it is kept as ")
    kept = Path(error.fix.removeprefix("Nothing was left there; it is kept as ").rstrip("."))
    assert (kept.name, kept.read_bytes()) == ("a.png", b"picture")
    assert kept.is_relative_to(tmp_path)


def test_a_folder_is_made_and_long_names_are_written(run, tiny_model) -> None:
    draw = ("draw", "1girl", "--model", str(tiny_model), "--steps", "1", "--seed", "3", "--out")
    assert run(*draw, "new/folder/")[0] == 0
    long = "n" * 251 + ".png"
    assert run(*draw, long)[0] == 0
    assert sorted(os.listdir()) == ["new", long]
    assert os.listdir("new/folder") == ["sakuga-3.png"]


def test_a_picture_goes_to_standard_output(tiny_model, tmp_path) -> None:
    with (tmp_path / "o.png").open("wb") as out:
        ended = started("draw", "1girl", "--model", str(tiny_model), "--steps", "1", "--out", "-",
                        stdout=out, stderr=subprocess.PIPE)  # fmt: skip
        _, err = ended.communicate(timeout=120)
    assert ended.returncode == 0
    assert err.startswith(b"standard output")
    with Image.open(tmp_path / "o.png") as image:
        assert image.size == (64, 64)


STREAMS = ("2>&-", ">&-", "> /dev/full", "2> /dev/full", "<&-")
DRAW = "draw 1girl --steps 1 --out a.png"


@pytest.mark.parametrize(
    ("command", "shell"),
    [
        *(("lint '1girl, smile'", shell) for shell in STREAMS),
        (DRAW, ">&-"),
        *(pytest.param(DRAW, shell, marks=pytest.mark.long) for shell in STREAMS if shell != ">&-"),
    ],
)
def test_no_stream_ends_in_a_traceback(tiny_model, tmp_path, shell: str, command: str) -> None:
    line = f"'{sys.executable}' -m sakuga {command} --model '{tiny_model}' {shell}"
    ended = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, capture_output=True, timeout=120, check=False
    )
    assert b"Traceback" not in ended.stdout + ended.stderr
    if command.startswith("draw"):
        assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize("flags", ["", "--json"])
def test_what_standard_output_did_not_take_is_said_at_the_end(
    tiny_model, tmp_path, flags: str
) -> None:
    line = (
        f"'{sys.executable}' -m sakuga draw 1girl --steps 1 --out a.png {flags} "
        f"--model '{tiny_model}' > /dev/full"
    )
    ended = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, capture_output=True, timeout=120, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.decode().endswith("No space left on device for standard output.\n")
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize("wait", [0.0, 0.05, 0.1, 0.2, 0.4])
def test_an_early_ctrl_c_ends_in_a_sentence(tmp_path, wait: float) -> None:
    """From the first import of ours on."""
    script = (
        "import sakuga.__main__ as m, sys; print(flush=True); sys.argv[1:] = ['plan']; m.main()"
    )
    begun = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert begun.stdout is not None
    begun.stdout.readline()
    time.sleep(wait)
    begun.send_signal(signal.SIGINT)
    _, err = begun.communicate(timeout=60)
    assert b"Traceback" not in err
    assert begun.returncode in (0, 130)


def test_no_message_sends_anybody_to_a_size_at_the_edge(run) -> None:
    code, _, err = run("draw", "1girl", "--size", "1024")
    assert code == 2
    assert err.endswith("got 1024. Leave it out for the model's own, 256x256.\n")
    assert run("draw", "1girl", "--size", "250")[2].endswith("The nearest is 256.\n")
    assert run("draw", "1girl", "--size", "510")[2].endswith("The nearest is 512.\n")
    # 448 can be drawn, and was never learned.
    assert "256x256" in run("draw", "1girl", "--size", "450")[2]


def test_a_size_that_a_model_was_not_trained_on_is_told(run) -> None:
    code, _, err = run("draw", "1girl", "--size", "128", "--steps", "1")
    assert code == 0
    assert "not trained on 128x128: figures may repeat" in err
    assert "The nearest size that it was trained on is 192x192" in " ".join(err.split())
    assert "trained" not in run("draw", "1girl", "--steps", "1", "--out", "b.png")[2]
    wide = ("--size", "384x256", "--steps", "1", "--out", "c.png")
    assert "trained" not in run("draw", "1girl", *wide)[2]


def test_a_text_without_end_is_refused_unless_it_is_asked_for(run, tiny_model) -> None:
    text = "red, " * 12_000
    Path("p.txt").write_text(text)
    begun = time.perf_counter()
    code, _, err = run("draw", "p.txt", "--model", str(tiny_model), "--steps", "1")
    assert code == 2
    assert "tokens, where" in err
    assert "--long" in err
    assert time.perf_counter() - begun < 60
    assert os.listdir() == ["p.txt"]
    unread = ("--negative", text, "--guidance", "1", "--steps", "1", "--out", "a.png")
    assert run("draw", "red", "--model", str(tiny_model), *unread)[0] == 0


def test_lint_and_format_take_text_as_draw_does(run) -> None:
    assert run("lint", "1girl")[0] == 0
    assert run("format", "a ,b")[1] == "a ,b\n"
    code, _, err = run("lint", "missing.xml")
    assert code == 2
    assert "looks like a path" in err


def test_notes_are_counted_before_a_drawing(run, tiny_model) -> None:
    prompt = "<character_1><n>a</n><pose>x</pose><hat>y</hat></character_1>"
    Path("p.xml").write_text(prompt)
    _, _, err = run("draw", "p.xml", "--model", str(tiny_model), "--steps", "1", "--out", "a.png")
    assert err.endswith("notes; `sakuga lint p.xml` tells.\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize("amount", ["16", "4000"])
def test_a_bare_number_of_bytes_is_asked_about(run, amount: str) -> None:
    code, _, err = run("plan", "--vram", amount)
    assert code == 2
    assert "has a unit" in err
    assert "Did you mean" in err


def test_a_picture_is_no_prompt(run) -> None:
    Image.new("RGB", (300, 300)).save("a.png", compress_level=0)
    for command in ("draw", "lint", "format"):
        code, _, err = run(command, "a.png")
        assert code == 2
        assert "a picture. Draw it again: `sakuga draw --from a.png`" in err


@pytest.mark.parametrize("request_of", [
    lambda: Request("1girl", steps=2.5), lambda: Request("1girl", steps="3"),
    lambda: Request(None), lambda: Request("1girl", guidance="high"), lambda: None, lambda: 7,
])  # fmt: skip
def test_wrong_types_from_python_are_refused_in_our_words(tiny_model, request_of) -> None:
    engine = sakuga.open(tiny_model, device="cpu")
    with pytest.raises(RequestError):
        list(engine.generate(request_of()))


def test_what_is_plainly_meant_from_python_is_taken(tiny_model) -> None:
    engine = sakuga.Engine.open(tiny_model)
    request = engine.resolve("1girl, smile")
    assert request.prompt == "1girl, smile"
    assert engine.resolve(Request("1girl", seed=-1)).seed >= 0
    with pytest.raises(RequestError, match="Budget"):
        sakuga.Engine.open(EngineSpec(str(tiny_model), budget="4GB"))
    assert Budget("4GB").vram == "4GB"
