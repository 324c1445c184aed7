"""Characters in their places: what is read of a prompt, what it does to scores, what it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from budgets import limits, results
from engines import open_engine
from sakuga.api.engine_spec import Budget
from sakuga.api.request import Request
from sakuga.engine.regions import outside, until, with_regions
from sakuga.errors import RequestError
from sakuga.model.attention import attention
from sakuga.model.layers import Bias, Positions, Segments
from sakuga.prompt.canonical import canonical
from sakuga.prompt.document import read
from sakuga.prompt.lint import lint
from sakuga.prompt.regions import placed, read_box, regions_of

PROMPT = (
    '<character_1 box="0.5,0,1,1"><gender>1girl</gender><appearance>red_hair</appearance>'
    "</character_1><character_2><gender>1boy</gender><position>left</position></character_2>"
    "<general_tags><count>1girl, 1boy</count></general_tags>"
)
ASK = Request(PROMPT, seed=5, width=64, height=32, steps=4)


@pytest.fixture(scope="module")
def engine(tiny_model):
    return open_engine(tiny_model)


@pytest.mark.parametrize("lengths", [(12, 12), (9, 15)], ids=["uniform", "unlike"])
def test_a_bias_in_channels_is_a_bias_on_scores(lengths) -> None:
    segments, random = Segments(lengths), torch.Generator().manual_seed(0)
    total, heads, kv, channels = sum(lengths), 4, 2, 16
    q, k, v = (torch.randn(total, n, channels, generator=random) for n in (heads, kv, kv))
    query, key = (torch.rand(total, 8, generator=random) for _ in range(2))
    packs = [segments.pack(one) for one in (q, k, v)]
    bias = Bias(segments.pack(query), -segments.pack(key))
    none = torch.empty(0)
    free = Positions(segments, none, none, None, none)
    made = segments.unpack(attention(*packs, replace(free, bias=bias)))
    start = 0
    for length in lengths:
        rows = slice(start, start + length)
        mask = query[rows] @ -key[rows].T
        one, two, three = (part[None, rows].transpose(1, 2) for part in (q, k, v))
        expected = F.scaled_dot_product_attention(one, two, three, attn_mask=mask, enable_gqa=True)
        torch.testing.assert_close(made[rows], expected.transpose(1, 2)[0].flatten(-2))
        start += length
    nothing = Bias(torch.zeros_like(bias.query), bias.key)
    held = attention(*packs, replace(free, bias=nothing))
    torch.testing.assert_close(held, attention(*packs, free))


def test_only_image_tokens_outside_are_held_off_their_characters_text(engine) -> None:
    run = engine.plan(engine.resolve(replace(ASK, regions=4)))
    first, second = run.texts.regions
    tokens = engine.tokenizers.gemma.encode(run.texts.sent.gemma)
    text = [run.texts.sent.gemma[a:b] for a, b in tokens.offsets]
    assert "".join(text[first.begin : first.end]).strip().startswith("<character_1>")
    assert "".join(text[second.begin : second.end]).strip().endswith("</character_2>")
    packing = engine.networks["transformer"]
    from sakuga.model.packing import packing_of

    lengths = run.texts.captions
    plain = packing_of(packing.spec, lengths, [(4, 8)] * len(lengths))
    bias = with_regions(plain, range(len(lengths)), run).joint.bias
    scores = bias.query @ bias.key.transpose(-1, -2)
    scores = (
        plain.joint.segments.split(scores)[0]
        if scores.dim() == 3
        else (bias.query[: lengths[0] + 8] @ bias.key[: lengths[0] + 8].T)
    )
    length = lengths[0]
    assert (scores[:length] == 0).all()  # text tokens see all
    grid = scores[length:].unflatten(0, (2, 4))
    own = grid[..., first.begin : first.end]
    assert (own[:, :2] < -3.9).all()  # the left half, for who stands at the right
    assert (own[:, 2:] == 0).all()
    others = [
        i
        for i in range(scores.shape[1])
        if not (first.begin <= i < first.end or second.begin <= i < second.end)
    ]
    assert (grid[..., others] == 0).all()


def test_off_nothing_changes_and_on_something_does(engine) -> None:
    (off,) = results(engine.generate(ASK))
    bare = replace(ASK, prompt=PROMPT.replace(' box="0.5,0,1,1"', ""))
    (without,) = results(engine.generate(bare))
    assert off.picture == without.picture  # no encoder reads a box
    assert off.receipt.texts == without.receipt.texts
    (on,) = results(engine.generate(replace(ASK, regions=20)))
    assert "<position>right</position>" in on.receipt.texts.gemma
    assert on.picture != off.picture
    (again,) = results(engine.generate(replace(on.receipt.request, sent=on.receipt.texts.as_asked)))
    assert again.picture == on.picture


def test_places_count_for_a_first_share_of_the_steps(engine) -> None:
    run = engine.plan(engine.resolve(replace(ASK, regions=4, regions_until=0.5)))
    assert until(run) == run.times[2]
    whole = engine.plan(engine.resolve(replace(ASK, regions=4, regions_until=1)))
    assert until(whole) == 1


def test_it_keeps_its_budget(tiny_model) -> None:
    ask = replace(ASK, regions=4, number=2)
    least = limits(open_engine(tiny_model, budget=Budget(vram="1GB")), ask)[-1]
    small = open_engine(tiny_model, budget=Budget(vram=str(least)))
    list(small.generate(ask))
    assert small.device.ledger.peak <= least


@pytest.mark.parametrize(
    ("text", "whole"),
    [("0,0,1.2,1", 1), ("0.5,0,0.5,1", 1), ("0,0,1", 1), ("-0.1,0,1,1", 1), ("", 1),
     ("0,0,1001,9", 1000), ("a", 1), ("0,0,1,1,1", 1)],
)  # fmt: skip
def test_a_box_outside_of_the_picture_is_refused(engine, text, whole) -> None:
    with pytest.raises(RequestError, match="a box is left, top, right and bottom"):
        read_box(text, whole)


def test_boxes_of_annotations_count_in_thousandths() -> None:
    assert read_box("[100, 0, 500, 1000]", 1000) == (0.1, 0, 0.5, 1)
    text = '<character_1 bbox="[0, 0, 400, 1000]"><gender>1girl</gender></character_1>'
    (region,) = regions_of(text, canonical(read(text)))
    assert region.box == (0, 0, 0.4, 1)
    assert "<position>left</position>" in placed(text)
    assert placed(PROMPT.replace(' box="0.5,0,1,1"', "")) == PROMPT.replace(' box="0.5,0,1,1"', "")
    assert not [one for one in lint(text) if one.rule in ("attribute", "unknown-field")]


def test_without_a_place_there_is_nothing_to_ask(engine) -> None:
    with pytest.raises(RequestError, match="characters with a place"):
        engine.plan(engine.resolve(replace(ASK, prompt="1girl", regions=4)))


def test_how_far_outside() -> None:
    away = outside((0.5, 0.0, 1.0, 1.0), (2, 100))
    assert (away[:, 50:] == 0).all()
    assert (away[:, :40] == 1).all()
    assert 0 < away[0, 48] < 1
