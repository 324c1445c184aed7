"""Weights of tags and encoding in parts, drawn: what a receipt tells is drawn again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from engines import open_engine
from sakuga.api.events import Finished, Result, Warned
from sakuga.api.request import Request
from sakuga.api.said import receipt_from, texts_of
from sakuga.commands.cli import app
from sakuga.engine.engine import WHOLE, Engine
from sakuga.errors import RequestError

XML = (
    "<character_1><appearance>{}, red_eyes</appearance></character_1>"
    "<general_tags><count>1girl</count></general_tags>"
)
ASK = Request(XML.format("blue_hair"), seed=5, steps=1, width=64, height=64)


@pytest.fixture(scope="module")
def engine(tiny_model) -> Engine:
    return open_engine(tiny_model)


def drawn(engine: Engine, ask: Request = ASK, **other) -> Result:
    (result,) = [
        one.result for one in engine.generate(replace(ask, **other)) if isinstance(one, Finished)
    ]
    return result


def test_a_weight_of_one_and_none_draw_the_same_bits(engine) -> None:
    plain = drawn(engine)
    for prompt in (ASK.prompt, XML.format("(blue_hair:1)")):
        got = drawn(engine, prompt=prompt, weighting="interpolate")
        assert got.picture == plain.picture
        assert got.receipt.texts.marks == ()


@pytest.mark.parametrize("weighting", ["interpolate", "empty"])
def test_a_weight_changes_the_picture_and_not_the_text(engine, weighting) -> None:
    plain, heavy = drawn(engine), XML.format("(blue_hair:1.4)")
    got = drawn(engine, prompt=heavy, weighting=weighting)
    assert got.picture != plain.picture
    assert got.receipt.texts.gemma == plain.receipt.texts.gemma
    assert got.receipt.tokens == plain.receipt.tokens
    (mark,) = got.receipt.texts.marks
    start = got.receipt.texts.gemma.index("blue_hair")
    assert mark == f"prompt {start}-{start + 9} x1.4"
    assert drawn(engine, prompt=heavy).receipt.texts.marks == ()  # off by default


def test_weights_of_the_negative_count(engine) -> None:
    got = drawn(engine, negative="(smile:1.5)", weighting="interpolate")
    assert got.receipt.texts.negative_jina == "smile"
    assert got.picture != drawn(engine, negative="smile").picture


def test_parts_are_drawn_otherwise_and_as_long(engine) -> None:
    whole, apart = drawn(engine), drawn(engine, encoding="per-character")
    assert apart.picture != whole.picture
    assert apart.receipt.tokens == whole.receipt.tokens
    assert apart.receipt.texts.gemma == whole.receipt.texts.gemma
    assert len(apart.receipt.texts.marks) == 2


@pytest.mark.parametrize(
    "prompt",
    ["1girl, smile", "<general_tags><count>1girl</count></general_tags><caption>A.</caption>"],
)
def test_a_prompt_without_characters_is_whole_and_says_so(engine, prompt) -> None:
    ask = replace(ASK, prompt=prompt, encoding="per-character")
    events = list(engine.generate(ask))
    assert WHOLE in [one.message for one in events if isinstance(one, Warned)]
    (result,) = [one.result for one in events if isinstance(one, Finished)]
    assert result.receipt.notes == (WHOLE,)
    assert result.picture == drawn(engine, prompt=prompt).picture


@pytest.mark.parametrize(
    "asked",
    [{"weighting": "interpolate"}, {"weighting": "empty", "encoding": "per-character"},
     {"weighting": "interpolate", "encoding": "per-character", "text_mode": "comfy"}],
)  # fmt: skip
def test_a_receipt_draws_it_again(engine, asked) -> None:
    first = drawn(engine, prompt=XML.format("(blue_hair:1.4)"), negative="[smile_x]", **asked)
    receipt = receipt_from(texts_of(first.receipt), "a.png")
    assert receipt == first.receipt
    # Another version might read the prompt otherwise: its texts and marks are sent.
    again = replace(receipt.request, prompt="other", sent=receipt.texts.as_asked)
    got = drawn(engine, again)
    assert got.picture == first.picture
    assert got.receipt.texts == first.receipt.texts


def test_parts_are_kept_apart_from_the_whole(tiny_model, tmp_path) -> None:
    fresh = drawn(open_engine(tiny_model), encoding="per-character")
    drawn(open_engine(tiny_model, cache=tmp_path))
    for _ in range(2):
        warm = open_engine(tiny_model, cache=tmp_path)
        assert drawn(warm, encoding="per-character").picture == fresh.picture
    assert not {"text_encoder", "text_encoder_2"} & set(warm.networks._loaded)


def test_too_many_weights_are_refused_before_any_work(engine) -> None:
    prompt = ", ".join(f"(tag{at}:1.{at:02})" for at in range(1, 18))
    with pytest.raises(RequestError, match="16 different weights"):
        engine.plan(engine.resolve(replace(ASK, prompt=prompt, weighting="interpolate")))


@pytest.mark.parametrize("marks", [("prompt 5-2",), ("x",)])
def test_marks_that_are_none_are_refused(engine, marks) -> None:
    with pytest.raises(RequestError, match="a mark"):
        engine.resolve(replace(ASK, sent=("a", "a", "", "", *marks)))


def test_the_command_line_tells_and_draws_again(tiny_model, tmp_path) -> None:
    picture, runner = tmp_path / "a.png", CliRunner()
    prompt = XML.format("(blue_hair:1.4)")
    asked = ["draw", prompt, "--model", str(tiny_model), "--size", "64", "--steps", "1"]
    done = runner.invoke(app, [*asked, "--out", str(picture)])
    assert "unheeded-weight" in done.output
    assert "--weighting interpolate" in " ".join(done.output.split())
    flags = ["--weighting", "interpolate", "--encoding", "per-character", "--force"]
    done = runner.invoke(app, [*asked, *flags, "--out", str(picture)])
    assert done.exit_code == 0
    assert "unheeded-weight" not in done.output
    shown = runner.invoke(app, ["show", str(picture)]).output
    assert "blue_hair 1.4" in shown
    assert "2, each encoded by itself" in shown
    other = ["--from", str(picture), "--model", str(tiny_model), "--out", str(tmp_path / "b.png")]
    assert "Equal pixels" in runner.invoke(app, ["draw", *other]).output
