"""Drawing from a picture: the whole path, on the simulated card too, and from the command line."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from budgets import apart, limits, results
from engines import open_engine
from pictures import file_of, noise, window
from sakuga.api.codec import plain, typed
from sakuga.api.engine_spec import Budget
from sakuga.api.events import Result, Warned
from sakuga.api.receipt import Receipt
from sakuga.api.request import SOLVER_NAMES, Request
from sakuga.commands.cli import main
from sakuga.errors import RequestError

PIXELS = noise(64, 64)
PICTURE = file_of(PIXELS)
ASK = Request("1girl", seed=5, image=PICTURE)


def pixels_of(result: Result) -> np.ndarray:
    picture = result.picture
    return np.frombuffer(picture.rgb, np.uint8).reshape(picture.height, picture.width, 3)


@pytest.fixture(scope="module")
def engine(tiny_model):
    return open_engine(tiny_model)


def test_at_strength_0_it_is_the_round_trip_of_the_autoencoder(engine) -> None:
    events = list(engine.generate(replace(ASK, strength=0, number=2)))
    assert [stage.stage for stage in events[0].plan.stages] == ["encode", "decode"]
    vae = engine.networks["vae"]
    with torch.inference_mode():
        image = torch.tensor(PIXELS).movedim(-1, 0)[None].float() / 127.5 - 1
        back = ((vae.decode(vae.encode(image)) + 1) * 127.5).round().clamp(0, 255)
    for result in results(events):
        assert (pixels_of(result) == back[0].movedim(0, -1).numpy()).all()


@pytest.mark.parametrize("solver", SOLVER_NAMES)
def test_at_strength_1_it_is_the_text_alone_bit_for_bit(engine, solver) -> None:
    ask = replace(ASK, strength=1, solver=solver, number=2)
    (text, _), (picture, _) = (
        results(engine.generate(one)) for one in (replace(ask, image=None, strength=None), ask)
    )
    assert picture.picture == text.picture
    assert "encode" not in [stage.stage for stage in picture.receipt.plan.stages]


@pytest.mark.parametrize(
    ("steps", "strength"), [(4, 0.5), (10, 0.3), (20, 0.55), (3, 0.01), (7, 0.999), (28, 0.6)]
)
def test_it_walks_the_steps_that_diffusers_walks(engine, steps, strength) -> None:
    # diffusers' get_timesteps, as it is in every pipeline from a picture
    start = int(max(steps - min(steps * strength, steps), 0))
    run = engine.plan(engine.resolve(replace(ASK, steps=steps, strength=strength)))
    whole = engine.plan(engine.resolve(replace(ASK, steps=steps, strength=1)))
    assert run.times == whole.times[start:]
    assert run.work.evaluations == steps - start


def test_it_starts_where_noise_and_picture_meet(engine) -> None:
    seen = []
    with engine.observed(lambda place, *tensors: seen.append((place, tensors))):
        run = engine.plan(engine.resolve(replace(ASK, strength=0.5, solver="euler", guidance=1)))
        (result,) = results(engine.run(run))
    (latents,) = next(tensors for place, tensors in seen if place == "encode")
    torch.testing.assert_close(latents, engine.networks["vae"].encode(
        torch.tensor(PIXELS).movedim(-1, 0)[None].float() / 127.5 - 1
    ))  # fmt: skip
    assert len([place for place, _ in seen if place.startswith("step")]) == 2
    assert pixels_of(result).shape == (64, 64, 3)


@pytest.mark.parametrize("solver", SOLVER_NAMES)
@pytest.mark.parametrize("strength", [1.0, 0.75])
def test_outside_the_mask_latents_are_the_noised_original_after_every_step(
    engine, solver, strength
) -> None:
    box = (16, 24, 40, 40)  # of whole cells
    ask = replace(
        ASK, mask=window(64, 64, box), strength=strength, solver=solver, mask_feather=0, steps=8
    )
    states, origin = [], []

    def look(place, *tensors):
        if place.startswith("step"):
            states.append(tensors[0].clone())
        if place == "encode":
            origin.append(tensors[0].clone())

    with engine.observed(look):
        run = engine.plan(engine.resolve(ask))
        (result,) = results(engine.run(run))
    noise_ = torch.randn((16, 8, 8), generator=torch.Generator().manual_seed(5))[None]
    outside = torch.ones(8, 8, dtype=torch.bool)
    outside[3:5, 2:5] = False
    for t, x in zip(run.times[1:], states, strict=True):
        expected = (1 - t) * noise_ + t * origin[0]
        # dpm begins a thousandth of the way in, where text begins in noise alone
        most = 3e-3 if solver.startswith("dpm") and strength == 1 else 1e-4
        assert (x - expected)[..., outside].abs().max() < most
        assert (x - expected)[..., ~outside].abs().max() > 1e-2 * t
    kept = np.ones((64, 64), bool)
    kept[24:40, 16:40] = False
    assert (pixels_of(result)[kept] == PIXELS[kept]).all()
    assert (pixels_of(result)[~kept] != PIXELS[~kept]).mean() > 0.5


@pytest.mark.parametrize("size", [(64, 64), (50, 37), (33, 61), (20, 20)])
@pytest.mark.parametrize("more", [{}, {"only_masked": True}, {"outpaint": "left=9,bottom=20"}])
def test_outside_a_grown_and_feathered_mask_every_bit_stays(engine, size, more) -> None:
    width, height = size
    pixels = noise(width, height)
    mask = window(width, height, (8, 9, 12, 13))
    ask = replace(
        ASK, image=file_of(pixels), mask=mask, mask_grow=2, mask_feather=3, number=2, **more
    )
    left, bottom = (9, 20) if "outpaint" in more else (0, 0)
    for result in results(engine.generate(ask)):
        made = pixels_of(result)
        assert made.shape == (height + bottom, width + left, 3)
        inner = made[:height, left:]
        kept = np.ones((height, width), bool)
        kept[4:18, 3:17] = False
        if left:
            kept[:, :5] = kept[-5:] = False
        assert (inner[kept] == pixels[kept]).all()
        assert (inner[10:12, 9:11] != pixels[10:12, 9:11]).any()


@pytest.mark.parametrize(
    ("picture", "more", "drawn", "size", "told"),
    [
        ((64, 64), {}, (64, 64), (64, 64), ""),
        ((50, 37), {}, (64, 48), (50, 37), ""),
        ((20, 10), {}, (64, 32), (64, 32), "20x10 is drawn from as 64x32"),
        ((400, 200), {}, (128, 64), (128, 64), "400x200 is drawn from as 128x64"),
        ((64, 64), {"width": 96, "height": 64}, (96, 64), (96, 64), "cut off"),
        ((64, 32), {"width": 96}, (96, 48), (96, 48), "96x48"),
        ((50, 37), {"width": 64, "height": 48}, (64, 48), (50, 37), ""),
    ],
)  # fmt: skip
def test_its_own_size_is_kept_as_far_as_the_model_goes(
    engine, picture, more, drawn, size, told
) -> None:
    ask = replace(ASK, image=file_of(noise(*picture)), steps=2, strength=0.5, **more)
    events = list(engine.generate(ask))
    (result,) = results(events)
    said = [event.message for event in events if isinstance(event, Warned)]
    assert told in " ".join(said)
    assert bool(said) == bool(told)
    assert result.receipt.request.size == drawn
    assert (result.picture.width, result.picture.height) == size
    again = replace(result.receipt.request, image=ask.image)
    assert results(engine.generate(again))[0].picture == result.picture


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"strength": 1.5}, "strength must be 0 to 1"),
        ({"image": None, "strength": 0.5}, "strength is said of image.*--image"),
        ({"image": None, "mask": PICTURE}, "mask is said of image"),
        ({"mask_invert": True}, "mask_invert is said of mask"),
        ({"mask_feather": 3}, "mask_feather is said of mask or outpaint"),
        ({"mask": PICTURE, "mask_padding": 3}, "mask_padding is said of only_masked"),
        ({"outpaint": "left"}, "outpaint is SIDE=PIXELS"),
        ({"outpaint": "left=0"}, "outpaint is SIDE=PIXELS"),
        ({"outpaint": "left=8,left=9"}, "outpaint is SIDE=PIXELS"),
        ({"outpaint": "left=99"}, "keeps its size.*163x64.*--only-masked"),
        ({"mask": file_of(noise(32, 64))}, "a mask has the size of its picture"),
        ({"mask": file_of(np.zeros((64, 64), np.uint8))}, "all black"),
        ({"solver": "dpm3", "steps": 4, "strength": 0.5}, "needs at least 3 steps; got 2 of 4"),
        ({"image": 7}, "image must be text"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_any_work(engine, more, said) -> None:
    with pytest.raises(RequestError, match=said):
        engine.plan(engine.resolve(replace(ASK, **more)))


@pytest.mark.parametrize("more", [{}, {"mask": window(64, 64, (20, 20, 44, 40))}])
def test_it_keeps_every_budget_and_strips_change_no_level(tiny_model, more) -> None:
    ask = replace(ASK, strength=0.5, number=2, **more)
    expected = results(open_engine(tiny_model).generate(ask))
    simulated = open_engine(tiny_model, budget=Budget(vram="1GB"))
    least = limits(simulated, ask)[-1]
    small = open_engine(tiny_model, budget=Budget(vram=str(least)))
    events = list(small.generate(ask))
    assert small.device.ledger is not None
    assert small.device.ledger.peak <= least
    for one, other in zip(expected, results(events), strict=True):
        assert apart(one, other)[0] <= 1
    assert small.device.memory() == (0, 0)


def test_networks_that_stay_are_those_of_both_ways(tiny_model) -> None:
    engine = open_engine(tiny_model, budget=Budget(vram="1GB", keep_resident=True))
    ask = replace(ASK, strength=0.5)
    first, second = (results(engine.generate(ask))[0] for _ in range(2))
    assert first.receipt.plan.kept
    assert first.picture == second.picture
    (text,) = results(engine.generate(Request("1girl", seed=5, width=64, height=64)))
    assert text.receipt.plan.kept


def test_pictures_of_pillow_bytes_and_paths_are_one(engine, tmp_path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PICTURE)
    given = (PICTURE, path, str(path), Image.fromarray(PIXELS))
    made = [results(engine.generate(replace(ASK, image=one, strength=0.5)))[0] for one in given]
    assert all(one.picture == made[0].picture for one in made)
    receipt = made[1].receipt
    assert receipt.image is not None
    assert receipt.image.file == "a.png"
    assert str(tmp_path) not in json.dumps(plain(receipt))
    assert typed(Receipt, json.loads(json.dumps(plain(receipt)))) == receipt


@pytest.fixture
def draw(tiny_model, tmp_path, monkeypatch, capsys):
    """Run `sakuga draw ARGUMENTS` in an empty folder: (exit code, all that was said)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAKUGA_CACHE", str(tmp_path / "cache"))

    def command(*arguments: str) -> tuple[int, str]:
        asked = ("draw", "--model", str(tiny_model), "--device", "cpu", *arguments)
        monkeypatch.setattr(sys, "argv", ["sakuga", *asked])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), "".join(capsys.readouterr())

    return command


