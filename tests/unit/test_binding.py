"""The binding benchmark: what is asked, in which forms, and what becomes of it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image

from sakuga.chibi.binding import forms
from sakuga.chibi.binding.asks import alike, full, peers, placed, rare, sparse
from sakuga.chibi.binding.bench import Judged, figures
from sakuga.chibi.binding.draw import batch_of
from sakuga.chibi.binding.page import atoms_of, curves, differences, lines_of, pictures_of, table
from sakuga.chibi.binding.quick import Verdicts, quick_rows, same_share
from sakuga.chibi.binding.rows import ENCODINGS, SIZES, all_rows, chosen
from sakuga.chibi.binding.scorers import JudgeScorer, Sight, TaggerScorer, standing
from sakuga.chibi.binding.sheets import Sheets
from sakuga.chibi.binding.truth import Truth
from sakuga.chibi.binding.verdict import Tally, judged, wilson
from sakuga.chibi.scene import Scene, held_out, layout, random_scene
from sakuga.chibi.vocabulary import CHARACTER_SLOTS, TAGS, VALUES, meaning
from sakuga.prompt.document import read

MAKES = (sparse, full, peers, alike, rare, placed)


def sight_of(scene: Scene) -> Sight:
    """What whoever sees everything sees of a scene."""
    slots = (*CHARACTER_SLOTS[:-1],)
    people = tuple({slot: getattr(one, slot) for slot in slots} for one in scene.characters)
    around = {"background": scene.background, "lighting": scene.lighting}
    return Sight(people, around, len(people), (True,) * len(people))


@pytest.mark.parametrize("make", MAKES)
def test_what_is_asked_was_never_in_training(make) -> None:
    rng = np.random.default_rng(9)
    trained = {
        (one.hair_color, one.eye_color, one.garment_color)
        for _ in range(1500)
        for one in random_scene(rng).characters
    }
    for people in (1, 3):
        for index in range(6):
            for one in make(index, people, 3).scene.characters:
                assert held_out(one)
                assert (one.hair_color, one.eye_color, one.garment_color) not in trained


@pytest.mark.parametrize("said", [1, 2, 3, 4, 6, 8])
def test_so_much_is_said_of_a_lone_character_and_nothing_else(said: int) -> None:
    for index in range(20):
        ask = sparse(index, 1, said)
        assert len(ask.people[0]) - 1 + len(ask.around) == said
        assert ask.scene == sparse(index, 1, 1).scene  # whatever is said of it
        (one,) = ask.scene.characters
        drawn = {(slot, getattr(one, slot)) for slot in CHARACTER_SLOTS}
        drawn |= {("background", ask.scene.background)}
        told = {pair for tag in (*ask.people[0].values(), *ask.around.values())
                for pair in meaning(tag)}  # fmt: skip
        assert told <= drawn


@pytest.mark.parametrize("people", [2, 3, 4])
def test_look_alikes_differ_in_one_attribute(people: int) -> None:
    kinds = set()
    for index in range(8):
        first, *others = alike(index, people, 8).scene.characters
        differ = {
            slot
            for other in others
            for slot in CHARACTER_SLOTS
            if getattr(first, slot) != getattr(other, slot)
        }
        assert len(differ) == 1
        assert len({getattr(one, *differ) for one in (first, *others)}) == people
        kinds |= differ
    assert len(kinds) > 2


def test_rows_have_names_of_their_own_and_cover_what_is_asked_of_them() -> None:
    rows = all_rows()
    assert len({row.name for row in rows}) == len(rows)
    assert {row.encoding for row in rows} == set(ENCODINGS)
    assert {row.people for row in rows if row.group == "who"} == {1, 2, 3, 4, 5, 6}
    aspects = {width / height for width, height in SIZES}
    assert len(aspects) >= 7
    assert {side for size in SIZES for side in size} >= {192, 512}
    typed = Counter((row.form, row.said, row.people) for row in rows if row.encoding == "as typed")
    assert all(count == 1 for count in typed.values())
    assert all(row.encoding != "as XML" or row.write is not forms.flat
               for row in chosen((), as_typed=True))  # fmt: skip
    assert {row.group for row in chosen(["who: XML"])} == {"who"}


@pytest.mark.parametrize("name", sorted({row.form for row in all_rows()}))
def test_every_form_says_what_is_asked_and_the_same_each_time(name: str) -> None:
    row = next(row for row in all_rows() if row.form == name)
    for index in range(4):
        ask, text = row.ask(index)
        assert (ask, text) == row.ask(index)
        structured = read(text).structured
        assert structured == name.startswith(("XML", "look-alikes", "places", "rare"))
        if "prose" in name:
            continue
        plain = text.replace(" ", "_") if "spaces" in name else text
        for tag in (*(tag for said in ask.people for tag in said.values()), *ask.around.values()):
            assert tag in plain or (tag.startswith("1") and not structured)


@pytest.mark.parametrize("language", ["en", "zh", "ja"])
def test_prose_says_each_thing_once(language: str) -> None:
    ask = sparse(2, 1, 6)
    text = forms.prose(language)(ask, Random(0))
    assert text.count("," if language == "en" else "、" if language == "ja" else "，") >= 5
    assert ("_" in text) is False


def test_unknown_words_have_their_share() -> None:
    words = known = 0
    for index in range(60):
        ask = sparse(index, 1, 4)
        tags = forms.flat_strangers(0.3)(ask, Random(index)).split(", ")[1:]
        words += len(tags)
        known += sum(bool(meaning(tag)) for tag in tags)
    assert 0.25 < 1 - known / words < 0.35


def test_all_right_means_every_atom_that_was_said() -> None:
    ask = full(0, 2, 8)
    seen = sight_of(ask.scene)
    verdict = judged(ask, seen)
    assert verdict.whole
    assert len(verdict.atoms) == 16
    assert verdict.leaked == 0
    assert verdict.code == f"{'1' * 16} 1 2"


def test_an_attribute_of_another_is_a_leak_and_a_third_value_is_none() -> None:
    ask = full(3, 2, 8)
    one, two = ask.scene.characters
    assert one.hair_color != two.hair_color
    third = next(v for v in VALUES["hair_color"] if v not in (one.hair_color, two.hair_color))
    seen = sight_of(ask.scene)
    for value, leaked in ((two.hair_color, 1), (third, 0)):
        wrong = replace(
            seen, figures=({**seen.figures[0], "hair_color": value}, seen.figures[1]), count=3
        )
        verdict = judged(ask, wrong)
        assert not verdict.whole
        assert verdict.leaked == leaked
        assert verdict.could >= 1
        assert not verdict.counted


def test_a_place_that_was_asked_for_is_an_atom() -> None:
    ask = placed(0, 3, 5)
    seen = replace(sight_of(ask.scene), placed=(True, False, True))
    verdict = judged(ask, seen)
    assert [right for slot, right in verdict.atoms if slot == "position"] == [True, False, True]
    assert verdict.placed == 2


def test_an_interval_is_wilsons() -> None:
    # Newcombe (1998), table I: 81 of 263, and 15 of 148, by the score method without correction.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(20, 20)[1] == 1.0


def test_a_head_is_one_persons() -> None:
    scene = full(1, 2, 8).scene
    places = layout(scene)
    middles = [((p.face.x0 + p.face.x1) / 2, (p.face.y0 + p.face.y1) / 2) for p in places]
    assert standing(middles, places) == (True, True)
    assert standing(middles[:1] * 2, places) == (True, False)
    assert standing([(0.02, 0.02)], places) == (False, False)


def test_a_tagger_on_crops_is_a_scorer_too() -> None:
    """A stand-in that knows where figures are and what each crop shows by its colour."""
    scene = placed(1, 2, 5).scene
    places = layout(scene)
    size, shades = 200, {}
    picture = np.zeros((size, size, 3), np.uint8)
    for shade, (one, place) in enumerate(zip(scene.characters, places, strict=True), 1):
        box = place.box
        rows = slice(max(int(box.y0 * size), 0), int(box.y1 * size))
        picture[rows, max(int(box.x0 * size), 0) : int(box.x1 * size)] = 60 * shade
        shades[60 * shade] = one

    def tag(crop):
        if crop.shape[:2] == (size, size):
            return {TAGS["background"][scene.background][0]: 0.8}
        one = shades[int(np.median(crop))]
        return {
            f"{one.hair_color}_hair": 0.9,
            "blue_eyes" if one.eye_color != "blue" else "red_eyes": 0.2,
            f"{one.garment_color}_{one.garment}": 0.7,
        }

    scorer = TaggerScorer(lambda _: [place.box for place in reversed(places)], tag)
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None] / 127.5 - 1
    (seen,) = scorer.look(pixels, [scene])
    assert seen.count == 2
    assert seen.placed == (True, True)
    assert seen.around == {"background": scene.background}
    for one, values in zip(scene.characters, seen.figures, strict=True):
        assert values["hair_color"] == one.hair_color
        assert values["garment_color"] == one.garment_color
        assert "eye_color" not in values  # of which it is not sure
    lone = TaggerScorer(lambda _: [places[1].box], tag)
    assert lone.look(pixels, [scene])[0].placed.count(True) == 1


def test_renders_are_of_the_same_scenes_each_time_and_made_once() -> None:
    scenes = [full(index, 1, 8).scene for index in range(2)]
    with Truth(workers=0) as truth:
        pixels = truth.of(scenes, (128, 128))
        assert truth.of(scenes, (128, 128)) is not None
    assert pixels.shape == (2, 128, 128, 3)
    with Truth(workers=1) as truth:
        assert np.array_equal(truth.of(scenes, (128, 128)), pixels)


def _figures(name: str, right: int, of: int = 10) -> dict[str, object]:
    row = next(row for row in all_rows() if row.name == name)
    ask, _ = row.ask(0)
    seen = sight_of(ask.scene)
    tally = Tally()
    for index in range(of):
        wrong = replace(seen, figures=({}, *seen.figures[1:]))
        tally.add(judged(ask, seen if index < right else wrong))
    return json.loads(json.dumps(figures(row, tally, tally)))


def test_the_page_shows_intervals_renders_and_what_a_form_is_worth() -> None:
    names = [f"said: XML, {k} said" for k in (1, 2, 4, 8)]
    rows = [_figures(name, 9) for name in names]
    rows += [_figures("said: flat, 2 said", 10), _figures("said: flat, 2 said, as typed", 5)]
    text = table(rows, "said")
    assert "90.0 (59.6-98.2)" in text
    assert text.count("\n") == 1 + len(rows)
    assert "+50.0" in differences(rows)
    assert list(lines_of(rows)) == ["XML"]
    assert [atoms_of(one) for one in lines_of(rows)["XML"]] == sorted(map(atoms_of, rows[:4]))
    svg = curves(rows, "a < b")
    assert svg.startswith("<svg")
    assert "a &lt; b" in svg
    assert set(pictures_of(rows)) == {"binding_said.svg", "binding_typed.svg", "binding_who.svg"}


def test_sheets_keep_the_best_and_the_worst(tmp_path: Path) -> None:
    sheets = Sheets()
    for row in all_rows()[:3]:
        ask, text = row.ask(0)
        seen = sight_of(ask.scene)
        for sight in (replace(seen, figures=({},)), seen):
            pixels = np.full((64, 64, 3), 200, np.uint8)
            sheets.keep(Judged(row, ask, text, pixels, judged(ask, sight)))
    sheets.write(tmp_path)
    for name in ("best", "worst"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.size[0] == 6 * 144


def test_verdicts_that_are_kept_are_compared_atom_by_atom() -> None:
    assert same_share({"a": ["1111 1 1"]}, {"a": ["1101 1 1"]}) == pytest.approx(5 / 6)
    assert same_share({"a": ["11 1 1"]}, {}) == 0
    kept = Verdicts.open()
    assert list(kept.rows) == [row.name for row in quick_rows()]
    assert all(set(code) <= set("0123456 ") for codes in kept.rows.values() for code in codes)


def test_larger_pictures_are_drawn_fewer_at_once() -> None:
    assert [batch_of(size, 64) for size in ((256, 256), (512, 256), (512, 512))] == [64, 64, 32]
    assert batch_of((512, 512), 1) == 1


def test_the_judge_sees_renders_as_they_are() -> None:
    from sakuga.chibi.binding.heads import open_finder
    from sakuga.chibi.package import open_judge

    asks = [full(index, 1 + index % 3, 8) for index in range(6)]
    scorer, right = JudgeScorer(open_judge(), open_finder()), []
    with Truth(workers=0) as truth:
        for ask in asks:
            pixels = torch.from_numpy(truth.of([ask.scene], (256, 256))).permute(0, 3, 1, 2)
            (seen,) = scorer.look(pixels.float() / 127.5 - 1, [ask.scene])
            verdict = judged(ask, seen)
            right.append((verdict.whole, verdict.counted, verdict.placed == verdict.people))
    assert np.mean(right) >= 0.9
