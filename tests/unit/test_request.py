"""A request says everything once, and refuses what nobody could draw."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from sakuga.api.codec import plain, typed
from sakuga.api.events import (
    EVENTS,
    Decoded,
    Encoded,
    Finished,
    Planned,
    Queued,
    Result,
    Stepped,
    Warned,
    event_from,
    summary,
)
from sakuga.api.options import option_of
from sakuga.api.receipt import Plan, Receipt, SentTexts, TokenCounts
from sakuga.api.request import MAX_SEED, RECIPES, Request
from sakuga.api.resolved import resolve
from sakuga.errors import RequestError
from sakuga.files.png import Picture
from sakuga.model.spec import CHIBI, NEWBIE_3_5B

REQUEST = Request("1girl\n<3", seed=7, width=64, height=80, steps=3, truncation=0.5)
RESOLVED = resolve(replace(REQUEST, width=128, height=128), CHIBI.drawing)
PLAN = Plan("cpu", "AVX2", "float32", 2, 2)
TOKENS = TokenCounts(4, 4, 2, 2, 512, past=None)
RECEIPT = Receipt(
    model="tiny",
    request=RESOLVED,
    index=1,
    seed=8,
    texts=SentTexts("a", "b", "", ""),
    tokens=TOKENS,
    solver="euler",
    guidance="cfg",
    plan=PLAN,
    weights={"transformer": "00"},
    versions={"sakuga": "0"},
)
PREVIEW = Picture(1, 2, b"\x00\xff\x01\x02\x03\x04")
EXAMPLES = (
    Queued(2),
    Planned(RESOLVED, PLAN, "tiny", {"vae": "ab" * 32}),
    Encoded(TOKENS),
    Stepped(1, 2, (PREVIEW, PREVIEW)),
    Decoded(),
    Finished(Result(PREVIEW, RECEIPT, 1.5)),
    Warned("retry", "again in float32"),
)


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.event)
def test_an_event_survives_json(event) -> None:
    assert event_from(json.loads(json.dumps(plain(event)))) == event


def test_every_kind_of_event_is_among_the_examples() -> None:
    assert {event.event for event in EXAMPLES} == set(EVENTS)


def test_a_summary_has_no_pixels_and_says_what_it_is_first() -> None:
    for event in EXAMPLES:
        form = summary(event)
        assert next(iter(form)) == "event"
        assert "rgb" not in json.dumps(form)


def test_an_unknown_key_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(RequestError, match=r"'guidence'.*Did you mean 'guidance'"):
        typed(Request, {"prompt": "x", "guidence": 3})


@pytest.mark.parametrize(
    "data",
    [
        {"prompt": 1},
        {"prompt": "x", "steps": "20"},
        {"prompt": "x", "steps": True},
        {"prompt": "x", "steps": 1.5},
        {"prompt": "x", "verbatim": 1},
        {"prompt": "x", "number": None},
        {"negative": "no prompt"},
        [],
    ],
)
def test_a_value_of_another_type_is_refused(data) -> None:
    with pytest.raises(RequestError):
        typed(Request, data)


def test_whole_numbers_serve_as_numbers() -> None:
    assert typed(Request, {"prompt": "x", "guidance": 4}).guidance == 4.0


def test_broken_base64_is_refused() -> None:
    with pytest.raises(RequestError, match="base64"):
        typed(Picture, {"width": 1, "height": 1, "rgb": "é"})


def test_the_model_fills_what_was_left_open() -> None:
    resolved = resolve(Request("x", seed=1), NEWBIE_3_5B.drawing)
    assert (resolved.steps, resolved.solver, resolved.shift) == (28, "euler", 6.0)
    assert (resolved.guidance, resolved.size) == (4.5, (1024, 1024))
    assert (resolved.schedule, resolved.uncond, resolved.text_mode) == (
        "shifted", "empty", "training",
    )  # fmt: skip
    assert (resolved.renorm, resolved.truncation, resolved.max_tokens) == (0.0, 1.0, None)


def test_a_resolved_request_is_complete_and_stays_as_it_is() -> None:
    for recipe in (None, *RECIPES):
        once = resolve(Request("x", recipe=recipe), CHIBI.drawing)
        assert resolve(once, NEWBIE_3_5B.drawing) == once
        left = {f.name for f in fields(once) if getattr(once, f.name) is None}
        of_pictures = {
            f.name for f in fields(once) if "option" in f.metadata and option_of(f).needs
        }
        unasked = {"image", "variation", "to_seed", "hires", "regions", "upscale"}
        assert left <= {"system", "max_tokens", "recipe"} | unasked | of_pictures


def test_a_recipe_wins_over_the_model_and_flags_win_over_the_recipe() -> None:
    resolved = resolve(Request("x", recipe="demo", steps=9), CHIBI.drawing)
    assert (resolved.solver, resolved.truncation, resolved.guidance) == ("midpoint", 0.25, 5.0)
    assert resolved.steps == 9


def test_every_recipe_names_fields_of_a_request() -> None:
    names = {declared.name for declared in fields(Request)}
    for recipe in RECIPES.values():
        assert set(recipe.values) <= names
        assert recipe.source


def test_a_seed_left_out_differs_each_time() -> None:
    drawn = {resolve(Request("x"), CHIBI.drawing).seed for _ in range(4)}
    assert len(drawn) > 1
    assert all(0 <= seed <= MAX_SEED for seed in drawn)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 200}, "multiple of 16 from 128 to 512; got 200. The nearest is 192"),
        ({"width": 440}, "from 128 to 512; got 440.*model.s own, 256x256"),
        ({"height": 112}, "from 128 to 512.*model's own, 256x256"),
        ({"width": 528}, "model's own, 256x256"),
        ({"steps": 0}, "steps must be 1 to 200"),
        ({"steps": 201}, "steps must be 1 to 200"),
        ({"guidance": -0.1}, "guidance must be 0 to 20"),
        ({"guidance": 20.5}, "guidance must be 0 to 20"),
        ({"guidance": float("nan")}, "guidance"),
        ({"number": 0}, "number must be 1 to 10"),
        ({"number": 11}, "number must be 1 to 10"),
        ({"seed": -2}, "seed must be -1 to"),
        ({"seed": MAX_SEED + 1}, "seed must be -1 to"),
        ({"seed": MAX_SEED, "number": 2}, "last picture's seed"),
        ({"sent": ("one", "two")}, "four texts are sent, or none"),
        ({"shift": 0.0}, "shift must be above 0"),
        ({"truncation": 1.1}, "truncation must be 0 to 1"),
        ({"renorm": -1.0}, "renorm must be 0"),
        ({"solver": "eular"}, "Did you mean 'euler'"),
        ({"recipe": "comfi"}, "Did you mean 'comfy'"),
        ({"solver": "dpm3", "steps": 2}, "at least 3 steps"),
        ({"uncond": "none"}, "uncond"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_what_nobody_could_draw_is_refused(change, message) -> None:
    with pytest.raises(RequestError, match=message):
        resolve(replace(Request("x"), **change), CHIBI.drawing)


def test_half_a_character_becomes_the_mark_for_one() -> None:
    assert resolve(Request("a\ud800b\U0001f600"), CHIBI.drawing).prompt == "a\ufffdb\U0001f600"


def test_the_limits_themselves_are_allowed() -> None:
    edge = Request("x", seed=MAX_SEED, steps=200, guidance=20, number=1, width=512, height=512)
    assert resolve(edge, CHIBI.drawing).steps == 200


def test_a_picture_may_not_have_too_many_pixels() -> None:
    with pytest.raises(RequestError, match="4,200,000 pixels; got 4096x4096"):
        resolve(Request("x", width=4096, height=4096), NEWBIE_3_5B.drawing)


def test_every_field_says_what_it_is() -> None:
    for declared in fields(Request):
        assert option_of(declared).help.endswith(".")


def test_flat_tags_are_drawn_as_xml_where_the_model_says_so_unless_a_text_is_sent_untouched() -> (
    None
):
    def kept(usual: bool, **asked: bool) -> bool:
        drawing = replace(CHIBI.drawing, as_xml=usual)
        return resolve(Request("1girl, red_eyes", **asked), drawing).as_xml

    assert (kept(True), kept(False)) == (True, False)
    assert (kept(True, as_xml=False), kept(False, as_xml=True)) == (False, True)
    assert not kept(True, verbatim=True)
    with pytest.raises(RequestError, match="untouched, or as XML"):
        kept(True, verbatim=True, as_xml=True)
