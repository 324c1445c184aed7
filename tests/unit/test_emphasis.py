"""Weights that people type: which brackets are one, what the encoders then read."""

from __future__ import annotations

import time

import pytest

from sakuga.prompt.canonical import Systems, blocks_apart, canonical, encoder_texts
from sakuga.prompt.document import read, write
from sakuga.prompt.emphasis import Emphasis, brackets_of, emphasised, weight_of
from sakuga.prompt.tags import spelling_of

WEIGHTS = [
    ("(red eyes:1.2), smile", "red eyes, smile", {"red eyes": 1.2}),
    ("((smile)), [hat]", "smile, hat", {"smile": 1.21, "hat": 0.9091}),
    ("(blue hair, red eyes)", "blue hair, red eyes", {"blue hair, red eyes": 1.1}),
    (
        "(blue hair, (red eyes:1.5):0.5)",
        "blue hair, red eyes",
        {"blue hair": 0.5, "red eyes": 0.75},
    ),
    ("a girl in a (red dress:1.3) at sea", "a girl in a red dress at sea", {"red dress": 1.3}),
    ("(saber_(fate):1.3), x", "saber_(fate), x", {"saber_(fate)": 1.3}),
    ("(saber_\\(fate\\):1.3)", "saber_(fate)", {"saber_(fate)": 1.3}),
    ("(nier:automata), (^_^:1.3)", "nier:automata, ^_^", {"nier:automata": 1.1, "^_^": 1.3}),
    ("( smile : 1.2 ), (hat:.5)", "smile, hat", {"smile": 1.2, "hat": 0.5}),
    ("(smile:0), (hat:1), (bow:9)", "smile, hat, bow", {"smile": 0.0, "bow": 4.0}),
    ("少女(红裙:1.3)，(长发)", "少女红裙，长发", {"红裙": 1.3, "长发": 1.1}),
]
LITERAL = [
    "saber_(fate), saber (fate), ghost_(call_of_duty:_modern_warfare_2)", ":), ;), >:(, (:",
    "(o)_(o)",
    "16:9, (16:9), (1:2)", "[from:to:0.5], [cat|dog]", "(smile:-1)", "((smile", "smile))", "()",
    "[]",
    "{smile}, 1.2::smile::", "(long hair) girl", "(x), (9)",
]  # fmt: skip


@pytest.mark.parametrize(("text", "plain", "weights"), WEIGHTS, ids=[text for text, *_ in WEIGHTS])
def test_what_is_a_weight(text: str, plain: str, weights: dict[str, float]) -> None:
    got, found = emphasised(text)
    assert got == plain
    assert {got[one.start : one.end]: one.weight for one in found} == weights
    assert emphasised(got) == (got, ()) or "\\" in text or "(" in got


@pytest.mark.parametrize("text", LITERAL)
def test_what_is_none(text: str) -> None:
    assert emphasised(text) == (text, ())
    assert brackets_of(text) == ()


def test_escaped_brackets_are_themselves() -> None:
    assert emphasised("saber_\\(fate\\), \\[x\\]") == ("saber_(fate), [x]", ())


def test_sentences_have_brackets_of_their_own() -> None:
    text = "A girl, (or two), is (very happy:1.3)."
    assert emphasised(text, prose=True)[0] == "A girl, (or two), is very happy."


def test_the_rest_of_a_heavy_element_weighs_as_it_does() -> None:
    text, found = emphasised("(red_eyes:1.5), hat", factor=1.2)
    assert {text[one.start : one.end]: one.weight for one in found} == {
        "red_eyes": 1.8, "hat": 1.2,
    }  # fmt: skip
    assert emphasised("hat", factor=0.5) == ("hat", (Emphasis(0, 3, 0.5),))


@pytest.mark.parametrize(
    ("text", "weight"),
    [("1.2", 1.2), (" .5 ", 0.5), ("1.", 1.0), ("7", 4.0), ("", None), (".", None), ("-1", None),
     ("1e3", None), ("nan", None), ("even", None), ("٣", None)],
)  # fmt: skip
def test_a_weight_is_a_plain_number(text: str, weight: float | None) -> None:
    assert weight_of(text) == weight


