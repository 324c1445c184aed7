"""`sakuga draw` and `sakuga show`, as typed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import typer.main
from PIL import Image

from engines import open_engine
from sakuga.api.codec import plain, typed
from sakuga.api.events import Finished
from sakuga.api.receipt import Receipt
from sakuga.api.request import Request
from sakuga.commands.cli import app, main
from sakuga.files.texts import read_texts
from sakuga.prompt.structured import as_xml

PROMPT = "<character_1><appearance>red_eyes, blue_hair</appearance></character_1>"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tiny_model, tmp_path, monkeypatch, capsys) -> Run:
    """Run `sakuga ARGUMENTS` in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sakuga", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return command


@pytest.fixture
def draw(run, tiny_model) -> Run:
    """Run `sakuga draw ARGUMENTS` with the tiny model and few steps."""

    def command(*arguments: str) -> tuple[int, str, str]:
        return run("draw", "--model", str(tiny_model), "--device", "cpu", *arguments)

    return command


def pixels(path: str | Path) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def receipt(path: str | Path) -> Receipt:
    return typed(Receipt, json.loads(read_texts(Path(path))["sakuga"]))


def test_every_field_of_a_request_is_a_flag() -> None:
    root = typer.main.get_command(app)
    command = root.get_command(root.make_context("sakuga", [], resilient_parsing=True), "draw")
    flags = {parameter.name for parameter in command.params}
    # What was sent comes out of a receipt, by --from.
    assert {field.name for field in fields(Request)} - flags == {"sent"}


def test_it_says_where_the_picture_is_and_how_long_it_took(draw) -> None:
    code, out, err = draw(PROMPT, "--seed", "3", "--out", "a.png")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"a\.png  64x64, seed 3, drawn in [\d.]+ s, [\d.]+ s in all\n", out)
    with Image.open("a.png") as image:
        assert (image.size, image.mode) == ((64, 64), "RGB")


@pytest.mark.parametrize("path", ["p.xml", "./p", "../p", "/p", "/", "~/p.png", "a/p.TXT"])
def test_what_looks_like_a_path_and_is_no_file_is_not_drawn_as_text(draw, path) -> None:
    code, out, err = draw(path)
    assert (code, out) == (2, "")
    assert "looks like a path" in err


def test_a_folder_that_cannot_be_made_is_refused(draw) -> None:
    Path("file").touch()
    code, out, err = draw(PROMPT, "--out", "file/a.png")
    assert (code, out) == (2, "")
    assert "folder that can be made" in err
    assert len(err.splitlines()) == 1


def test_a_prompt_that_is_refused_is_a_json_line_too(draw) -> None:
    code, out, _ = draw("<!DOCTYPE a>", "--json")
    assert code == 2
    assert json.loads(out)["code"] == "prompt_refused"


def test_a_picture_has_a_name_by_its_seed(draw) -> None:
    assert draw(PROMPT, "--seed", "8")[0] == 0
    assert os.listdir() == ["sakuga-8.png"]


def test_several_pictures_are_numbered(draw) -> None:
    assert draw(PROMPT, "--seed", "3", "-n", "2", "--out", "new/a.png")[0] == 0
    assert sorted(os.listdir("new")) == ["a-1.png", "a-2.png"]
    assert [receipt(f"new/a-{i}.png").seed for i in (1, 2)] == [3, 4]


def test_a_folder_may_be_named_for_the_picture(draw) -> None:
    os.mkdir("here")
    assert draw(PROMPT, "--seed", "8", "--out", "here")[0] == 0
    assert os.listdir("here") == ["sakuga-8.png"]


