"""Prompts that leave a choice: what is chosen, how often, in how many ways, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest

from sakuga.errors import RequestError
from sakuga.prompt.document import read
from sakuga.prompt.wildcards import Wildcards

pytestmark = pytest.mark.unit


@pytest.fixture
def cards(tmp_path: Path) -> Wildcards:
    (tmp_path / "colour.txt").write_text("# colours\nred\nblue\n\n2::green\n")
    (tmp_path / "hair.txt").write_text("__colour___hair\nlong {straight|curly} hair\n")
    (tmp_path / "dress").mkdir()
    (tmp_path / "dress" / "summer.txt").write_text("sundress\n")
    (tmp_path / "dress" / "winter.txt").write_text("coat\nscarf\n")
    (tmp_path / "hearts.txt").write_text("<3 & more\n")
    (tmp_path / "a.txt").write_text("__b__\n")
    (tmp_path / "b.txt").write_text("x\n__a__\n")
    return Wildcards(tmp_path)


@pytest.mark.parametrize(
    ("text", "ways"),
    [
        ("1girl", ["1girl"]),
        ("{a|b} c", ["a c", "b c"]),
        ("{a|}", ["a", ""]),
        ("{a|{b|c}}", ["a", "b", "c"]),
        ("{2$$a|b|c}", ["a, b", "a, c", "b, c"]),
        ("{1-2$$ and $$a|b}", ["a", "b", "a and b"]),
        ("{0-1$$a|b}", ["", "a", "b"]),
        ("{-1$$a|b}", ["", "a", "b"]),
        ("{3::a|1.5::b}", ["a", "b"]),
        (r"\{a\|b\} \__x__", ["{a|b} __x__"]),
        ("{smile} :|", ["{smile} :|"]),
        ("{a|b", ["{a|b"]),
        ("{a|{b|c}", ["{a|b", "{a|c"]),
        ("{a|" * 500, ["{a|" * 500]),
        ("a}", ["a}"]),
        ("__colour__ hair", ["red hair", "blue hair", "green hair"]),
        ("__dress/*__", ["sundress", "coat", "scarf"]),
        ("{2$$__colour__|x}", ["red, x", "blue, x", "green, x"]),
        ("long__hair", ["long__hair"]),
    ],
)
def test_the_ways_of_a_text(cards: Wildcards, text: str, ways: list[str]) -> None:
    assert [one.text for one in cards.all(text)] == ways
    assert cards.count(text) == len(ways)
    assert {cards.pick(text, Random(i)).text for i in range(40)} <= {
        *ways, *(", ".join(reversed(one.split(", "))) for one in ways),
        *(" and ".join(reversed(one.split(" and "))) for one in ways),
    }  # fmt: skip


def test_weights_are_kept_and_a_seed_chooses_the_same(cards: Wildcards) -> None:
    found = Counter(cards.pick("{3::a|b}", Random(i)).text for i in range(2000))
    assert 0.7 < found["a"] / 2000 < 0.8
    assert len({cards.pick("__hair__ {a|b|c}", Random(7)).text for _ in range(20)}) == 1


def test_what_was_chosen_is_said(cards: Wildcards) -> None:
    chosen = cards.pick("__colour__ {hat|hat}", Random(1))
    assert chosen.notes == (f"__colour__: {chosen.text.split()[0]}", "{hat|hat}: hat")


def test_xml_stays_whole(cards: Wildcards) -> None:
    text = "<character_1><n>a</n><appearance>__hearts__, {red|blue}_eyes</appearance></character_1>"
    for chosen in (*cards.all(text), cards.pick(text, Random(0))):
        (block,) = read(chosen.text).blocks
        assert "<3 & more" in {one.text.split(",")[0] for one in block.fields}
    assert cards.pick("__hearts__", Random(0)).text == "<3 & more"


def test_a_slot_of_the_table_of_tags_is_a_wildcard() -> None:
    cards = Wildcards()
    colours = {one.text for one in cards.all("__hair_colour__")}
    assert {"blue_hair", "black_hair"} <= colours
    assert colours == {one.text for one in cards.all("__hair_color__")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("__a__", "a -> b -> a"),
        ("__colours__", "Did you mean __colour__?"),
        ("{4$$a|b}", "takes no more than there are"),
        ("{2-1$$a|b}", "a range goes up"),
        ("{a|" * 40 + "}" * 40, "deep at most"),
    ],
)
def test_what_cannot_be_is_refused(cards: Wildcards, text: str, said: str) -> None:
    with pytest.raises(RequestError, match=said.replace("$", r"\$").replace("?", r"\?")):
        cards.count(text)


def test_many_ways_are_counted_without_being_walked(cards: Wildcards) -> None:
    assert cards.count("{a|b|c|d|e|f|g|h|i|j}" * 9) == 10**9
    assert cards.count("{20$$" + "|".join(map(str, range(40))) + "}") == 137_846_528_820
