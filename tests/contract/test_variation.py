"""Pictures that are nearly another one, and the way from one to another."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from budgets import results
from engines import open_engine
from sakuga.api.infotext import read_infotext
from sakuga.api.parameters import write_infotext
from sakuga.api.request import Request
from sakuga.api.taken import taken_from
from sakuga.commands.cli import main
from sakuga.engine import denoise
from sakuga.errors import RequestError
from sakuga.sample.noise import seeded, turned

ASK = Request("1girl", seed=5, width=64, height=32, steps=2)


@pytest.fixture(scope="module")
def engine(tiny_model):
    return open_engine(tiny_model)


@pytest.fixture(scope="module")
def drawn(engine):
    """The pictures of a request, with what is given changed."""
    return lambda **given: results(engine.generate(replace(ASK, **given)))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_noise_on_its_way_is_noise(share) -> None:
    way = turned(seeded((16, 64, 64), 1), seeded((16, 64, 64), 2), share)
    assert float(way.mean()) == pytest.approx(0, abs=0.02)
    assert float(way.std()) == pytest.approx(1, abs=0.02)
    nearness = torch.nn.functional.cosine_similarity(
        way.flatten(), seeded((16, 64, 64), 1).flatten(), dim=0
    )
    assert float(nearness) == pytest.approx(
        float(torch.cos(torch.tensor(share * torch.pi / 2))), abs=0.02
    )


def test_both_ends_are_exact(drawn) -> None:
    (first,), (other,) = drawn(), drawn(seed=9)
    assert drawn(variation=0.0)[0].picture == first.picture
    assert drawn(variation=1.0, variation_seed=9)[0].picture == other.picture
    strip = drawn(to_seed=9, number=3)
    assert strip[0].picture == first.picture
    assert strip[2].picture == other.picture
    assert strip[1].picture not in (first.picture, other.picture)


def test_variations_of_one_seed_differ_by_their_own(drawn) -> None:
    two = drawn(variation=0.3, variation_seed=20, number=2)
    assert [one.receipt.seed for one in two] == [5, 5]
    (second,) = drawn(variation=0.3, variation_seed=21)
    assert two[1].picture == second.picture != two[0].picture


def test_a_seed_to_turn_to_is_pinned(engine) -> None:
    assert engine.resolve(replace(ASK, variation=0.1)).variation_seed >= 0
    assert engine.resolve(ASK).variation_seed is None


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"variation_seed": 3}, "variation_seed is said of variation"),
        ({"variation": 1.5}, "variation must be 0 to 1"),
        ({"to_seed": 4}, "last of several"),
        ({"to_seed": 4, "number": 3, "variation": 0.1}, "last of several"),
        ({"variation": 0.1, "variation_seed": 2**63 - 1, "number": 2}, "last picture's seed"),
    ],
)
def test_what_leads_nowhere_is_refused(engine, given, rule) -> None:
    with pytest.raises(RequestError, match=rule):
        engine.resolve(replace(ASK, **given))


def test_others_read_it_and_so_do_we(drawn) -> None:
    (receipt,) = (one.receipt for one in drawn(variation=0.25, variation_seed=7))
    text = read_infotext(write_infotext(receipt))
    assert text.settings["Variation seed"] == "7"
    assert text.settings["Variation seed strength"] == "0.25"
    values = taken_from(text).values
    assert (values["variation"], values["variation_seed"]) == (0.25, 7)


def test_the_noise_of_a_picture_does_not_depend_on_its_neighbours(engine) -> None:
    vae = engine.model.vae
    whole = denoise.noise(engine.resolve(replace(ASK, to_seed=9, number=5)), vae)
    for index in range(5):
        alone = engine.resolve(replace(ASK, to_seed=9, number=5)).seeds(index).alone
        assert torch.equal(
            denoise.noise(engine.resolve(replace(ASK, **alone)), vae)[0], whole[index]
        )


def test_vary_draws_four_and_each_can_be_drawn_again(
    tiny_model, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)

    def run(command: str, *rest: str) -> str:
        given = ["--model", str(tiny_model), "--device", "cpu", "--no-cache", *rest]
        monkeypatch.setattr(sys, "argv", ["sakuga", command, *given])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        return capsys.readouterr().err

    run("draw", "1girl", "--size", "64x32", "--steps", "2", "--seed", "5", "--out", "a.png")
    run("vary", "a.png", "--variation-seed", "1")
    assert sorted(one.name for one in tmp_path.glob("a-*")) == [
        f"a-varied-{i}.png" for i in (1, 2, 3, 4)
    ]
    assert "Equal pixels" in run("draw", "--from", "a-varied-3.png", "--out", "b.png")
    assert "Not the same request" in run(
        "draw", "--from", "a-varied-3.png", "--steps", "3", "--out", "c.png"
    )