def test_the_prompt_may_be_a_file_or_standard_input(draw, monkeypatch, tmp_path) -> None:
    Path("p.xml").write_text(PROMPT, encoding="utf-8")
    assert draw("p.xml", "--seed", "3", "--out", "file.png")[0] == 0
    assert draw(PROMPT, "--seed", "3", "--out", "text.png")[0] == 0
    with open("p.xml", encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert draw("-", "--seed", "3", "--out", "stdin.png")[0] == 0
    assert pixels("file.png") == pixels("text.png") == pixels("stdin.png")


def test_a_path_that_is_no_file_is_not_drawn_as_text(draw) -> None:
    code, _, err = draw("prompts/missing.xml")
    assert code == 2
    assert "'prompts/missing.xml'" in err


def test_without_a_prompt_there_is_nothing_to_draw(draw) -> None:
    code, _, err = draw("--seed", "1")
    assert code == 2
    assert "needs a prompt" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--steps", "0"), "steps must be 1 to 200; got 0"),
        (("--size", "60"), "multiple of 16 from 32 to 128; got 60"),
        (("--size", "big"), "--size is WIDTHxHEIGHT"),
        (("--size", "64", "--width", "64"), "--size is WIDTHxHEIGHT"),
        (("--guidance", "21"), "guidance must be 0 to 20"),
        (("--recipe", "comfi"), "Did you mean 'comfy'"),
        (("--out", "a.tiff"), "must be a PNG, WebP, JPEG or AVIF"),
        (("--out", "a.png", "--quality", "90"), "quality is said of"),
        (("--out", "a.jpg", "--quality", "0"), "quality must be 1 to 100"),
        (("--format", "tiff"), "format"),
        (("--device", "tpu"), "device must be"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, flags, message) -> None:
    code, out, err = draw(PROMPT, *flags)
    assert (code, out) == (2, "")
    assert message in err
    assert os.listdir() == []


def test_flags_reach_the_receipt(draw) -> None:
    flags = (
        "--size", "96x32", "--steps", "2", "--guidance", "2.5", "--solver", "heun2",
        "--shift", "4", "--schedule", "linear_quadratic", "--renorm", "0.5",
        "--normalisation", "rows",
        "--truncation", "0.75", "--uncond", "keep-pooled", "--system", "S", "--verbatim",
        "--text-mode", "comfy", "--max-tokens", "9", "--negative", "long_hair", "--recipe", "demo",
        "--weighting", "empty", "--encoding", "per-character",
    )  # fmt: skip
    assert draw(PROMPT, "--seed", "3", "--out", "a.png", *flags)[0] == 0
    assert plain(receipt("a.png").request) == plain(Request(
        PROMPT, "long_hair", 3, 96, 32, 1, "demo", 2, 2.5, "heun2", 4.0, "linear_quadratic",
        0.5, 0.75, "keep-pooled", "S", True, "comfy", 9, normalisation="rows", weighting="empty",
        encoding="per-character", as_xml=False,
    ))  # fmt: skip


def test_flat_tags_are_drawn_as_xml_and_redrawn_so(draw) -> None:
    flat = "1girl, red_eyes, blue_hair, frimbly, beach"
    code, _, err = draw(flat, "--as-xml", "--seed", "3", "--out", "a.png", "--steps", "2")
    assert code == 0
    assert "1 note" in err  # frimbly
    told = receipt("a.png")
    assert (told.request.prompt, told.request.as_xml) == (flat, True)
    assert told.texts.jina.startswith("<character_1>\n<gender>1girl</gender>\n<appearance>red_eyes")
    assert told.texts.jina in told.texts.gemma
    assert "Equal pixels" in draw("--from", "a.png", "--out", "b.png")[2]
    draw(as_xml(flat), "--seed", "3", "--out", "c.png", "--steps", "2")
    draw(flat, "--seed", "3", "--out", "d.png", "--steps", "2")
    assert pixels("c.png") == pixels("a.png") != pixels("d.png")
    code, _, err = draw(flat, "--as-xml", "--verbatim", "--out", "e.png")
    assert (code, "untouched, or as XML" in err) == (2, True)


def test_a_picture_is_never_overwritten_unasked(draw, monkeypatch) -> None:
    Path("a.png").write_bytes(b"mine")
    monkeypatch.setenv("SAKUGA_FAULTS", "kill@gemma")  # nothing must be drawn before the check
    code, _, err = draw(PROMPT, "--out", "a.png")
    assert code == 2
    assert "--force" in err
    assert Path("a.png").read_bytes() == b"mine"
    monkeypatch.delenv("SAKUGA_FAULTS")
    assert draw(PROMPT, "--out", "a.png", "--force")[0] == 0
    assert receipt("a.png")


def test_events_are_json_lines_with_one_finished_per_picture(draw) -> None:
    code, out, err = draw(PROMPT, "--seed", "3", "-n", "2", "--steps", "2", "--json")
    assert (code, err) == (0, "")
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events] == [
        "planned", "encoded", "stepped", "stepped", "decoded", "finished", "finished",
    ]  # fmt: skip
    assert [event["path"] for event in events[-2:]] == ["sakuga-3-1.png", "sakuga-3-2.png"]
    assert events[-1]["receipt"]["seed"] == 4
    assert all("rgb" not in line for line in out.splitlines())


