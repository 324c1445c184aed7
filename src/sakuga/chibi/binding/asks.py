"""What is asked of one picture: a scene that training never saw, and what of it a prompt says.

The same index gives the same scene whatever is said of it, in whatever form: rows are compared
picture by picture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from random import Random
from zlib import crc32

import numpy as np

from sakuga.chibi.scene import Character, Scene, colours_held_out, held_out, random_scene
from sakuga.chibi.vocabulary import TAGS, VALUES

SEED = 2**31 + 7  # beyond every seed of training
LOOKS = ("hair_color", "hair_style", "eye_color", "garment", "expression", "pose", "accessory")
_FULL = ("hair_color", "hair_style", "eye_color", "garment", "expression", "pose")
_TOLD_APART = (*_FULL, "garment_color")
_COLOURS = ("hair_color", "eye_color", "garment_color")  # that are held out together
_RARE = {
    "gender": ("1boy",),
    "hair_style": ("long_twintails", "twin_braids", "double_bun"),
    "garment": ("dress", "kimono"),
    "accessory": ("hair_bow", "flower", "cat_ears"),
}
Said = Mapping[str, str]  # slot -> tag


@dataclass(frozen=True, slots=True)
class Ask:
    """A scene, and what is said of it: of each character and of what is around them."""

    scene: Scene
    people: tuple[Said, ...]
    around: Said
    index: int

    @property
    def seed(self) -> int:
        """Of the picture's noise."""
        return SEED + self.index


Make = Callable[[int, int, int], Ask]
"""The ask of an index, for so many people, of each of whom so much is said."""


def sparse(index: int, people: int, said: int) -> Ask:
    """`said` attributes of each, the rest left open; a lone one's background is one of them."""
    scene = _scene("open", people, index)
    scene = replace(scene, characters=tuple(_adorned(one, index) for one in scene.characters))
    rng = Random(f"sparse {people} {said} {index}")
    around: dict[str, str] = {}
    told = [_sample(one, said, rng) for one in scene.characters]
    if people == 1 and (said > len(LOOKS) or (said > 1 and rng.random() < 0.5)):
        if said <= len(LOOKS):
            told[0].popitem()
        around = {"background": TAGS["background"][scene.background][0]}
    return Ask(scene, tuple(told), around, index)


def full(index: int, people: int, said: int) -> Ask:
    """Eight atoms of each: gender, hair, its style, eyes, garment, its colour, feeling, pose."""
    scene = _scene("full", people, index)
    return Ask(scene, tuple(_tags(one, _FULL) for one in scene.characters), {}, index)


def peers(index: int, people: int, said: int) -> Ask:
    """As `full`, all girls or all boys: where only their number is said, nothing is open."""
    scene = _scene("full", people, index)
    gender = scene.characters[0].gender
    same = tuple(replace(one, gender=gender) for one in scene.characters)
    return Ask(replace(scene, characters=same), tuple(_tags(one, _FULL) for one in same), {}, index)


def alike(index: int, people: int, said: int) -> Ask:
    """Eight atoms of each, all of whom are alike but for one attribute."""
    rng, scene = Random(f"alike {people} {index}"), _scene("alike", 1, index)
    (first,) = scene.characters
    slot = rng.choice([slot for slot in _TOLD_APART if _colours(slot, people)])
    if slot in _COLOURS:
        first = replace(
            first, **dict(zip(_COLOURS, rng.choice(_colours(slot, people)), strict=True))
        )
    others = [replace(first, **{slot: value}) for value in VALUES[slot]]
    unseen = [one for one in others if one != first and held_out(one)]
    twins = (first, *rng.sample(unseen, people - 1))
    told = tuple(_tags(one, _FULL) for one in twins)
    return Ask(replace(scene, characters=twins), told, {}, index)


@cache
def _colours(slot: str, people: int) -> tuple[tuple[str, ...], ...]:
    """Colours of hair, eyes and garment that so many values of a slot can be held out with."""
    three = tuple(product(*(VALUES[each] for each in _COLOURS)))
    if slot not in _COLOURS:
        return three
    at, unseen = _COLOURS.index(slot), [one for one in three if colours_held_out(*one)]
    kinds = Counter(one[:at] + one[at + 1 :] for one in unseen)
    return tuple(one for one in unseen if kinds[one[:at] + one[at + 1 :]] >= people)


def rare(index: int, people: int, said: int) -> Ask:
    """What seldom goes together: boys with braids and bows, in dresses."""
    rng, scene = Random(f"rare {people} {index}"), _scene("rare", people, index)
    odd = tuple(
        replace(one, **{slot: rng.choice(values) for slot, values in _RARE.items()})
        for one in scene.characters
    )
    told = tuple(_tags(one, ("hair_color", "hair_style", "garment", "accessory")) for one in odd)
    return Ask(replace(scene, characters=odd), told, {}, index)


def placed(index: int, people: int, said: int) -> Ask:
    """Where each stands, before or behind or beside the others, and three looks of each."""
    rng, scene = Random(f"placed {people} {index}"), _scene("placed", people, index)
    places = rng.sample(VALUES["position"], people)
    standing = tuple(
        replace(one, position=place) for one, place in zip(scene.characters, places, strict=True)
    )
    told = tuple(
        {**_tags(one, ("hair_color", "eye_color", "garment")),
         "position": TAGS["position"][one.position or ""][0]}
        for one in standing
    )  # fmt: skip
    return Ask(replace(scene, characters=standing), told, {}, index)


@cache
def _scene(kind: str, people: int, index: int) -> Scene:
    """A scene of colours that no training picture has together, nobody's place asked for."""
    draws = np.random.default_rng((SEED, crc32(kind.encode()), people, index))
    scene = random_scene(draws, people, unseen=True)
    free = tuple(replace(one, position=None) for one in scene.characters)
    return replace(scene, characters=free)


def _adorned(one: Character, index: int) -> Character:
    """The same with an accessory: having none cannot be said."""
    if one.accessory != "none":
        return one
    return replace(one, accessory=Random(index).choice(VALUES["accessory"][1:]))


def _sample(one: Character, said: int, rng: Random) -> dict[str, str]:
    return _tags(one, rng.sample(LOOKS, min(said, len(LOOKS))))


def _tags(one: Character, slots: tuple[str, ...] | list[str]) -> dict[str, str]:
    """The tags of these slots and of the gender; a garment's with its colour."""
    tags = {slot: TAGS[slot][getattr(one, slot)][0] for slot in ("gender", *slots)}
    if "garment" in tags:
        tags["garment"] = f"{one.garment_color}_{tags['garment']}"
    return tags
