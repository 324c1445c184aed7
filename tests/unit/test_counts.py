"""Counts against each other and against the characters there are."""

from __future__ import annotations

import time

import pytest

from sakuga.prompt.lint import Finding, lint


def found(text: str, rule: str = "count-mismatch") -> list[Finding]:
    return [one for one in lint(text) if one.rule == rule]


def characters(*genders: str) -> str:
    return "".join(
        f"<character_{n}><n>x</n><gender>{gender}</gender></character_{n}>"
        for n, gender in enumerate(genders, 1)
    )


DENIED = [
    "2girls, solo",
    "1girl, 1boy, solo",
    "multiple_girls, solo",
    "1girl, 2girls",
    "1girl, multiple_girls",
    "5girls, 6+girls",
    "1boy, 3boys, multiple_boys",
    "no_humans, 1boy",
    "2girls, 1boy, duo",
    "solo, duo",
    "one_girl, two_girls",
    "sole_female, 2girls",
]
AGREED = [
    "1girl, solo",
    "2girls, multiple_girls",
    "6+girls, multiple_girls",
    "2+girls, 3girls",
    "1girl, 1boy",
    "1girl, 1boy, solo_focus",
    "2girls, solo_focus, duo",
    "1girl, duo",
    "no_humans, scenery",
    "no_humans, solo, cat",
    "2people, 1girl, 1boy",
    "1girl, 1girl",
    "1girl, 3",
    "two girls look at 1girl in a mirror, solo",
]


@pytest.mark.parametrize("tags", DENIED)
@pytest.mark.parametrize("form", ["{}, smile", "<general_tags><count>{}</count></general_tags>"])
def test_counts_that_cannot_all_be_true(tags: str, form: str) -> None:
    (one,) = found(form.format(tags))
    assert one.severity == "warning"


@pytest.mark.parametrize("tags", AGREED)
def test_counts_that_can_all_be_true(tags: str) -> None:
    assert found(f"{tags}, smile") == []


def test_counts_of_two_fields_are_held_together() -> None:
    text = "<general_tags><count>2girls</count><other>solo, 4</other></general_tags>"
    (one,) = found(text)
    assert one.column == text.index("solo") + 1
    assert found(text.replace("solo", "solo_focus")) == []


def test_solo_with_others_names_solo_focus() -> None:
    text = characters("1girl", "1girl") + "<general_tags><count>2girls, solo</count></general_tags>"
    (one,) = found(text)
    assert "solo_focus" in one.fix
    focus = text.replace("solo", "solo_focus")
    assert found(focus) == []


@pytest.mark.parametrize(
    ("genders", "count", "fits"),
    [
        (("1girl", "1girl"), "2girls", True),
        (("1girl", "1boy"), "1girl, 1boy", True),
        (("1girl", "1girl"), "multiple_girls", True),
        (("1girl",) * 6, "6+girls", True),
        (("1girl",), "no_humans", False),
        (("1girl",), "1boy", False),
        (("1girl", "1girl"), "solo", False),
        (("1girl", "1boy"), "1girl, duo", True),
        (("1girl", "1girl"), "1girl, duo", False),
    ],
)
def test_counts_against_the_characters(genders: tuple[str, ...], count: str, fits: bool) -> None:
    general = f"<general_tags><count>{count}</count></general_tags>"
    assert (found(characters(*genders) + general) == []) is fits


def test_a_count_in_another_general_field_counts_too() -> None:
    text = characters("1girl") + "<general_tags><style>2girls, 3</style></general_tags>"
    (one,) = found(text)
    assert one.reason.startswith("<style> says 2girls, but")
    assert found(text.replace("2girls", "sketch")) == []


@pytest.mark.parametrize(
    ("tags", "crowded"),
    [("5girls, beach", True), ("6+girls", True), ("3girls, 2boys", True), ("4girls", False),
     ("5girl_scouts", False)],
)  # fmt: skip
def test_flat_tags_of_more_than_the_model_keeps_apart(tags: str, crowded: bool) -> None:
    assert bool(found(tags, "too-many-characters")) is crowded


def test_very_many_counts_take_no_time() -> None:
    text = "solo, " + ", ".join(f"{n}+girls" for n in range(1, 1000)) * 6
    began = time.process_time()
    assert len(found(text)) == 1
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("tag", "home"), [("1girl", "gender"), ("1boy", "gender"), ("2girls", "count"),
                      ("solo", "count"), ("multiple_girls", "count")],
)  # fmt: skip
def test_a_count_in_a_field_that_describes_is_misplaced(tag: str, home: str) -> None:
    (one,) = found(f"<character_1><appearance>{tag}</appearance></character_1>", "misplaced-tag")
    assert one.fix == f"Move it to <{home}>."


@pytest.mark.parametrize("text", ["1girl, smile 50", "1girl, iso 100, 85mm", "1girl, level 9"])
def test_a_number_within_a_tag_counts_nobody(text: str) -> None:
    assert not {"too-many-characters", "count-mismatch"} & {one.rule for one in lint(text)}