def test_a_failure_is_a_json_line_too(draw) -> None:
    code, out, err = draw(PROMPT, "--steps", "0", "--json")
    assert code == 2
    assert json.loads(out)["code"] == "invalid_request"
    assert err.startswith("sakuga: steps")


def test_findings_are_shown_and_stop_nothing(draw) -> None:
    odd = "<character_1><appearance>red_eyes, blue_eyes</appearance></character_1>"
    code, _, err = draw(odd, "--out", "a.png")
    assert code == 0
    assert re.match(r"prompt:1:\d+: error \[slot-contradicted\] .*\.\n", err)
    code, _, err = draw(odd, "--out", "b.png", "--strict")
    assert code == 2
    assert "--strict" in err
    assert os.listdir() == ["a.png"]


@pytest.mark.parametrize("text", ["<!DOCTYPE a><b/>", "x" * 70_000], ids=["dtd", "long"])
def test_what_no_tool_should_parse_stops_a_drawing(draw, text) -> None:
    assert draw(text)[0] == 2
    Path("p.txt").write_text(text, encoding="utf-8")
    assert draw("p.txt")[0] == 2
    assert os.listdir() == ["p.txt"]


def test_a_picture_can_be_drawn_again(draw) -> None:
    draw(PROMPT, "--seed", "3", "--steps", "2", "--guidance", "2", "--out", "a.png")
    code, out, err = draw("--from", "a.png")
    assert code == 0
    assert out.startswith("a-again.png ")
    assert err == "Equal pixels, compared with a.png.\n"
    assert pixels("a-again.png") == pixels("a.png")
    assert receipt("a-again.png") == receipt("a.png")


def test_it_is_drawn_from_the_texts_that_were_sent_then(draw, tiny_model) -> None:
    """However today's canonical form would read the prompt."""
    sent = ("a cat , red", "a cat", "dull", "dull ")
    asked = Request("1girl, smile", "dull", seed=3, steps=2, sent=sent)
    (result,) = [
        e.result for e in open_engine(tiny_model).generate(asked) if isinstance(e, Finished)
    ]
    assert result.receipt.texts.as_asked == sent
    assert result.receipt.request.sent == ()
    result.save("a.png")
    assert draw("--from", "a.png", "--out", "b.png")[2] == "Equal pixels, compared with a.png.\n"
    assert receipt("b.png") == receipt("a.png")
    draw("--from", "a.png", "--seed", "4", "--out", "c.png")
    assert receipt("c.png").texts.as_asked == sent
    draw("--from", "a.png", "--negative", "", "--out", "d.png")
    assert receipt("d.png").texts.jina == "1girl, smile"


def test_one_picture_of_several_can_be_drawn_again(draw) -> None:
    draw(PROMPT, "--seed", "3", "--steps", "2", "-n", "3", "--out", "a.png")
    code, out, err = draw("--from", "a-2.png", "--out", "b.png")
    assert code == 0
    assert err.startswith("Equal pixels")
    assert "seed 4" in out
    assert sorted(os.listdir()) == ["a-1.png", "a-2.png", "a-3.png", "b.png"]


def test_drawing_again_with_a_change_says_so(draw) -> None:
    draw(PROMPT, "--seed", "3", "--steps", "2", "-n", "2", "--out", "a.png")
    code, _, err = draw("--from", "a-2.png", "--steps", "3", "--out", "b.png")
    assert code == 0
    assert err == "Not the same request: steps 2 -> 3.\n"
    changed = receipt("b.png")
    assert (changed.seed, changed.request.steps, changed.request.number) == (4, 3, 1)


