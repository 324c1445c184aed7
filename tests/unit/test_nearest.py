"""What is said of a word that a model was not taught, and of a tag by another name."""

from __future__ import annotations

import pytest

from sakuga.checkpoint.catalog import lint_profile
from sakuga.prompt.lint import lint
from sakuga.prompt.nearest import UNADVISED, Vocabulary

KNOWN = frozenset(
    {"twintails", "t-shirt", "green_eyes", "dress", "beach", "classroom", "sitting", "yellow_eyes",
     "grey_hair", "aoi", "long_hair"}
)  # fmt: skip


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("twin_tails", "Write twintails, which it knows."),  # another name of it
        ("amber_eyes", "Write yellow_eyes, which it knows."),
        ("short_twintails", "Write twintails, which it knows."),  # implied
        ("green_eys", "Write green_eyes, which it knows."),  # a slip of the pen
        ("tshirts", "Write t-shirt, which it knows."),
        ("gym", "Use what it knows of background, such as classroom, beach."),  # of its slot
        ("holding_sword", "Use what it knows of pose, such as sitting."),
        ("crown", UNADVISED),  # a word of its own, no slip, and nothing of its slot is known
        ("qwertyuiop", UNADVISED),
    ],
)
def test_the_nearest_word(key: str, advice: str) -> None:
    got = Vocabulary(KNOWN).advice(key)
    if key == "gym":
        assert got.startswith("Use what it knows of background, such as ")
        assert {"beach", "classroom"} == set(got.removesuffix(".").split(" as ")[1].split(", "))
    else:
        assert got == advice


def test_a_word_that_is_known_by_another_name() -> None:
    assert "Write twin_tails," in Vocabulary(frozenset({"twin_tails"})).advice("twintails")


def test_every_advice_names_a_word_of_the_model() -> None:
    words = lint_profile("chibi").vocabulary
    assert words
    text = "1girl, twin tail, gym, green_eys, zeppelin, striped dress"
    fixes = [one.fix for one in lint(text, vocabulary=words) if one.rule == "unknown-word"]
    assert len(fixes) == 5
    for fix in fixes:
        named = fix.removeprefix("Write ").partition(",")[0]
        offered = fix.rpartition("such as ")[2].rstrip(".").split(", ")
        assert named in words or set(offered) <= words


def test_a_text_of_unknown_words_is_not_advised_word_for_word() -> None:
    text = ", ".join(f"qwert{n}yuiop" for n in range(30))
    fixes = [one.fix for one in lint(text, vocabulary=KNOWN) if one.rule == "unknown-word"]
    assert len(fixes) == 30
    assert fixes[-1] == UNADVISED


def other_names(text: str, **options: frozenset[str]) -> list[str]:
    return [one.fix for one in lint(text, **options) if one.rule == "other-name"]


def test_a_tag_by_another_name_is_told_once() -> None:
    text = "<character_1><appearance>twin_tails, Gray Hair, twin tails</appearance></character_1>"
    assert other_names(text) == ["Write twintails.", "Write grey_hair."]
    (one, _) = (one for one in lint(text) if one.rule == "other-name")
    assert (one.severity, one.edits) == ("info", ())  # the encoders would read another text


def test_names_the_model_was_taught_and_names_of_nobody_are_left() -> None:
    assert other_names("1girl, twin_tails", vocabulary=frozenset({"twin_tails", "1girl"})) == []
    assert other_names("<character_1><gender>male</gender></character_1>") == []
    assert other_names("1girl, twintails, two tone hair, zzz") == []