MASK = window(64, 64, (20, 20, 44, 40))
KINDS = {
    "img2img": ["--strength", "0.5"],
    "round trip": ["--strength", "0"],
    "inpaint": ["--mask", "in/m.png", "--mask-grow", "2"],
    "only masked": ["--mask", "in/m.png", "--only-masked", "--mask-padding", "4"],
    "outpaint": ["--outpaint", "right=16"],
    "resized": ["--size", "96x64"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_drawn_again_equal_in_pixels(draw, kind) -> None:
    for folder in ("in", "out"):
        Path(folder).mkdir()
    Path("in/a.png").write_bytes(PICTURE)
    Path("in/m.png").write_bytes(MASK)
    assert draw("1girl", "--image", "in/a.png", *KINDS[kind], "--out", "out/b.png")[0] == 0
    code, said = draw("--from", "out/b.png", "--out", "c.png")
    assert code == 0
    assert "Equal pixels" in said
    assert "Not the same" not in said


def test_a_picture_that_moved_is_found_by_its_digest_or_asked_for(draw) -> None:
    for folder in ("in", "out", "elsewhere"):
        Path(folder).mkdir()
    Path("in/a.png").write_bytes(PICTURE)
    draw("1girl", "--image", "in/a.png", "--strength", "0.5", "--out", "out/b.png")
    Path("in/a.png").rename("out/renamed.png")
    assert "Equal pixels" in draw("--from", "out/b.png", "--out", "c.png")[1]
    Path("out/renamed.png").rename("elsewhere/a.png")
    code, said = draw("--from", "out/b.png", "--out", "d.png")
    assert code == 2
    assert "Give it as --image" in said
    assert not Path("d.png").exists()
    here = ("--image", "elsewhere/a.png")
    assert "Equal pixels" in draw("--from", "out/b.png", "--out", "d.png", *here)[1]
    Path("other.png").write_bytes(file_of(noise(64, 64, 9)))
    said = draw("--from", "out/b.png", "--out", "e.png", "--image", "other.png")[1]
    assert "Not the same request: image" in said
    Path("elsewhere/a.png").unlink()
    Path("in/a.png").write_bytes(Path("other.png").read_bytes())  # another picture in its place
    assert draw("--from", "out/b.png", "--out", "f.png")[0] == 2


@pytest.mark.parametrize("name", ["no.png", "cut.png", "text.png"])
def test_of_a_bad_picture_nothing_is_written(draw, name) -> None:
    Path("cut.png").write_bytes(PICTURE[:2000])
    Path("text.png").write_text("no picture")
    code, said = draw("1girl", "--image", name, "--out", "made/x.png")
    assert code == 2
    assert name in said
    assert not Path("made").exists()