def test_drawing_again_says_what_differs(draw) -> None:
    draw(PROMPT, "--seed", "3", "--steps", "2", "--out", "a.png")
    code, _, err = draw("--from", "a.png", "--dtype", "bfloat16", "--out", "b.png")
    assert code == 0
    assert err.startswith("Other pixels")
    assert "plan: dtype: float32 then, bfloat16 now" in err


def test_other_weights_are_refused_unless_allowed(draw, other_model) -> None:
    draw(PROMPT, "--seed", "3", "--steps", "2", "--out", "a.png")
    again = ("--model", str(other_model), "--from", "a.png", "--out", "b.png")
    code, _, err = draw(*again)
    assert code == 1
    assert "--allow-other-weights" in err
    assert os.listdir() == ["a.png"]
    code, _, err = draw(*again, "--allow-other-weights")
    assert code == 0
    assert "weights of transformer" in err


def test_a_picture_without_a_receipt_cannot_be_drawn_again(draw, run) -> None:
    Image.new("RGB", (8, 8)).save("plain.png")
    for code, _, err in (draw("--from", "plain.png"), run("show", "plain.png")):
        assert code == 2
        assert "must carry a receipt" in err


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        ("nan@step1:2", 1, "must be finite"),
        ("oom@decode:99", 1, "must fit in memory, and 'decode' needs a budget of at least"),
        ("stop@step2", 130, "No partial file"),
        ("eio@save", 1, "must be written whole"),
        ("nonsense", 2, "WHAT@WHERE"),
    ],
)
def test_a_failure_leaves_no_file_and_its_exit_code(draw, monkeypatch, fault, code, message):
    monkeypatch.setenv("SAKUGA_FAULTS", fault)
    got, _, err = draw(PROMPT, "--out", "a.png")
    assert got == code
    assert message in err
    assert os.listdir() == []


def test_one_nan_is_told_and_drawn_over(draw, monkeypatch) -> None:
    monkeypatch.setenv("SAKUGA_FAULTS", "nan@decode")
    code, _, err = draw(PROMPT, "--out", "a.png")
    assert code == 0
    assert "once more in float32" in err


def test_ctrl_c_leaves_nothing_and_exits_130(tiny_model, tmp_path) -> None:
    # What runs the tests may itself ignore the signal, as `nohup` does, and hand that down.
    heeding = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from sakuga.commands.cli import main; main()"
    )
    command = [
        sys.executable, "-c", heeding, "draw", PROMPT, "--model", str(tiny_model),
        "--json", "--device", "cpu",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "SAKUGA_FAULTS": ",".join(f"hang@step{i}:9" for i in (1, 2, 3, 4))},
    )  # fmt: skip
    for line in process.stdout:
        if json.loads(line)["event"] == "stepped":
            process.send_signal(signal.SIGINT)
            break
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "No partial file was left" in err
    assert "Traceback" not in err
    assert os.listdir(tmp_path) == []


def test_show_prints_the_receipt(draw, run) -> None:
    draw(PROMPT, "--seed", "3", "--steps", "2", "--out", "a.png")
    code, out, _ = run("show", "a.png")
    assert code == 0
    for line in ("model  tiny", "seed  3", "steps  2", "Draw. <Prompt Start> [and the prompt]"):
        assert line in out
    assert out.count("<character_1>") == 1
    code, out, _ = run("show", "a.png", "--json")
    assert typed(Receipt, json.loads(out)) == receipt("a.png")


def test_show_lets_no_text_of_a_picture_command_the_terminal(draw, run) -> None:
    draw("1girl\x1b]0;gone\x07, \u202esmile\nbeach", "--steps", "2", "--out", "a.png")
    code, out, _ = run("show", "a.png")
    assert code == 0
    assert not {"\x1b", "\x07", "\u202e"} & set(out)
    assert r"1girl\x1b]0;gone\x07, \u202esmile" in out


