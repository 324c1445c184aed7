"""`sakuga show`, `draw --from` and `draw --from-text` on pictures and texts of other programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from receipts import RECEIPT, asking
from sakuga.api.codec import plain
from sakuga.api.receipt import Receipt
from sakuga.api.said import receipt_from, texts_of
from sakuga.commands.cli import main
from sakuga.files.png import Picture, encode_png
from sakuga.files.texts import read_texts

Run = Callable[..., tuple[int, str, str]]
A1111 = (
    "1girl <lora:x:0.8>\nNegative prompt: low\nSteps: 2, Sampler: Euler a, Schedule type: Karras, "
    "CFG scale: 2, Seed: 5, Size: 64x32, Model hash: abc, Model: some"
)
GRAPH = {
    "1": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 2, "cfg": 2, "sampler_name":
          "heun", "positive": ["2", 0], "latent_image": ["3", 0]}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "1girl"}},
    "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 32}},
}  # fmt: skip


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


@pytest.fixture
def draw(run, tiny_model) -> Run:
    """Run `sakuga draw ARGUMENTS` with the tiny model and few steps."""

    def command(*arguments: str) -> tuple[int, str, str]:
        return run("draw", "--model", str(tiny_model), "--device", "cpu", *arguments)

    return command


def pixels(path: str | Path) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def receipt(path: str) -> Receipt:
    return receipt_from(read_texts(Path(path)), path)


def save(path: str, **texts: str) -> None:
    """A picture with texts, as Pillow and so most programs write them."""
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)


def commented(path: str, text: str) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + text.encode("utf-16-be")
    Image.new("RGB", (8, 8)).save(path, exif=exif.tobytes())


def test_show_tells_what_a1111_says(run) -> None:
    save("a.png", parameters=A1111)
    for name in ("a.jpg", "a.webp", "a.avif"):
        commented(name, A1111)
    pages = [run("show", name) for name in ("a.png", "a.jpg", "a.webp", "a.avif")]
    assert pages == [pages[0]] * 4
    code, out, _ = pages[0]
    assert code == 0
    for line in ("prompt  1girl\n", "negative  low\n", "LoRA  x:0.8\n", "Sampler  Euler a\n"):
        assert line in out
    assert out.endswith("no receipt of sakuga. `draw --from` takes part of it.\n")
    assert json.loads(run("show", "a.png", "--json")[1])["text"]["settings"]["Seed"] == "5"


def test_show_tells_any_text_and_says_where_there_is_none(run) -> None:
    save("a.png", Comment="made by hand")
    code, out, _ = run("show", "a.png")
    assert code == 0
    assert "Comment  made by hand\n" in out
    Path("a.gif").write_bytes(b"GIF89a")
    assert "only PNG, JPEG, WebP and AVIF pictures are read" in run("show", "a.gif")[2]


def test_a_picture_of_another_program_is_drawn_as_far_as_it_goes(draw) -> None:
    save("a.png", parameters=A1111)
    code, out, err = draw("--from", "a.png", "--guidance", "3")
    assert code == 0, err
    assert out.startswith("a-again.png  64x32, seed 5, ")
    assert "Taken from a.png (A1111 or its like): prompt, negative, steps 2, seed 5, " in err
    assert "Not taken: Sampler 'Euler a', Schedule type 'Karras', Model 'some', LoRA 'x:0.8'" in err
    assert "Not told there" not in err
    request = receipt("a-again.png").request
    assert (request.prompt, request.negative, request.guidance) == ("1girl", "low", 3)
    assert "Equal pixels" not in err


def test_a_graph_is_drawn_and_what_is_asked_wins(draw) -> None:
    save("a.png", prompt=json.dumps(GRAPH))
    code, _, err = draw("2girls", "--from", "a.png", "--recipe", "comfy", "--out", "b.png")
    assert code == 0, err
    assert "Taken from a.png (ComfyUI): seed 5, width 64, height 32.\n" in err
    request = receipt("b.png").request
    assert (request.prompt, request.solver, request.steps, request.seed) == (
        "2girls", "res_multistep", 20, 5,
    )  # fmt: skip


def test_a_text_is_drawn_from_an_argument_and_a_file(draw) -> None:
    Path("a.txt").write_text(A1111, encoding="utf-8")
    for index, source in enumerate((A1111, "a.txt")):
        code, _, err = draw("--from-text", source, "--out", f"{index}.png")
        assert code == 0, err
    assert receipt("0.png").request == receipt("1.png").request
    assert pixels("0.png") == pixels("1.png")


def test_our_own_text_alone_draws_the_same_pixels(draw) -> None:
    asked = (
        "1girl\nsmile",
        "--negative",
        "low",
        "--seed",
        "3",
        "--steps",
        "3",
        "--solver",
        "heun2",
    )
    draw(*asked, "--truncation", "0.5", "--out", "a.png")
    save("b.png", parameters=read_texts(Path("a.png"))["parameters"])
    code, _, err = draw("--from", "b.png", "--out", "c.png")
    assert code == 0, err
    assert pixels("c.png") == pixels("a.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--from-text", "1girl"), "a line that begins `Steps: `"),
        (("--from-text", "", "--from", "a.png"), "taken from one place"),
        (("--from", "plain.png"), "must carry a receipt"),
        (("--from", "said.png"), "must carry a receipt"),
        (("--from-text", "Steps: 2, Seed: 1"), "a drawing needs a prompt"),
    ],
)
def test_where_there_is_nothing_to_take_it_is_said(draw, arguments, message) -> None:
    save("a.png", parameters=A1111)
    save("plain.png")
    save("said.png", Comment="by hand")
    code, _, err = draw(*arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def planted(path: str, **changes: object) -> None:
    form = {**plain(RECEIPT), **changes}
    Path(path).write_bytes(encode_png(Picture(1, 1, b"abc"), {"sakuga": json.dumps(form)}))


ESCAPE = "\x1b]0;gone\x07\x1b[2J\u202e"


@pytest.mark.parametrize(
    "changes",
    [
        {"adapters": [{"file": ESCAPE * 20_000, "sha256": "a", "strength": 1.0}]},
        {"weights": {ESCAPE: ESCAPE, "x" * 500_000: "y" * 200_000}},
        {"weights": {f"{ESCAPE}{i}": "y" for i in range(5_000)}},
        {"versions": {f"{ESCAPE}{i}": "y" for i in range(5_000)}},
        {"notes": [ESCAPE + "\n" * 100_000]},
        {"model": ESCAPE * 10_000},
        {"notes": [ESCAPE * 200] * 100},
    ],
)
def test_no_receipt_commands_the_terminal_or_floods_it(draw, run, changes) -> None:
    planted("a.png", **changes)
    code, out, _ = run("show", "a.png")
    assert code == 0
    drawn, _, err = draw("--from", "a.png", "--size", "64", "--out", "b.png")
    assert drawn == 1  # other weights
    _, _, more = draw("--from", "a.png", "--size", "64", "--seed", "8", "--steps", "1",
                      "--allow-other-weights", "--out", "b.png")  # fmt: skip
    for text in (out, err, more):
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
        assert len(text) < 20_000
        assert text.count("\n") < 150


def test_other_programs_texts_command_nothing_either(run, draw) -> None:
    flood = f"{ESCAPE}\nSteps: 2, Seed: 1, {ESCAPE}: {'x' * 200_000}, " + "".join(
        f"{ESCAPE}{i}: y, " for i in range(5_000)
    )
    save("a.png", parameters=flood)
    save("b.png", **{ESCAPE[1:4]: flood.replace("Steps", "steps")})
    commented("c.webp", flood)
    for name in ("a.png", "b.png", "c.webp"):
        code, out, _ = run("show", name)
        assert code == 0
        assert not {"\x1b", "\x07", "\u202e"} & set(out)
        assert len(out) < 20_000
    _, _, err = draw("--from", "a.png", "--size", "64", "--out", "d.png")
    assert not {"\x1b", "\x07", "\u202e"} & set(err)
    assert len(err) < 5_000


@pytest.mark.parametrize("changes", [{"index": 9}, {"index": -1}, {"request": {"width": None}}])
def test_an_edited_receipt_is_refused_before_anything_is_drawn(draw, run, changes) -> None:
    request = changes.get("request")
    planted("a.png", **changes if request is None else {
        "request": {**plain(RECEIPT.request), **request}})  # fmt: skip
    for code, _, err in (run("show", "a.png"), draw("--from", "a.png", "--out", "b.png")):
        assert code == 2
        assert "Traceback" not in err
    assert os.listdir() == ["a.png"]


def test_a_header_that_claims_a_huge_picture_is_other_pixels(draw) -> None:
    draw("1girl", "--seed", "3", "--steps", "2", "--out", "a.png")
    data = bytearray(Path("a.png").read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    Path("a.png").write_bytes(data)
    code, _, err = draw("--from", "a.png", "--out", "b.png")
    assert code == 0
    assert err.startswith("Other pixels")


def test_a_long_receipt_is_whole_in_json(run) -> None:
    receipt_of = texts_of(asking("1girl, \x1b" * 5_000))
    Path("a.png").write_bytes(encode_png(Picture(1, 1, b"abc"), receipt_of))
    out = run("show", "a.png", "--json")[1]
    assert out.isascii()
    assert json.loads(out) == json.loads(receipt_of["sakuga"])
