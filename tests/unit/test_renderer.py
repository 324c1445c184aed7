"""Pictures are the ground truth: repeatable, and every value shows where its figure stands."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from sakuga.chibi.lighting import LIGHTS
from sakuga.chibi.palette import EYES, GARMENTS, HAIR
from sakuga.chibi.renderer import render
from sakuga.chibi.scene import Box, Scene, layout, random_scene
from sakuga.chibi.vocabulary import CHARACTER_SLOTS, VALUES

CROWD = replace(
    random_scene(np.random.default_rng(2), 4),
    background="simple_background",
    lighting="studio_lighting",
    rim_light=False,
)
CROWD = replace(CROWD, characters=tuple(replace(c, position=None) for c in CROWD.characters))


def with_value(scene: Scene, index: int, slot: str, value: str) -> Scene:
    characters = list(scene.characters)
    characters[index] = replace(characters[index], **{slot: value})
    return replace(scene, characters=tuple(characters))


def inside(picture: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    rows = slice(max(0, int(box.y0 * height)), int(np.ceil(box.y1 * height)))
    return picture[rows, max(0, int(box.x0 * width)) : int(np.ceil(box.x1 * width))]


def changed(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.abs(a.astype(int) - b.astype(int)).max(axis=-1) > 24


@pytest.mark.parametrize("size", [(128, 128), (256, 256), (512, 512), (512, 256), (192, 320)])
def test_a_picture_is_repeatable_at_any_size(size: tuple[int, int]) -> None:
    scene = random_scene(np.random.default_rng(1), 2)
    picture = render(scene, size=size, seed=4)
    assert picture.shape == (size[1], size[0], 3)
    assert picture.dtype == np.uint8
    assert picture.flags.writeable
    assert np.array_equal(picture, render(scene, size=size, seed=4))
    assert not np.array_equal(picture, render(scene, size=size, seed=5))


def test_sizes_show_the_same_picture() -> None:
    scene = random_scene(np.random.default_rng(1), 1)
    scene = replace(scene, background="simple_background")
    large = render(scene, size=(512, 512)).reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))
    assert np.abs(large - render(scene)).mean() < 4


@pytest.mark.parametrize("slot", CHARACTER_SLOTS[:-1])
def test_every_value_shows_in_a_crowd(slot: str) -> None:
    box = layout(CROWD)[1].box
    views = [inside(render(with_value(CROWD, 1, slot, value)), box) for value in VALUES[slot]]
    for a, b in combinations(views, 2):
        assert changed(a, b).sum() >= 20


@pytest.mark.parametrize("slot", ["background", "lighting"])
def test_every_place_and_light_differs_widely(slot: str) -> None:
    views = [render(replace(CROWD, **{slot: value})).astype(int) for value in VALUES[slot]]
    for a, b in combinations(views, 2):
        assert np.abs(a - b).mean() > 6


def test_rim_light_shows_on_every_background() -> None:
    for background in VALUES["background"]:
        for lighting in VALUES["lighting"]:
            scene = replace(CROWD, background=background, lighting=lighting)
            a, b = render(scene), render(replace(scene, rim_light=True))
            assert (np.abs(a.astype(int) - b.astype(int)).max(axis=-1) > 10).sum() > 300


USUAL, WIDE, TALL = (256, 256), (512, 256), (256, 384)


@pytest.mark.parametrize(
    ("size", "counts"), [(USUAL, (2, 3, 4, 4, 4, 4)), (WIDE, (1, 5, 6)), (TALL, (1, 2, 3))]
)
def test_eyes_are_seen_whoever_stands_where(size: tuple[int, int], counts: tuple[int]) -> None:
    rng = np.random.default_rng(9)
    for count in counts:
        scene = random_scene(rng, count)
        for i, place in enumerate(layout(scene, size[0] / size[1])):
            first = render(with_value(scene, i, "eye_color", "teal"), size=size)
            other = render(with_value(scene, i, "eye_color", "red"), size=size)
            mask = changed(first, other)
            # Two irises of about 7 x 9 ellipses, less highlights, pupils and fringe.
            assert inside(mask, place.face).sum() >= 60
            assert inside(mask, place.face).sum() == mask.sum()


def test_garments_are_seen_whoever_stands_where() -> None:
    rng = np.random.default_rng(10)
    for count in (2, 3, 4, 4):
        scene = random_scene(rng, count)
        for i, place in enumerate(layout(scene)):
            first = render(with_value(scene, i, "garment_color", "green"))
            other = render(with_value(scene, i, "garment_color", "pink"))
            mask = changed(first, other)
            assert inside(mask, place.box).sum() >= 0.02 * (place.height * 256) ** 2
            assert inside(mask, place.box).sum() >= 0.98 * mask.sum()


@pytest.mark.parametrize("colors", [HAIR, EYES, GARMENTS])
def test_no_light_confuses_two_colours(colors: dict[str, tuple[int, int, int]]) -> None:
    for light in LIGHTS.values():
        lit = [np.array(light.figure.on(color)) for color in colors.values()]
        for a, b in combinations(lit, 2):
            assert np.abs(a - b).max() >= 36


def test_figures_stay_inside_the_picture() -> None:
    rng = np.random.default_rng(12)
    for seed in range(12):
        scene = replace(random_scene(rng), background="simple_background", rim_light=False)
        picture = render(scene, seed=seed)
        # The plain background is a vertical gradient: its outermost columns are flat.
        for column in (picture[:, 0], picture[:, -1]):
            steps = np.abs(np.diff(column.astype(int), axis=0)).max()
            if scene.lighting in ("studio_lighting", "soft_lighting"):
                assert steps <= 4
        assert np.abs(picture[0].astype(int) - picture[1].astype(int)).max() <= 4