def test_other_programs_find_their_parameters(draw) -> None:
    forged = "cat\nSteps: 99, Sampler: x, Seed: 1"
    draw(forged, "--negative", "a\nb", "--seed", "3", "--steps", "2", "--out", "a.png")
    *prompt, negative, more, settings = read_texts(Path("a.png"))["parameters"].split("\n")
    assert prompt == ["cat", r"Steps\: 99, Sampler: x, Seed: 1"]
    assert (negative, more) == ("Negative prompt: a", "b")
    assert settings.startswith(
        "Steps: 2, Sampler: Euler, Schedule type: Simple, CFG scale: 3.0, Seed: 3, Size: 64x64, "
    )


def test_a_model_elsewhere_says_how_to_get_it(run) -> None:
    code, _, err = run("draw", PROMPT, "--model", "newbie-3.5b")
    assert code == 2
    assert "Hugging Face" in err


def test_components_may_come_from_different_places(run, draw, tiny_model, other_model) -> None:
    places = {"transformer": "transformer", "gemma": "text_encoder", "jina": "text_encoder_2"}
    own = [word for flag, name in places.items() for word in (f"--{flag}", str(tiny_model / name))]
    mixed = ("draw", "--model", str(other_model), "--device", "cpu", "--seed", "5", PROMPT)
    assert draw(PROMPT, "--seed", "5", "--out", "whole.png")[0] == 0
    assert run(*mixed, *own, "--vae", str(tiny_model / "vae"), "--out", "parts.png")[0] == 0
    assert run(*mixed, "--out", "other.png")[0] == 0
    whole, parts, other = (pixels(f"{name}.png") for name in ("whole", "parts", "other"))
    assert whole == parts != other
    code, _, err = draw(PROMPT, "--transformer", "nowhere.safetensors", "--out", "none.png")
    assert code == 2
    assert "nowhere.safetensors" in err


def test_a_budget_is_kept_reported_and_told(draw) -> None:
    budget = ("--vram", "200MB", "--steps", "1", "--no-cache", "--memory-report", "memory")
    code, _, err = draw(PROMPT, *budget, "--out", "a.png")
    assert (code, "memory.csv, memory.svg" in err) == (0, True)
    rows = [row.split(",") for row in Path("memory.csv").read_text().splitlines()[1:]]
    assert {row[1] for row in rows} >= {"gemma", "jina", "denoise", "decode"}
    assert max(int(row[2]) for row in rows) < 200e6
    assert receipt("a.png").plan.limit == 200_000_000
    code, _, err = draw(PROMPT, *budget, "--out", "b.png")
    assert (code, "memory.csv" in err) == (2, True)  # it is there already


def test_a_budget_too_small_leaves_nothing_and_says_what_is_enough(draw) -> None:
    code, out, _ = draw(PROMPT, "--vram", "1MB", "--json", "--out", "c.png", "--memory-report", "m")
    assert code == 1
    told = json.loads(out.splitlines()[-1])
    assert told["code"] == "budget_too_small"
    enough = re.search(r"at least (\d+MB)", told["message"])[1]
    assert list(Path().iterdir()) == []
    assert draw(PROMPT, "--vram", enough, "--out", "c.png")[0] == 0


def test_embeddings_are_kept_where_the_user_says(draw) -> None:
    ask = (PROMPT, "--steps", "1", "--seed", "5")
    assert draw(*ask, "--out", "a.png", "--cache", "kept")[0] == 0
    assert len(list(Path("kept/embeddings").glob("*.safetensors"))) == 4
    assert draw(*ask, "--out", "b.png", "--cache", "kept")[0] == 0
    assert draw(*ask, "--out", "c.png", "--no-cache")[0] == 0
    assert pixels("a.png") == pixels("b.png") == pixels("c.png")


def test_nothing_is_said_of_reading_where_the_prompt_is_sent_as_it_is(run, tiny_model) -> None:
    text = "1girl\nNegative prompt: lowres\nSteps: 20, Sampler: Euler a, Seed: 7"
    small = ("--model", str(tiny_model), "--steps", "1", "--size", "64")
    assert "settings-text" in run("draw", text, *small, "--out", "a.png")[2]
    assert "settings-text" not in run("draw", text, *small, "--verbatim", "--out", "b.png")[2]
