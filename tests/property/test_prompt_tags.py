"""Tags of the table: none contradicts itself, whatever it is called and whatever it implies."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sakuga.prompt.lint import lint
from sakuga.prompt.nearest import Vocabulary
from sakuga.prompt.reader import escape
from sakuga.prompt.tag_table import all_keys, implied_by

KEYS = list(all_keys())
ABOUT_SLOTS = {"slot-contradicted", "slot-blurred"}


@given(st.sampled_from(KEYS))
def test_a_tag_with_its_names_and_what_it_implies_is_one_description(key: str) -> None:
    names = [key, *(tag.name for tag in implied_by(key))]
    text = f"<character_1><appearance>{escape(', '.join(names))}</appearance></character_1>"
    assert not ABOUT_SLOTS & {one.rule for one in lint(text)}


@given(st.sampled_from(KEYS), st.frozensets(st.sampled_from(KEYS), min_size=1, max_size=9))
def test_advice_is_about_words_of_the_vocabulary(key: str, words: frozenset[str]) -> None:
    advice = Vocabulary(words).advice(key)
    assert not advice.startswith("Write") or advice[6:].removesuffix(", which it knows.") in words
