"""The words of the small model, and where its figures stand."""

from __future__ import annotations

from itertools import pairwise, product
from random import Random

import numpy as np
import pytest

from sakuga.chibi.scene import (
    MAX_CHARACTERS,
    Character,
    Scene,
    from_codes,
    layout,
    random_scene,
    to_codes,
)
from sakuga.chibi.vocabulary import (
    GARMENT_COLORS,
    GENERAL,
    MEANINGS,
    NAMES,
    STYLE_WORDS,
    TAGS,
    VALUES,
    WORDS,
    meaning,
    read_tags,
)

POSITIONS = (None, *VALUES["position"])


def test_no_tag_means_two_things() -> None:
    plain = [tag for values in TAGS.values() for tags in values.values() for tag in tags]
    coloured = sum(len(tags) for tags in TAGS["garment"].values()) * len(GARMENT_COLORS)
    assert len(plain) == len(set(plain))
    assert len(MEANINGS) == len(plain) + coloured
    assert not (STYLE_WORDS | NAMES) & set(MEANINGS)
    assert set(MEANINGS) >= GENERAL


@pytest.mark.parametrize("slot", [slot for slot in TAGS if slot != "garment_color"])
def test_every_tag_decides_its_value_first(slot: str) -> None:
    for value in VALUES[slot]:
        for tag in TAGS[slot][value]:
            assert meaning(tag)[0] == (slot, value)
            assert tag in WORDS


def test_the_vocabulary_is_as_wide_as_promised() -> None:
    at_least = {
        "hair_color": 10, "hair_style": 6, "eye_color": 7, "garment": 6, "garment_color": 8,
        "expression": 5, "pose": 5, "accessory": 6, "position": 8, "background": 8,
        "lighting": 4, "gender": 2,
    }  # fmt: skip
    assert all(len(VALUES[slot]) >= count for slot, count in at_least.items())


def test_the_specific_pose_wins_whatever_the_order() -> None:
    for tags in (["standing", "dynamic_pose"], ["dynamic_pose", "standing"]):
        assert read_tags(tags) == {"pose": "dynamic_pose"}


def test_a_garment_brings_its_colour_and_only_its_own() -> None:
    assert meaning("Red Dress") == (("garment", "dress"), ("garment_color", "red"))
    assert read_tags(["dress", "red_dress"]) == {"garment": "dress", "garment_color": "red"}
    assert read_tags(["white_shirt", "kimono"]) == {"garment": "kimono"}
    assert read_tags(["unheard_of", "miku"]) == {}


def test_two_named_girls_read_as_written() -> None:
    first = read_tags(
        ["blue_hair", "long_twintails", "teal_eyes", "school_uniform", "dynamic_pose"]
    )
    assert first == {
        "hair_color": "blue",
        "hair_style": "long_twintails",
        "eye_color": "teal",
        "garment": "school_uniform",
        "pose": "dynamic_pose",
    }
    second = read_tags(["orange_hair", "short_pigtails", "green_eyes", "casual_jacket"])
    assert second["hair_style"] == "short_pigtails"
    assert read_tags(["studio_lighting", "rim_light", "cityscape_at_dusk"]) == {
        "lighting": "studio_lighting",
        "rim_light": "yes",
        "background": "cityscape_at_dusk",
    }


def test_codes_give_the_scene_back() -> None:
    rng = np.random.default_rng(7)
    for _ in range(300):
        scene = random_scene(rng)
        assert from_codes(to_codes(scene)) == scene


def test_random_scenes_reach_every_value() -> None:
    rng = np.random.default_rng(3)
    scenes = [random_scene(rng) for _ in range(400)]
    assert {len(scene.characters) for scene in scenes} == {1, 2, 3, 4}
    for slot in Character.__dataclass_fields__:
        seen = {getattr(c, slot) for scene in scenes for c in scene.characters}
        assert set(VALUES[slot]) <= seen
    assert any(None in {c.position for c in scene.characters} for scene in scenes)
    for scene in scenes:
        asked = [c.position for c in scene.characters if c.position]
        assert len(asked) == len(set(asked))


@pytest.mark.parametrize("aspect", [1.0, 0.5, 0.75, 1.5, 2.0])
@pytest.mark.parametrize("count", range(1, MAX_CHARACTERS + 1))
def test_every_row_fits_and_keeps_its_distance(count: int, aspect: float) -> None:
    few = product(POSITIONS, repeat=count)
    rng = Random(count)
    many = (rng.choices(POSITIONS, k=count) for _ in range(2000))
    for positions in few if count <= 3 else many:
        places = layout(positions, aspect)
        for place in places:
            assert place.box.x0 > 0.01
            assert place.box.x1 < 0.99
            assert place.box.y0 > 0.01
            assert place.box.y1 < 0.99
        row = sorted(places, key=lambda place: place.x)
        for a, b in pairwise(row):
            assert (b.x - a.x) * aspect > 0.54 * (a.height + b.height) / 2


def test_a_wider_picture_has_larger_figures() -> None:
    heights = [layout([None] * 4, a)[0].height for a in (0.5, 1.0, 1.5, 2.0)]
    assert heights == sorted(heights)
    assert heights[0] < heights[-1]


def test_layout_sees_positions_only() -> None:
    rng = np.random.default_rng(5)
    scene = random_scene(rng, 3)
    assert layout(scene) == layout([c.position for c in scene.characters])


def test_open_places_fill_from_left_to_right() -> None:
    for count in range(1, MAX_CHARACTERS + 1):
        xs = [place.x for place in layout([None] * count)]
        assert xs == sorted(xs)
    first, second = layout([None, "background_right"])
    assert first.x < 0.45
    assert second.x > 0.6
    second, first = layout(["left", None])
    assert second.x < first.x


def test_one_character_stands_large_in_the_middle() -> None:
    (place,) = layout([None])
    assert place.x == 0.5
    assert place.height > 0.75


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_positions_mean_what_they_say(count: int) -> None:
    rest: list[str | None] = [None] * (count - 1)
    alone = {p: layout([p, *rest])[0] for p in VALUES["position"]}
    row = [alone[p].x for p in ("left", "center_left", "center", "center_right", "right")]
    assert row == sorted(row)
    assert row[0] < 0.5 < row[-1]
    assert alone["background_left"].x < 0.5 < alone["background_right"].x
    for name in ("background_left", "background_right"):
        assert alone[name].height < alone["center"].height < alone["foreground"].height
        assert alone[name].ground < alone["center"].ground < alone["foreground"].ground


def test_two_in_one_place_both_get_room() -> None:
    for position in VALUES["position"]:
        a, b = layout([position, position])
        assert a.x < b.x
        assert a.face.x1 < b.face.x0


def test_scenes_are_values() -> None:
    scene = random_scene(np.random.default_rng(0))
    assert isinstance(scene, Scene)
    assert hash(scene) == hash(from_codes(to_codes(scene)))
