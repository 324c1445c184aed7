"""Upscaling: real architectures with random weights, tiles, budgets, receipts, the commands."""

from __future__ import annotations

import json
import struct
import sys
import time
import tracemalloc
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from budgets import results
from engines import open_engine
from pictures import file_of, noise
from sakuga.api.engine_spec import Budget
from sakuga.api.request import Request
from sakuga.api.said import receipt_from
from sakuga.commands.cli import main
from sakuga.engine.upscaler import OVERLAP, Tiling, Upscaler
from sakuga.errors import BudgetTooSmall, ModelNotFound, RequestError, SakugaError, SpecMismatch
from sakuga.files.pictures import look_at
from sakuga.files.texts import read_texts
from sakuga.memory.device import Device
from sakuga.memory.plan import usable
from sakuga.weights.sha256 import file_sha256
from upscalers import spandrel, write

PIXELS = torch.tensor(noise(150, 200))
HEADER = struct.pack(">IIBBBBB", 32_000, 32_000, 8, 2, 0, 0, 0)
PNG_OF_A_GIGAPIXEL = b"".join((
    b"\x89PNG\r\n\x1a\n", struct.pack(">I", 13), b"IHDR", HEADER,
    struct.pack(">I", zlib.crc32(b"IHDR" + HEADER)), bytes(4), b"IEND",
    struct.pack(">I", zlib.crc32(b"IEND")),
))  # fmt: skip
KINDS = ("rrdb", "compact", "swinir")
pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, while they are loaded
        spandrel()
        return {kind: write(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


def opened(file: Path, vram: str = "auto") -> Upscaler:
    return Upscaler.open(str(file), Device(torch.device("cpu"), Budget(vram=vram)), file_sha256)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_what_spandrel_makes_of_it(files, kind) -> None:
    model = spandrel().ModelLoader().load_from_file(files[kind])
    model.eval()
    small = PIXELS[:64, :48]
    with torch.inference_mode():
        whole = model(small.movedim(-1, 0)[None].float() / 255)
    expected = (whole * 255).round().clamp(0, 255).to(torch.uint8)[0].movedim(0, -1)
    upscaler = opened(files[kind])
    assert torch.equal(upscaler.enlarge(small), expected)
    assert upscaler.record.scale == model.scale
    assert upscaler.record.architecture == model.architecture.name


@pytest.mark.parametrize("kind", ["rrdb", "compact"])
def test_tiles_keep_the_budget_and_show_no_seam(files, kind) -> None:
    whole = opened(files[kind]).enlarge(PIXELS)
    roomy = opened(files[kind], "1GB")
    assert torch.equal(roomy.enlarge(PIXELS), whole)
    assert roomy.record.tile == (150, 200)
    least = 0
    try:
        opened(files[kind], "40MB" if kind == "compact" else "64MB").enlarge(PIXELS)
    except BudgetTooSmall as error:
        least = error.smallest
    tight = opened(files[kind], f"{max(least, 64 << 20)}b")
    made = tight.enlarge(PIXELS)
    ledger = tight.device.ledger
    assert ledger is not None
    assert ledger.peak <= usable(tight.device.limit)
    assert (made.int() - whole.int()).abs().max() <= 1  # the networks see no further than that


def test_a_tile_takes_no_more_than_was_planned(files) -> None:
    upscaler = opened(files["rrdb"], "90MB")
    with upscaler.device.lend(upscaler.model.model):
        tiling = upscaler.tiling((150, 200))
        upscaler.device.peak()
        for left, top, right, bottom in tiling.of((150, 200)):
            upscaler._run(
                PIXELS[
                    max(top - OVERLAP, 0) : bottom + OVERLAP,
                    max(left - OVERLAP, 0) : right + OVERLAP,
                ]
            )
        assert upscaler.device.peak() <= tiling.peak_bytes <= usable(upscaler.device.limit)


@pytest.mark.parametrize("most", [(150, 200), (64, 64), (32, 150), (512, 7 * 32)])
def test_tiles_cover_a_picture_once(most) -> None:
    seen = np.zeros((200, 150), int)
    for left, top, right, bottom in Tiling(*most).of((150, 200)):
        seen[top:bottom, left:right] += 1
        assert left % 32 == top % 32 == 0
    assert (seen == 1).all()


def test_no_tile_fits_in_nothing(files) -> None:
    with pytest.raises(BudgetTooSmall, match="needs"):
        opened(files["swinir"], "20MB").enlarge(PIXELS)


def test_what_is_no_upscaler_is_refused(files, tmp_path, tiny_model) -> None:
    with pytest.raises(ModelNotFound, match="file of weights"):
        opened(tmp_path / "none.safetensors")
    grey = write(tmp_path, "rrdb", in_nc=1, out_nc=1)
    with pytest.raises(SpecMismatch, match="takes and gives three colours"):
        opened(grey)
    vae = tiny_model / "vae" / "diffusion_pytorch_model.safetensors"
    with pytest.raises(SpecMismatch, match="an architecture that spandrel knows"):
        opened(vae)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(files["rrdb"].read_bytes()[:-100])
    with pytest.raises(SakugaError):
        opened(cut)
    with pytest.raises(RequestError, match="67,108,864 pixels"):
        opened(files["rrdb"]).check((4096, 4096))


def test_an_archive_of_torch_is_read_without_unpickling(files, tmp_path) -> None:
    from safetensors.torch import load_file

    state = load_file(files["rrdb"])
    for name, held in (("a.pth", state), ("b.pth", {"params": {}, "params_ema": state})):
        torch.save(held, tmp_path / name)
        assert torch.equal(
            opened(tmp_path / name).enlarge(PIXELS[:32, :32]),
            opened(files["rrdb"]).enlarge(PIXELS[:32, :32]),
        )


def test_a_drawing_is_enlarged_and_tells_by_what(files, tiny_model) -> None:
    engine = open_engine(tiny_model)
    ask = Request("1girl", seed=5, width=64, height=32, steps=2)
    (small,) = results(engine.generate(ask))
    (large,) = results(engine.generate(replace(ask, upscale=str(files["rrdb"]))))
    assert (large.picture.width, large.picture.height) == (256, 128)
    pixels = np.frombuffer(small.picture.rgb, np.uint8).reshape(32, 64, 3)
    made = opened(files["rrdb"]).enlarge(torch.tensor(pixels))
    assert large.picture.rgb == made.numpy().tobytes()
    record = large.receipt.upscale
    assert (record.file, record.sha256) == ("rrdb.safetensors", file_sha256(files["rrdb"]))
    assert large.receipt.request.upscale is None
    between = replace(ask, hires="2x", hires_by="model", upscale=str(files["rrdb"]))
    (hires,) = results(engine.generate(between))
    assert (hires.picture.width, hires.picture.height) == (128, 64)
    with pytest.raises(RequestError, match="needs the file of one"):
        engine.resolve(replace(between, upscale=None))


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run `sakuga ARGUMENTS` in an empty folder: its words on both streams."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["sakuga", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        assert (end.value.code or 0) == code, err
        return out + err

    return command


def test_the_command_keeps_receipts_and_they_draw_again(files, run, tiny_model, tmp_path) -> None:
    model = ("--model", str(tiny_model), "--device", "cpu", "--no-cache")
    run("draw", "1girl", *model, "--size", "64x32", "--steps", "2", "--seed", "5", "--out", "a.png")
    run("upscale", "a.png", "--model", str(files["rrdb"]), "--device", "cpu", "--out", "b.webp")
    receipt = receipt_from(read_texts(Path("b.webp")), "b.webp")
    assert receipt.upscale.scale == 4
    assert receipt.seed == 5
    with Image.open("b.webp") as image:
        assert image.size == (256, 128)
    said = run(
        "draw", "--from", "b.webp", *model, "--upscale", str(files["rrdb"]), "--out", "c.png"
    )
    assert "Equal pixels" in said
    Path("rrdb.safetensors").write_bytes(files["rrdb"].read_bytes())  # found beside it
    assert "Equal pixels" in run("draw", "--from", "b.webp", *model, "--out", "d.png")
    Path("rrdb.safetensors").unlink()
    assert "Give it as --upscale" in run(
        "draw", "--from", "b.webp", *model, "--out", "e.png", code=2
    )
    assert "enlarged by" in run("show", "b.webp")


def test_transparency_and_others_words_are_kept(files, run, tmp_path) -> None:
    alpha = np.zeros((40, 30), np.uint8)
    alpha[10:, :] = 255
    image = Image.fromarray(noise(30, 40))
    image.putalpha(Image.fromarray(alpha))
    Path("a.png").write_bytes(file_of(image))
    Path("grey16.png").write_bytes(file_of(Image.fromarray(np.full((20, 20), 40_000, np.uint16))))
    model = ("--model", str(files["compact"]), "--device", "cpu")
    run("upscale", "a.png", "grey16.png", *model, "--out", "made/")
    with Image.open("made/a-2x.png") as made:
        assert (made.mode, made.size) == ("RGBA", (60, 80))
        assert np.asarray(made)[0, 0, 3] == 0
        assert np.asarray(made)[-1, -1, 3] == 255
    with Image.open("made/grey16-2x.png") as made:
        assert (made.mode, made.size) == ("RGB", (40, 40))
    said = json.dumps(read_texts(Path("made/a-2x.png")))
    assert "sakuga" not in said
    assert "overwritten" in run("upscale", "a.png", *model, "--out", "made/", code=2)
    assert "Let --out end in a slash" in run(
        "upscale", "a.png", "a.png", *model, "--out", "b.png", code=2
    )


def test_bad_input_is_refused_at_once_and_nothing_is_written(files, run, tmp_path) -> None:
    """Each before the library is loaded, in 100 ms and 16 MiB; see also test_pictures."""
    grey = write(tmp_path, "rrdb", in_nc=1, out_nc=1)
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(PNG_OF_A_GIGAPIXEL)
    sound = tmp_path / "a.png"
    sound.write_bytes(file_of(noise(30, 40)))
    before = sorted(tmp_path.iterdir())
    for picture, model, rule in (
        (bomb, files["rrdb"], "at most 4,200,000 pixels"),
        (sound, grey, "three colours"),
        (sound, tmp_path / "none.pth", "file of weights"),
    ):
        tracemalloc.start()
        began = time.perf_counter()
        with pytest.raises(SakugaError, match=rule):
            (look_at(str(picture)), opened(model))
        assert time.perf_counter() - began < 0.5  # on a machine that others use too
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
        tracemalloc.stop()
        assert rule in run(
            "upscale",
            str(picture),
            "--model",
            str(model),
            "--device",
            "cpu",
            code=2 if model != grey else 1,
        )
    assert sorted(tmp_path.iterdir()) == before