@pytest.mark.parametrize(
    "text",
    ["(" * 32_000 + "ab" + ")" * 32_000, "(ab" * 20_000, "(ab, " * 12_000 + ")" * 4_000,
     "(ab:1.2" * 6_000 + ")" * 6_000, "\\" * 65_000, "(a" + " " * 60_000 + ":1.2)"],
)  # fmt: skip
def test_no_text_takes_quadratic_time(text: str) -> None:
    began = time.process_time()
    emphasised(text)
    assert time.process_time() - began <= 3.0


XML = (
    '<character_1 weight="0.5"><n>saber_(fate)</n><appearance weight="1.2">(blue hair:1.5), '
    'red eyes</appearance></character_1><caption weight="1.1">She (a girl) smiles.</caption>'
)
PLAIN = (
    "<character_1>\n<n>saber_(fate)</n>\n<appearance>blue hair, red eyes</appearance>\n"
    "</character_1>\n<caption>She (a girl) smiles.</caption>"
)


def test_elements_have_weights_too() -> None:
    sent = encoder_texts(XML, systems=Systems("S "), weighted=True).positive
    assert (sent.gemma, sent.jina) == (f"S {PLAIN}", PLAIN)
    assert {sent.gemma[one.start : one.end]: one.weight for one in sent.emphases} == {
        "saber_(fate)": 0.5, "blue hair": 0.9, "red eyes": 0.6, "She (a girl) smiles.": 1.1,
    }  # fmt: skip


def test_where_weights_mean_nothing_brackets_are_text_and_attributes_nothing() -> None:
    sent = encoder_texts(XML, systems=Systems()).positive
    assert sent.jina == PLAIN.replace("blue hair", "(blue hair:1.5)")
    assert sent.emphases == ()
    assert encoder_texts(XML, systems=Systems(), verbatim=True, weighted=True).positive.jina == XML


def test_canonical_form_keeps_weights_and_says_the_same() -> None:
    document = read(XML)
    once = canonical(document)
    assert canonical(read(once)) == once
    assert read(write(document)) == document
    first, again = (encoder_texts(text, systems=Systems(), weighted=True) for text in (XML, once))
    assert first == again


def test_fields_that_are_joined_keep_weights_of_their_own() -> None:
    text = '<character_1><pose weight="1.2">run</pose><action>jump</action></character_1>'
    sent = encoder_texts(text, systems=Systems(), weighted=True).positive
    assert "<action>jump, run</action>" in sent.jina
    assert [sent.gemma[one.start : one.end] for one in sent.emphases] == ["run"]
    assert "(" not in encoder_texts(text, systems=Systems()).positive.jina


def test_a_weighted_tag_is_spelled_as_the_model_does() -> None:
    spelling = spelling_of(["blue_hair", "red_eyes"])
    sent = encoder_texts(
        "1girl, (blue hair, red eyes:1.3)", systems=Systems(), spelling=spelling, weighted=True
    ).positive
    assert sent.jina == "1girl, blue_hair, red_eyes"
    assert [(one.start, one.end) for one in sent.emphases] == [(7, 26)]


def test_blocks_are_parts_where_there_are_characters() -> None:
    sent = encoder_texts(XML, systems=Systems("S ")).positive
    assert [sent.gemma[start:end].split("\n")[0] for start, end in sent.parts] == [
        "<character_1>", "<caption>She (a girl) smiles.</caption>",
    ]  # fmt: skip
    assert "".join(sent.gemma[start:end] for start, end in sent.parts) == sent.jina
    assert encoder_texts("1girl", systems=Systems()).positive.parts == ()
    general = "<general_tags><count>1girl</count></general_tags><caption>x</caption>"
    assert encoder_texts(general, systems=Systems()).positive.parts == ()


def test_blocks_apart_are_the_text() -> None:
    document = read(XML)
    apart = blocks_apart(document)
    assert len(apart) == 2
    assert "".join(apart) == encoder_texts(XML, systems=Systems()).positive.jina
    assert blocks_apart(read("1girl, smile")) == ("1girl, smile",)
