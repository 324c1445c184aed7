"""`sakuga words`: what a model was taught, slot by slot."""

from __future__ import annotations

import json
import re
from functools import partial

import pytest

from sakuga.checkpoint.catalog import lint_profile

pytestmark = pytest.mark.contract


@pytest.fixture
def words(run):
    return partial(run, "words")


def test_every_word_of_the_model_is_printed_once_in_its_slot(words) -> None:
    done = words("--json")
    assert (done.returncode, done.stderr) == (0, "")
    listed = json.loads(done.stdout)
    assert {"twintails", "twin_tails"} <= set(listed["hair style"])
    assert "classroom" in listed["background"]
    printed = [word for slot in listed.values() for word in slot]
    taught = lint_profile("chibi").vocabulary
    assert taught
    assert len(printed) == len(set(printed))
    assert set(printed) <= taught
    plain = {re.sub(r"[\s_-]+", "_", word) for word in taught}
    assert {re.sub(r"[\s_-]+", "_", word) for word in printed} == plain


def test_words_with_many_pairs_are_folded_for_people(words) -> None:
    done = words()
    assert done.returncode == 0
    assert "red_..." in done.stdout
    assert "red_dress" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_a_word_is_looked_up_and_a_slot_is_listed(words) -> None:
    done = words("gym", "smile", "hodie", "expression")
    assert (done.returncode, done.stderr) == (0, "")
    assert "gym: not taught. Use what it knows of background, such as" in done.stdout
    assert "smile: known, of expression." in done.stdout
    assert "hodie: not taught. Write hoodie, which it knows." in done.stdout
    assert "expression: :d," in done.stdout
    assert "hair style" not in done.stdout
    assert set(json.loads(words("gym", "expression", "--json").stdout)) == {"gym", "expression"}


def test_a_model_that_lists_no_words_says_so(words) -> None:
    done = words("--model", "newbie-3.5b")
    assert done.returncode == 2
    assert "lists none" in done.stderr
    assert "Traceback" not in done.stderr
