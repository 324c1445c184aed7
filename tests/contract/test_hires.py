"""hires: drawn small, enlarged, drawn on; on the simulated card too."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from budgets import apart, limits, results
from engines import open_engine
from sakuga.api.codec import plain, typed
from sakuga.api.engine_spec import Budget
from sakuga.api.events import Decoded, Finished, Stepped
from sakuga.api.framing import enlarged
from sakuga.api.infotext import read_infotext
from sakuga.api.page import describe_picture
from sakuga.api.parameters import write_infotext
from sakuga.api.receipt import Receipt
from sakuga.api.request import Request
from sakuga.errors import BudgetTooSmall, RequestError
from sakuga.files.canvas import scaled
from sakuga.memory.plan import smallest_limit

ASK = Request("1girl", seed=5, width=64, height=32, steps=4, hires="2x")


@pytest.fixture(scope="module")
def engine(tiny_model):
    return open_engine(tiny_model)


def pixels_of(result) -> np.ndarray:
    picture = result.picture
    return np.frombuffer(picture.rgb, np.uint8).reshape(picture.height, picture.width, 3)


@pytest.mark.parametrize("way", ["lanczos", "latent"])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_the_second_pass_goes_on_from_the_first(engine, way, strength) -> None:
    ask = replace(ASK, hires_by=way, hires_strength=strength, guidance=1)
    seen: dict[str, list[torch.Tensor]] = {}
    with engine.observed(lambda place, *tensors: seen.setdefault(place, []).extend(tensors)):
        (large,) = results(engine.generate(ask))
    assert pixels_of(large).shape == (64, 128, 3)
    small = replace(ASK, hires=None, guidance=1)
    (first,) = results(engine.generate(small))
    if strength == 1:  # nothing of the first is left
        (text,) = results(engine.generate(replace(small, width=128, height=64)))
        assert text.picture == large.picture
        return
    if way == "lanczos":
        vae = engine.networks["vae"]
        picture = torch.tensor(scaled(pixels_of(first), (128, 64)))
        with torch.inference_mode():
            begun = vae.encode(picture.movedim(-1, 0)[None].float() / 127.5 - 1)
        torch.testing.assert_close(seen["encode"][0], begun)
    else:
        latents = seen["step4"][0]  # of the first pass, after its last step
        begun = F.interpolate(latents, (8, 16), mode="bicubic")
    noise = torch.randn(begun.shape[1:], generator=torch.Generator().manual_seed(5))
    run = engine.plan(engine.resolve(ask))
    t = run.second.times[0]
    assert run.second.times == run.times[2:]
    # What the second pass begins with shows in its first step: x0 = x + (1 - t)·v.
    assert begun.shape == (1, *noise.shape)
    assert 0 < t < 1


def test_each_picture_is_its_own(engine) -> None:
    ask = replace(ASK, number=3)
    three = results(engine.generate(ask))
    assert [one.receipt.seed for one in three] == [5, 6, 7]
    (alone,) = results(engine.generate(replace(ASK, seed=6)))
    assert apart(alone, three[1])[0] <= 1  # alone in its batch, a product may round otherwise


def test_steps_count_through_both_passes(engine) -> None:
    events = list(engine.generate(replace(ASK, hires_strength=0.5)))
    steps = [(one.index, one.of) for one in events if isinstance(one, Stepped)]
    assert steps == [(index, 6) for index in range(1, 7)]
    kinds = [type(one) for one in events]
    assert kinds.count(Decoded) == 1
    assert kinds.index(Decoded) < kinds.index(Finished)


def test_a_receipt_tells_of_both_passes(engine) -> None:
    (result,) = results(engine.generate(ASK))
    receipt = result.receipt
    assert [one.stage for one in receipt.plan.second] == ["encode", "denoise", "decode"]
    assert typed(Receipt, json.loads(json.dumps(plain(receipt)))) == receipt
    assert "second denoise dtype" in receipt.plan.deciding
    assert "plan of the second decode" in dict(describe_picture(receipt))
    text = read_infotext(write_infotext(receipt)).settings
    assert (text["Hires upscale"], text["Hires upscaler"]) == ("2", "lanczos")
    assert (text["Size"], text["Denoising strength"]) == ("64x32", "0.5")
    (again,) = results(engine.generate(replace(receipt.request, sent=receipt.texts.as_asked)))
    assert again.picture == result.picture


@pytest.mark.parametrize("way", ["lanczos", "latent"])
def test_it_keeps_every_budget(tiny_model, way) -> None:
    ask = replace(ASK, number=2, hires_by=way)
    expected = results(open_engine(tiny_model).generate(ask))
    large = replace(ASK, hires=None, width=128, height=64, number=2)
    least = limits(open_engine(tiny_model, budget=Budget(vram="1GB")), large)[-1]
    small = open_engine(tiny_model, budget=Budget(vram=str(least)))
    events = list(small.generate(ask))
    assert small.device.ledger.peak <= least
    for one, other in zip(expected, results(events), strict=True):
        assert apart(one, other)[0] <= 1
    assert small.device.memory() == (0, 0)
    tight = open_engine(tiny_model, budget=Budget(vram=str(least * 3 // 4)))
    with pytest.raises(BudgetTooSmall):  # before any work
        tight.plan(tight.resolve(replace(ask, hires="8x")))
    assert smallest_limit(least) > least


def test_networks_that_stay_leave_before_the_second_pass(tiny_model) -> None:
    engine = open_engine(tiny_model, budget=Budget(vram="1GB", keep_resident=True))
    first, second = (results(engine.generate(ASK))[0] for _ in range(2))
    assert first.picture == second.picture
    assert engine.device.ledger.peak <= engine.device.ledger.limit


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"hires": "1x"}, "factor above 1"),
        ({"hires": "9x"}, "factor above 1"),
        ({"hires": "big"}, "factor above 1"),
        ({"hires_strength": 0}, "hires_strength must be above 0"),
        ({"hires": None, "hires_strength": 0.5}, "hires_strength is said of hires"),
        ({"hires_by": "nearest"}, "lanczos, latent"),
        ({"solver": "dpm3", "hires_strength": 0.5}, "dpm3 needs at least 3"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(engine, given, rule) -> None:
    with pytest.raises(RequestError, match=rule):
        engine.resolve(replace(ASK, **given))


def test_what_comes_out_has_a_cap_of_its_own() -> None:
    assert enlarged((1024, 1024), 4, 16) == (4096, 4096)
    with pytest.raises(RequestError, match="16,777,216 pixels, as 4096x4096 has"):
        enlarged((1040, 1024), 4, 16)


def test_numbers_and_texts_are_one_factor(engine) -> None:
    sizes = {engine.resolve(replace(ASK, hires=one)).final_size for one in ("2x", "2", 2, 2.0)}
    assert sizes == {(128, 64)}
    assert engine.resolve(replace(ASK, hires=1.3)).final_size == (80, 48)
