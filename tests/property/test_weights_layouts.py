"""Every layout reads back what it writes, and accounts for every key once."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sakuga.checkpoint.families.detect import detect
from sakuga.checkpoint.families.layout import NUMBER, WORDS, KeyLayout
from sakuga.checkpoint.families.match import Explanation, Match, explain, rewrite
from sakuga.checkpoint.families.tables import LAYOUTS

LAYOUT = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
Shapes = dict[str, tuple[int, ...]]


@st.composite
def our_tensors(draw: st.DrawFn, layout: KeyLayout) -> Shapes:
    """Some tensors of ours that the layout's rules know; whole groups, equal shapes.

    What is counted from the other end is there from 0 on, as in any model. Rows can be shared
    out evenly.
    """
    made: Shapes = {}
    for rule in draw(st.lists(st.sampled_from(layout.rules), min_size=1, max_size=8)):
        words = {
            name: draw(st.integers(0, 40).map(str) if choices is None else st.sampled_from(choices))
            for name, choices in placeholders(rule.ours[0])
        }
        shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
        shape = (shape[0] * len(rule.theirs), *shape[1:])
        for pattern in rule.ours:
            for number in (words["up"], "0") if "up" in words else ("",):
                made[pattern.format(**words | {"up": number})] = shape
    return made


def account(
    match: Match, found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]
) -> Explanation:
    """Every key of a file against what a model wants, whose rows its splits follow."""
    return explain(match, rewrite(match, found, wanted)[0], found, wanted)


def placeholders(pattern: str) -> list[tuple[str, list[str] | None]]:
    """The placeholders of a pattern and what each may stand for; None: a number."""
    return [
        (name, None if WORDS[name] == NUMBER else WORDS[name].replace("\\", "").split("|"))
        for name in re.findall(r"{(\w+)}", pattern)
    ]


@LAYOUT
@given(data=st.data())
def test_ours_to_theirs_to_ours_is_the_identity(layout: KeyLayout, data: st.DataObject) -> None:
    ours = data.draw(our_tensors(layout))
    prefix = data.draw(st.sampled_from(layout.prefixes))
    written, left = rewrite(Match(layout.inverse), ours)
    assert left == ()
    theirs = {prefix + piece.target: piece.shape for piece in written}
    told = account(Match(layout, prefix), theirs, ours)
    assert told.complete
    assert {piece.target: piece.shape for piece in told.pieces} == ours
    assert told.dropped == ()
    there = {piece.sources: piece.shift for piece in written}
    for piece in told.pieces:
        if piece.shift:
            assert there[(piece.target,)] == -piece.shift


@LAYOUT
@given(data=st.data())
def test_every_key_has_exactly_one_fate(layout: KeyLayout, data: st.DataObject) -> None:
    ours = data.draw(our_tensors(layout))
    theirs = {piece.target: piece.shape for piece in rewrite(Match(layout.inverse), ours)[0]}
    theirs |= data.draw(st.dictionaries(st.text(max_size=9), st.just((2,)), max_size=3))
    kept = data.draw(st.sets(st.sampled_from(sorted(ours))))
    wanted = {key: shape for key, shape in ours.items() if key in kept}
    told = account(Match(layout), theirs, wanted)
    used = {key for piece in told.pieces for key in piece.sources}
    dropped = {key for key, _ in told.dropped}
    unexpected = set(told.unexpected)
    assert used | dropped | unexpected == set(theirs)
    assert len(used) + len(dropped) + len(unexpected) == len(theirs)
    assert {piece.target for piece in told.pieces} | set(told.missing) == set(wanted)


@LAYOUT
@given(order=st.randoms(use_true_random=False), prefix=st.data())
def test_detection_is_by_the_set_of_keys(
    layout: KeyLayout, order: object, prefix: st.DataObject
) -> None:
    start = prefix.draw(st.sampled_from(layout.prefixes))
    keys = [start + mark for mark in layout.marks]
    order.shuffle(keys)  # type: ignore[attr-defined]
    assert detect(keys) == Match(layout, start)
