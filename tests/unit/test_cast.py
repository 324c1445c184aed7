"""The list of names: whom it knows, by which names, and what is not in it."""

from __future__ import annotations

import zlib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from sakuga.prompt import cast
from sakuga.prompt.cast import known_name
from sakuga.prompt.tag_table import known_tag

TABLE = Path(cast.__file__).with_name("cast.txt")
SCRIPT = Path(__file__).parents[2] / "scripts" / "cast.py"


@pytest.mark.parametrize(
    ("key", "who"),
    [
        ("hatsune_miku", ("hatsune_miku", "character", False)),
        ("miku", ("hatsune_miku", "character", False)),
        ("rin_tohsaka", ("tohsaka_rin", "character", False)),
        ("kagamine_len", ("kagamine_len", "character", True)),
        ("somebody_(genshin_impact)", ("somebody_(genshin_impact)", "character", False)),
        ("touhou", ("touhou", "work", False)),
        ("watercolor_(medium)", None),
        ("blue_hair", None),
        ("frimbly", None),
        ("", None),
        ("\ud800", None),
    ],
)
def test_whom_a_key_names(key: str, who: tuple[str, str, bool] | None) -> None:
    assert known_name(key) == who


def test_every_other_name_leads_to_somebody_and_none_is_a_tag() -> None:
    data = TABLE.read_text(encoding="utf-8")
    rows = [line.split("\t") for line in data.splitlines() if line and not line.startswith("#")]
    keys = [key for key, *_ in rows]
    assert keys == sorted(set(keys))
    assert [key for key in keys if known_tag(key)] == []
    assert [row for row in rows if known_name(row[0]) is None] == []
    assert {tuple(row[1:]) for row in rows if row[1] != "="} == {("c",), ("c", "m"), ("w",)}
    assert "media-compost 1.2.0" in data
    assert len(zlib.compress(data.encode())) <= 200_000


def test_the_list_has_names_that_are_drawn_often_and_nothing_else() -> None:
    spec = spec_from_file_location("cast_script", SCRIPT)
    assert spec
    assert spec.loader
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    entries = [
        {
            "name": "A-ko_(x)",
            "count": 900,
            "aliases": ["ako", "/a", "dress", "ab"],
            "category": ["X"],
        },
        {"name": "b-o", "count": 300, "description": "said of him"},
        {"name": "seldom", "count": 3},
        {
            "name": "the_works",
            "count": 500,
            "category": ["Series", "Y"],
            "aliases": ["tw", "works!"],
        },
        {"name": "shota_x", "count": 900},
        {"name": "hat", "count": 900},
    ]
    assert script.rows(entries, frozenset({"b_o"})) == [
        "a_ko_(x)\tc", "ako\t=\ta_ko_(x)", "b_o\tc\tm", "the_works\tw", "works!\t=\tthe_works",
    ]  # fmt: skip
