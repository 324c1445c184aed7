"""Flat prompts as XML and back: the pairs, and what is told of what is not sure."""

from __future__ import annotations

import time
from random import Random

import pytest
from prompt_pairs import Pair, heard, pairs, said_of, score

from sakuga.prompt.canonical import canonical
from sakuga.prompt.document import read
from sakuga.prompt.flattened import JOINTS, Joint, flattened
from sakuga.prompt.lint import lint
from sakuga.prompt.structured import as_xml, structured

TUNED = 91  # the pairs behind were written when the rules stood
SURE = "2girls, hatsune_miku, aqua_hair, twintails, kagamine_rin, blonde_hair, hair_bow, stage"


def totals(chosen: list[Pair]) -> tuple[float, float, list[str]]:
    """Shares of characters and of slots right, and what is wrong."""
    right = [0, 0, 0, 0]
    wrong: list[str] = []
    for pair in chosen:
        *counts, said = score(pair, heard(pair.prompt))
        right = [a + b for a, b in zip(right, counts, strict=True)]
        wrong += [f"{pair.number}: {one}" for one in said]
    return right[0] / right[1], right[2] / right[3], wrong


def test_the_pairs_are_many_and_of_many_kinds() -> None:
    found = pairs()
    assert len(found) >= 80
    assert {len(pair.said.people) for pair in found} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("name", "least"), [("odd", 0.98), ("even", 0.94), ("written later", 0.92), ("all", 0.95)]
)
def test_characters_and_slots_are_those_of_the_pairs(name: str, least: float) -> None:
    parts = {
        "odd": [p for p in pairs() if p.number <= TUNED and p.number % 2],
        "even": [p for p in pairs() if p.number <= TUNED and not p.number % 2],
        "written later": [p for p in pairs() if p.number > TUNED],
        "all": pairs(),
    }
    characters, slots, wrong = totals(parts[name])
    assert characters >= 0.98, wrong
    assert slots >= least, wrong


@pytest.mark.parametrize("joint", JOINTS)
@pytest.mark.parametrize("spaces", [False, True])
def test_xml_that_tells_characters_apart_comes_back_from_flat_tags(
    joint: Joint, spaces: bool
) -> None:
    xml = canonical(structured(read(SURE)).document)
    flat = flattened(read(xml), spaces=spaces, joint=joint)
    assert said_of(canonical(structured(read(flat)).document)) == said_of(xml)
    assert ("_" in flat) is not spaces


@pytest.mark.parametrize("joint", JOINTS)
def test_most_pairs_survive_the_way_to_flat_tags_and_back(joint: Joint) -> None:
    right = [0, 0, 0, 0]
    for pair in pairs():
        xml = canonical(structured(read(pair.prompt)).document)
        flat = flattened(read(xml), joint=joint)
        back = Pair(pair.number, pair.kind, flat, said_of(xml))
        *counts, _ = score(back, heard(flat))
        right = [a + b for a, b in zip(right, counts, strict=True)]
    assert right[0] / right[1] >= 0.90
    assert right[2] / right[3] >= 0.90


def test_flat_tags_read_from_counts_to_quality() -> None:
    xml = (
        "<general_tags><quality>masterpiece</quality><count>1girl, 1boy</count>"
        "<artists>x</artists><background>sky</background></general_tags>"
        "<character_2><n>len</n><gender>1boy</gender><clothing>hat</clothing></character_2>"
        "<character_1><gender>1girl</gender><position>left</position>"
        "<appearance>blue_hair</appearance></character_1><caption>They wait.</caption>"
    )
    assert flattened(read(xml)) == (
        "1girl, 1boy, left, blue_hair, len, hat, artist:x, sky, masterpiece, They wait."
    )
    assert flattened(read(xml), spaces=True, joint="bar") == (
        "1girl, 1boy, artist:x, sky, masterpiece | 1girl, left, blue hair | len, 1boy, hat, "
        "They wait."
    )


def test_what_is_not_sure_is_told_where_it_stands() -> None:
    text = "2girls, smile, frimbly, red hair, blue hair, green hair"
    found = {(one.rule, text[one.column - 1 : one.end_column - 1]) for one in _told(text)}
    assert ("unsure-tag", "frimbly") in found
    assert ("unsure-owner", "green hair") in found
    assert ("unsure-owner", "smile") in found
    assert _told(SURE) == []


def _told(text: str) -> list:
    return [one for one in lint(text, form="as xml") if one.rule.startswith("unsure")]


def test_lint_tells_once_that_a_model_was_trained_on_xml() -> None:
    rules = [one.rule for one in lint("1girl, blue_hair, smile", form="better as xml")]
    assert rules == ["flat-prompt"]
    for text in ("1girl", as_xml("1girl, blue_hair")):
        assert [one for one in lint(text, form="better as xml") if one.rule == "flat-prompt"] == []
    assert [one for one in lint("1girl, smile") if one.rule == "flat-prompt"] == []


def test_xml_stays_as_it_is_and_system_prompts_stay_in_front() -> None:
    xml = "<character_1><n>miku</n></character_1>"
    assert as_xml(xml) is xml
    made = as_xml("You are a painter. <Prompt Start> 1girl, red_hair")
    assert made.startswith("You are a painter. <Prompt Start>\n<character_1>")
    assert as_xml(made) == made


SAID = (
    "hatsune_miku", "kagamine_len", "on left", "right", "both smiling", "blue hair", "red hair",
    "long hair", "green eyes", "red eyes", "heterochromia", "twintails", "dress", "hat", "beard",
    "smile", "sitting", "holding hands", "outdoors", "beach", "masterpiece", "frimbly", "sword",
    "by wlop", "safe", "cowboy shot", "vocaloid", "Aoi Tanaka", "old castle", "no humans",
)  # fmt: skip
COUNTS = ("", "1girl", "1boy", "2girls", "1girl, 1boy", "multiple girls", "solo", "3girls", "girl")


JOINED = (", ", ", ", ", ", " | ", "\n", " BREAK ", ", 1girl, ")


@pytest.mark.parametrize("seed", range(4))
def test_nothing_that_is_said_is_lost(seed: int) -> None:
    rng = Random(seed)
    for _ in range(150):
        tags = rng.sample(SAID, rng.randint(0, 9))
        text = rng.choice(COUNTS) + "".join(rng.choice(JOINED) + tag for tag in tags)
        drawn = canonical(structured(read(text)).document)
        assert [tag for tag in tags if tag.removeprefix("both ") not in drawn] == [], text
        assert canonical(structured(read(drawn)).document) == drawn


@pytest.mark.parametrize(
    "text",
    [
        "a " * 16_000, "(" * 30_000, ", ".join(["1girl"] * 4_000), "a." * 8_000, "|" * 30_000,
        "A girl " * 2_000, "BREAK " * 2_000, "2girls, " + "red hair, blue hair, " * 600,
        "a: " * 5_000, "a (" * 5_000, "99girls, red hair, blue hair", "女の子と" * 4_000,
    ],
)  # fmt: skip
def test_no_text_takes_long_or_breaks(text: str) -> None:
    start = time.process_time()
    document = structured(read(text)).document
    flattened(document)
    assert canonical(document) or set(text) <= set("BREAK |")
    assert time.process_time() - start < 4
