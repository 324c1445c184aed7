"""The exact text each encoder reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sakuga.prompt.canonical import COMMUNITY_SYSTEM, Systems, canonical, encoder_texts
from sakuga.prompt.document import read
from sakuga.prompt.names import CHARACTER_FIELDS, GENERAL_FIELDS

SEED = Path(__file__).parents[2] / "examples" / "two_characters.xml"
SYSTEMS = Systems("XML. <Prompt Start> ", "Text. <Prompt Start> ")
XML = "<general_tags>\n<style>x</style>\n</general_tags>"


def form(text: str) -> str:
    return canonical(read(text))


def test_the_seeds_example() -> None:
    assert form(SEED.read_text(encoding="utf-8")) == (
        "<character_1>\n"
        "<n>miku</n>\n"
        "<gender>1girl</gender>\n"
        "<appearance>blue_hair, long_twintails, teal_eyes, school_uniform</appearance>\n"
        "<action>standing, dynamic_pose</action>\n"
        "</character_1>\n"
        "<character_2>\n"
        "<n>rin</n>\n"
        "<gender>1girl</gender>\n"
        "<appearance>orange_hair, short_pigtails, green_eyes, casual_jacket</appearance>\n"
        "<position>background_right</position>\n"
        "</character_2>\n"
        "<general_tags>\n"
        "<style>anime_style, sharp_focus, masterpiece</style>\n"
        "<background>cityscape_at_dusk</background>\n"
        "<lighting>studio_lighting, rim_light</lighting>\n"
        "</general_tags>"
    )


def test_fields_follow_the_order_of_training() -> None:
    names = [*CHARACTER_FIELDS, *GENERAL_FIELDS]
    assert names == [
        "n", "gender", "appearance", "clothing", "body_type", "expression", "action",
        "interaction", "position",
        "count", "artists", "style", "background", "environment", "perspective", "atmosphere",
        "lighting", "quality", "objects", "other",
    ]  # fmt: skip
    for block, known in (("character_1", names[:9]), ("general_tags", names[9:])):
        inside = "".join(f"<{name}>x</{name}>" for name in [*reversed(known), "zebra", "ant"])
        lines = form(f"<{block}>{inside}</{block}>").split("\n")[1:-1]
        assert [line[1 : line.index(">")] for line in lines] == [*known, "ant", "zebra"]


def test_blocks_are_characters_general_tags_others_text_and_caption() -> None:
    text = (
        "<caption>c</caption>loose<zoo>z</zoo><general_tags><style>s</style></general_tags>"
        "<character_10><n>x</n></character_10><character_2><n>y</n></character_2><bar>b</bar>"
    )
    assert form(text).split("\n") == [
        "<character_2>", "<n>y</n>", "</character_2>",
        "<character_10>", "<n>x</n>", "</character_10>",
        "<general_tags>", "<style>s</style>", "</general_tags>",
        "<bar>b</bar>", "<zoo>z</zoo>", "loose", "<caption>c</caption>",
    ]  # fmt: skip


def test_an_unnumbered_or_repeated_character_takes_the_next_free_number() -> None:
    blocks = [("character", "a"), ("character_2", "b"), ("character_2", "c"), ("Character", "d")]
    text = "".join(f"<{name}><n>{who}</n></{name}>" for name, who in blocks)
    lines = form(text).split("\n")
    assert lines[::3] == [f"<character_{number}>" for number in (1, 2, 3, 4)]
    assert lines[1::3] == [f"<n>{who}</n>" for who in "abcd"]


@pytest.mark.parametrize(
    ("written", "read_as"),
    [("pose", "action"), ("artist", "artists"), ("name", "n"), ("Pose", "action")],
)
def test_other_names_of_a_field(written: str, read_as: str) -> None:
    block = "general_tags" if read_as == "artists" else "character_1"
    assert f"<{read_as}>x</{read_as}>" in form(f"<{block}><{written}>x</{written}></{block}>")


def test_a_field_given_twice_is_joined_standard_name_first() -> None:
    text = "<character_1><pose>a</pose><action>b</action><pose>c</pose></character_1>"
    assert "<action>b, a, c</action>" in form(text)


def test_values_are_tidied_and_their_tags_keep_their_order() -> None:
    value = " z_tag ,a  tag,,\n(b:1.2) , 1,000 lamps, 蓝发，双马尾, "
    expected = "z_tag, a tag, (b:1.2), 1,000 lamps, 蓝发, 双马尾"
    assert f"<style>{expected}</style>" in form(
        f"<general_tags><style>{value}</style></general_tags>"
    )


def test_prose_keeps_its_commas() -> None:
    assert form("<caption>one,two\n  three</caption>") == "<caption>one,two three</caption>"


def test_encoders_read_text_not_xml() -> None:
    value = "cats & dogs &amp; >_&lt; &hearts;"
    assert form(f"<caption>{value}</caption>") == "<caption>cats & dogs & >_< &hearts;</caption>"


def test_text_that_would_read_as_markup_keeps_its_reference() -> None:
    once = form("<caption>&lt;b> &amp;lt;</caption>")
    assert once == "<caption>&lt;b> &amp;lt;</caption>"
    assert form(once) == once


def test_empty_fields_wrappers_and_comments_are_dropped() -> None:
    text = "<img><!-- hm --><character_1><n>x</n><pose> </pose></character_1><caption/></img>"
    assert form(text) == "<character_1>\n<n>x</n>\n</character_1>"


@pytest.mark.parametrize("text", ["1girl,  blue_hair", "a girl.\nb &amp; c", "<b>not closed"])
def test_plain_text_is_only_trimmed(text: str) -> None:
    assert form(f"\n{text} ") == text


def test_training_gives_the_system_prompt_to_gemma_alone() -> None:
    texts = encoder_texts(XML, "bad hands", systems=SYSTEMS)
    assert texts.positive.gemma == "XML. <Prompt Start> " + XML
    assert texts.positive.jina == XML
    assert texts.negative.gemma == "Text. <Prompt Start> bad hands"
    assert texts.negative.jina == "bad hands"


@pytest.mark.parametrize("mode", ["training", "comfy"])
@pytest.mark.parametrize("negative", ["", " \n"])
def test_an_empty_negative_is_empty_for_both(mode: str, negative: str) -> None:
    texts = encoder_texts(XML, negative, systems=SYSTEMS, system="S ", mode=mode)
    assert (texts.negative.gemma, texts.negative.jina) == ("", "")


def test_comfy_gives_both_the_same() -> None:
    texts = encoder_texts(XML, "bad", systems=SYSTEMS, mode="comfy")
    assert texts.positive.gemma == texts.positive.jina == "XML. <Prompt Start> " + XML
    assert texts.negative.gemma == texts.negative.jina == "Text. <Prompt Start> bad"


@pytest.mark.parametrize(
    ("system", "sent"),
    [
        ("Draw well.", "Draw well. "),
        ("Draw\n", "Draw\n"),
        ("", ""),
        ("community", COMMUNITY_SYSTEM),
    ],
)
def test_an_asked_for_system_prompt_overrides(system: str, sent: str) -> None:
    own = "You are X. <Prompt Start>\n"
    assert encoder_texts(own + XML, systems=SYSTEMS, system=system).positive.gemma == sent + XML


def test_a_system_prompt_in_front_takes_the_place_of_the_models() -> None:
    sent = encoder_texts("You are X. <Prompt Start>\n\n" + XML, systems=SYSTEMS).positive
    assert sent.gemma == "You are X. <Prompt Start> " + XML
    assert sent.jina == XML


def test_verbatim_leaves_the_text_untouched() -> None:
    text = " <general_tags><style>x</style></general_tags>\n"
    sent = encoder_texts(text, systems=SYSTEMS, verbatim=True).positive
    assert (sent.gemma, sent.jina) == ("XML. <Prompt Start> " + text, text)
    own = "You are X. <Prompt Start>\n" + text
    sent = encoder_texts(own, systems=SYSTEMS, verbatim=True).positive
    assert (sent.gemma, sent.jina) == (own, own)


def test_a_negative_may_have_a_system_prompt_of_its_own():
    for own in ("", "Bad. "):
        texts = encoder_texts("a", "b", systems=replace(SYSTEMS, negative=own), system="S")
        assert (texts.positive.gemma, texts.negative.gemma) == ("S a", own + "b")
    alone = encoder_texts("a", systems=replace(SYSTEMS, negative="Bad. "))
    assert alone.negative.gemma == ""
    given = "You are Y. <Prompt Start> b"
    texts = encoder_texts("a", given, systems=replace(SYSTEMS, negative="Bad. "))
    assert texts.negative.gemma == given
