"""Tags that complete what is begun: in which order, and under which names."""

from __future__ import annotations

from sakuga.prompt.completion import MOST, complete
from sakuga.prompt.nearest import Vocabulary

KNOWN = Vocabulary(frozenset({"blue_hair", "blue_dress", "frimbly blue"}))


def test_without_a_model_the_most_used_comes_first() -> None:
    found = complete("blue_h")
    assert found[0].tag == "blue_hair"
    assert all(one.taught is None for one in found)
    begins = [one.uses for one in found if one.tag.startswith("blue_h")]
    assert begins == sorted(begins, reverse=True)


def test_what_the_field_takes_comes_before_the_rest() -> None:
    fields = [one.field for one in complete("blue", field="clothing", limit=MOST)]
    assert fields[0] == "clothing"
    assert fields == sorted(fields, key=lambda one: one != "clothing")


def test_what_a_model_was_taught_comes_first_also_what_no_list_has() -> None:
    found = complete("blue", vocabulary=KNOWN, field="clothing")
    assert [one.tag for one in found[:3]] == ["blue_dress", "blue_hair", "frimbly blue"]
    assert [one.taught for one in found[:4]] == [True, True, True, False]


def test_spaces_and_capitals_are_read_as_a_tag_has_them() -> None:
    assert complete("Blue ha")[0].tag == "blue_hair"


def test_a_word_within_a_tag_is_found_behind_those_that_begin() -> None:
    found = [one.tag for one in complete("uniform", limit=MOST)]
    assert "school_uniform" in found
    starts = [not tag.startswith("uniform") for tag in found]
    assert starts == sorted(starts)


def test_nothing_begun_offers_what_is_taught_or_nothing() -> None:
    assert complete("") == ()
    assert [one.tag for one in complete("", field="appearance", vocabulary=KNOWN)] == ["blue_hair"]
