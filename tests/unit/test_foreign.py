"""Syntax of other programs is never silent, and tags that look like it are."""

from __future__ import annotations

import pytest

from sakuga.prompt.lint import lint

SAID = [
    ("{blue|red} eyes, 1girl", "other-syntax", "{blue|red}"),
    ("1girl, __hair/colour__", "other-syntax", "__hair/colour__"),
    ("1girl --ar 2:3", "other-syntax", "--ar 2:3"),
    ("1girl, BREAK, smile", "other-syntax", "BREAK"),
    ("1girl AND smile", "other-syntax", "AND"),
    ("1girl // note", "other-syntax", "// note"),
    ("1girl, /* a\nb */ smile", "other-syntax", "/* a\nb */"),
    ("# hair\nblue hair", "other-syntax", "# hair"),
    ("[smile:angry:0.5], 1girl", "other-syntax", "[smile:angry:0.5]"),
    ("1girl, [cat|dog]", "other-syntax", "[cat|dog]"),
    ("1girl, $hair, smile", "other-syntax", "$hair"),
    ("1girl, ${eyes} eyes", "other-syntax", "${eyes}"),
    ("1girl, ${eyes=!red}, smile", "other-syntax", "${eyes=!red}"),
    ("1girl, <random:a, b>", "other-syntax", "<random:a, b>"),
    ("1girl, <fromto[0.5]:a>", "other-syntax", "<fromto[0.5]:a>"),
    ("Steps: 20, 1girl", "other-syntax", "Steps: 20"),
    ("1girl, Sampler: Euler a", "other-syntax", "Sampler: Euler a"),
    ("1girl, cfg scale: 7.5", "other-syntax", "cfg scale: 7.5"),
    ("1girl, <wlr:a:1>", "lora-tag", "<wlr:a:1>"),
    ("<abc:my style:0.8:hr=1>, 1girl", "lora-tag", "<abc:my style:0.8:hr=1>"),
    ("1girl, embedding:easy", "lora-tag", "embedding:easy"),
    ("1girl, <lora:a b:0.8>", "lora-tag", "<lora:a b:0.8>, "),
    ("1girl, <lyco:x>", "lora-tag", "<lyco:x>"),
    ("<hypernet:x:1>, 1girl", "lora-tag", "<hypernet:x:1>"),
    ("1girl, (smile:1.2)", "unheeded-weight", "(smile:1.2)"),
    ("1.2::smile::, 1girl", "weighted-tag", "1.2::smile::"),
    ("1girl, ((smile))", "weighted-tag", "((smile))"),
    ("1girl, {{smile}}", "weighted-tag", "{{smile}}"),
    ("1girl, (long hair)", "weighted-tag", "(long hair)"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "rule", "piece"), SAID, ids=[text for text, *_ in SAID])
@pytest.mark.parametrize("block", ["{}", "<general_tags><style>{}</style></general_tags>"])
def test_it_is_said_once_whatever_the_model(block: str, text: str, rule: str, piece: str) -> None:
    found = [one for one in lint(block.replace("{}", text)) if one.rule == rule]
    assert len(found) == 1
    assert " ".join(piece.split()).strip(", ") in found[0].reason


@pytest.mark.parametrize(
    "tags",
    [
        "aris_\\(blue archive\\), saber (fate), re:zero, nier:automata, 16:9",
        "<o>_<o>, :3, ;), ;d, ;_;, :d, >:(, (o)_(o), ^_^, \\||/, \\m/, @_@, +++, |_|",
        "1girl, t-shirt, off-shoulder, x-ray, 1990s_(style), https://example.org/a",
        "rock_and_roll, BAND, 50/50, #1, c++",
        "$_$, US$, a$ap, $5, $character_1$, stairs, large size",
    ],
)
def test_tags_that_look_alike_are_not(tags: str) -> None:
    rules = {one.rule for one in lint(f"<general_tags><other>{tags}</other></general_tags>")}
    assert rules <= {"bare-markup", "other-name"}  # a face may be another tag's other name
    assert {one.rule for one in lint(tags)} <= {"other-name"}


def test_one_cause_is_one_finding() -> None:
    many = ", ".join(f"(tag{i}:1.2)" for i in range(9))
    (one,) = (one for one in lint(many) if one.rule == "unheeded-weight")
    assert "(and 8 more)" in one.reason
    (lora,) = (one for one in lint("<lora:a:1>, <lora:b:1>, x"))
    assert "(and 1 more)" in lora.reason
    assert lora.fix == "Give their files: --lora a.safetensors:1 --lora b.safetensors:1."
    (nine,) = lint("".join(f"<lora:{i}:0.5>, " for i in range(9)) + "x")
    assert "--lora 7.safetensors:0.5 and 1 more." in nine.fix


@pytest.mark.parametrize("vocabulary", [None, frozenset({"1girl"})])
def test_a_setting_among_tags_is_no_name_of_a_thing(vocabulary: frozenset[str] | None) -> None:
    found = lint("Steps: 20, 1girl, Seed= 7", vocabulary=vocabulary)
    assert [one.rule for one in found] == ["other-syntax"]
    assert "--steps" in found[0].fix


def test_a_model_that_heeds_weights_is_told_of_none() -> None:
    heeded = "(smile, red_eyes:1.2), [hat_x], ((long hair)), saber_(fate)"
    assert not [one for one in lint(heeded, weighted=True) if "weight" in one.rule]
    (other,) = (
        one for one in lint(f"{heeded}, {{{{smile}}}}", weighted=True) if "weight" in one.rule
    )
    assert "{{smile}}" in other.reason


def test_the_weight_of_an_element_is_told_where_it_does_nothing() -> None:
    text = '<character_1><appearance weight="1.2">red_eyes</appearance></character_1>'
    (found,) = lint(text)
    assert found.rule == "unheeded-weight"
    assert "--weighting" in found.fix
    assert lint(text, weighted=True) == ()
