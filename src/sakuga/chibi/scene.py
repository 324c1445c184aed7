"""What a picture holds, as data, and where each figure stands in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from sakuga.chibi.vocabulary import CHARACTER_SLOTS, VALUES

MAX_CHARACTERS = 6
USUAL_CHARACTERS = 4  # at most, where a picture is not wide
HELD_OUT_OF = 16  # one combination of colours in so many is kept from training
CODE_LENGTH = 4 + MAX_CHARACTERS * len(CHARACTER_SLOTS)


@dataclass(frozen=True, slots=True)
class Character:
    """One figure. Fields are slots of the vocabulary; `position` None leaves the place open."""

    gender: str
    hair_color: str
    hair_style: str
    eye_color: str
    garment: str
    garment_color: str
    expression: str
    pose: str
    accessory: str
    position: str | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """A whole picture: 1-6 characters in the order of their numbers, and what is around them."""

    characters: tuple[Character, ...]
    background: str
    lighting: str
    rim_light: bool


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in fractions of the picture, y downwards."""

    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where one figure stands: centre `x`, `ground` (the soles), `height`, all in fractions.

    `depth`: -1 background, 0 middle, 1 foreground; farther figures are drawn first.
    """

    x: float
    ground: float
    height: float
    depth: int
    box: Box
    face: Box


# Where each position asks a figure to be: x, and depth.
_ASKED: dict[str, tuple[float, int]] = {
    "left": (0.14, 0),
    "center_left": (0.34, 0),
    "center": (0.5, 0),
    "center_right": (0.66, 0),
    "right": (0.86, 0),
    "background_left": (0.26, -1),
    "background_right": (0.74, -1),
    "foreground": (0.5, 1),
}
# The row that figures form when nobody asks for anything, by count.
_ROWS = {
    1: (0.5,),
    2: (0.29, 0.71),
    3: (0.2, 0.5, 0.8),
    4: (0.14, 0.38, 0.62, 0.86),
    5: (0.11, 0.305, 0.5, 0.695, 0.89),
    6: (0.095, 0.257, 0.419, 0.581, 0.743, 0.905),
}
# Height by count and depth (background, middle, foreground); the last fits a full row.
_HEIGHTS = {
    1: (0.54, 0.83, 0.94),
    2: (0.50, 0.68, 0.78),
    3: (0.44, 0.53, 0.59),
    4: (0.365, 0.405, 0.435),
    5: (0.30, 0.33, 0.355),
    6: (0.25, 0.28, 0.30),
}
_GROUNDS = (0.72, 0.93, 0.975)
# Anything off-centre leaves room to tell left from centre-left when the figure is alone.
_ASIDE_HEIGHT = 0.64

HALF_WIDTH = 0.36  # of a figure with its hair and arms, in figure heights
# Nearest neighbours by count, in figure heights: hair may touch, nothing more.
_SPACINGS = {1: 0.0, 2: 0.64, 3: 0.57, 4: 0.56, 5: 0.56, 6: 0.56}
_FACE = (
    0.235,
    -0.83,
    -0.45,
)  # half width, top, chin, in figure heights above the ground
_MARGIN = 0.015  # of the picture, kept free for the renderer's jitter


def layout(scene: Scene | Sequence[str | None], aspect: float = 1.0) -> tuple[Place, ...]:
    """Place every character; the result depends on positions, their number and `aspect` alone.

    `aspect`: width of the picture over its height. What is wider has room for larger figures.

    Figures keep the order of the x they ask for and move as little as possible (least squares)
    to keep apart and inside the picture. Those that ask for nothing fill, left to right, what
    the others leave of an even row. Takes a scene or its positions; 1-6 of them.
    """
    positions = [c.position for c in scene.characters] if isinstance(scene, Scene) else list(scene)
    wanted = _wanted(positions)
    order = sorted(range(len(positions)), key=lambda i: (wanted[i], i))
    heights = _fitting([_height(len(positions), positions[i], aspect) for i in order], aspect)
    xs = _spread([wanted[i] for i in order], heights, aspect)
    places = {
        i: _place(x, height, _depth(positions[i]), aspect)
        for i, x, height in zip(order, xs, heights, strict=True)
    }
    return tuple(places[i] for i in range(len(positions)))


def _depth(position: str | None) -> int:
    return _ASKED[position][1] if position else 0


def _height(count: int, position: str | None, aspect: float) -> float:
    if count == 1 and position and _depth(position) == 0 and position != "center":
        return _ASIDE_HEIGHT * min(aspect, 1.0)
    row = _depth(position) + 1
    return min(_HEIGHTS[count][row] * max(aspect, 1.0), _HEIGHTS[1][row])


def _wanted(positions: list[str | None]) -> list[float]:
    """The x each figure would have on its own."""
    row = _ROWS[len(positions)]
    asked = sorted(_ASKED[p][0] for p in positions if p)
    # Those who ask for a place each use up the slot of the row that suits it best.
    taken = min(
        combinations(range(len(row)), len(asked)),
        key=lambda slots: sum((row[s] - x) ** 2 for s, x in zip(slots, asked, strict=True)),
    )
    free = iter([x for s, x in enumerate(row) if s not in taken])
    return [_ASKED[p][0] if p else next(free) for p in positions]


def _offsets(heights: list[float], aspect: float) -> list[float]:
    """How far right of the first figure each must at least stand."""
    spacing = _SPACINGS[len(heights)] / aspect
    gaps = [spacing * (a + b) / 2 for a, b in pairwise(heights)]
    return [sum(gaps[:i]) for i in range(len(heights))]


def _fitting(heights: list[float], aspect: float) -> list[float]:
    """The heights, from left to right, shrunk together if the row would not fit the picture."""
    offsets, half = _offsets(heights, aspect), HALF_WIDTH / aspect
    left = max(half * h - o for h, o in zip(heights, offsets, strict=True))
    right = max(half * h + o for h, o in zip(heights, offsets, strict=True))
    scale = min(1.0, (1 - 2 * _MARGIN) / (left + right))
    return [height * scale for height in heights]


def _spread(wanted: list[float], heights: list[float], aspect: float) -> list[float]:
    """Nearest x to the wanted (ascending) ones with the spacing kept, in least squares.

    With the needed gaps subtracted this is isotonic regression inside bounds, solved by pooling
    adjacent violators (Barlow et al., 1972) and clipping.
    """
    offsets = _offsets(heights, aspect)
    pools: list[list[float]] = []
    for x, offset in zip(wanted, offsets, strict=True):
        pools.append([x - offset])
        while len(pools) > 1 and _mean(pools[-2]) > _mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    rooms = [HALF_WIDTH / aspect * height + _MARGIN for height in heights]
    low = max(room - offset for room, offset in zip(rooms, offsets, strict=True))
    high = min(1 - room - offset for room, offset in zip(rooms, offsets, strict=True))
    flat = [_mean(pool) for pool in pools for _ in pool]
    return [min(max(x, low), high) + offset for x, offset in zip(flat, offsets, strict=True)]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _place(x: float, height: float, depth: int, aspect: float) -> Place:
    ground = _GROUNDS[depth + 1]
    half, top, chin = (part * height for part in _FACE)
    reach, half = HALF_WIDTH * height / aspect, half / aspect
    return Place(
        x=x,
        ground=ground,
        height=height,
        depth=depth,
        box=Box(x - reach, ground - height, x + reach, ground),
        face=Box(x - half, ground + top, x + half, ground + chin),
    )


def held_out(character: Character) -> bool:
    """Whether hair, eyes and garment have colours that no training picture has together."""
    return colours_held_out(character.hair_color, character.eye_color, character.garment_color)


def colours_held_out(hair: str, eyes: str, garment: str) -> bool:
    """The same of the colours alone."""
    return crc32(f"{hair} {eyes} {garment}".encode()) % HELD_OUT_OF == 0


def random_scene(rng: np.random.Generator, count: int | None = None, unseen: bool = False) -> Scene:
    """A scene with every attribute uniform; positions are all open, all distinct, or mixed.

    unseen: every character is one that training holds out; otherwise none is.
    """
    count = int(rng.integers(1, USUAL_CHARACTERS + 1)) if count is None else count
    distinct = rng.choice(len(VALUES["position"]), size=count, replace=False)
    asking = rng.random(count) < rng.choice([0.0, 0.5, 1.0])
    places = (VALUES["position"][int(each)] for each in distinct)
    characters = tuple(
        _random_character(rng, place if asks else None, unseen)
        for place, asks in zip(places, asking, strict=True)
    )
    return Scene(
        characters=characters,
        background=_pick(rng, "background"),
        lighting=_pick(rng, "lighting"),
        rim_light=bool(rng.integers(2)),
    )


def _random_character(rng: np.random.Generator, position: str | None, unseen: bool) -> Character:
    while True:
        slots = {slot: _pick(rng, slot) for slot in CHARACTER_SLOTS[:-1]}
        character = Character(**slots, position=position)
        if held_out(character) == unseen:
            return character


def _pick(rng: np.random.Generator, slot: str) -> str:
    return VALUES[slot][int(rng.integers(len(VALUES[slot])))]


def to_codes(scene: Scene) -> NDArray[np.int8]:
    """A scene as CODE_LENGTH small integers, for workers and labels.

    [count, background, lighting, rim light, then the ten slots of each of six characters in
    the order of CHARACTER_SLOTS]; a code is an index into VALUES; -1 stands for an open
    position and for absent characters.
    """
    codes = np.full(CODE_LENGTH, -1, dtype=np.int8)
    codes[:4] = (
        len(scene.characters),
        VALUES["background"].index(scene.background),
        VALUES["lighting"].index(scene.lighting),
        int(scene.rim_light),
    )
    rows = codes[4:].reshape(MAX_CHARACTERS, len(CHARACTER_SLOTS))
    for row, character in zip(rows, scene.characters, strict=False):
        for j, slot in enumerate(CHARACTER_SLOTS):
            value = getattr(character, slot)
            row[j] = -1 if value is None else VALUES[slot].index(value)
    return codes


def from_codes(codes: NDArray[np.int8]) -> Scene:
    """The scene that `to_codes` gave these (CODE_LENGTH,) integers for."""
    count, background, lighting, rim_light = (int(code) for code in codes[:4])
    rows = codes[4:].reshape(MAX_CHARACTERS, len(CHARACTER_SLOTS))
    characters = []
    for row in rows[:count]:
        values = {
            slot: VALUES[slot][int(code)]
            for slot, code in zip(CHARACTER_SLOTS, row, strict=True)
            if code >= 0
        }
        characters.append(Character(**values))
    return Scene(
        characters=tuple(characters),
        background=VALUES["background"][background],
        lighting=VALUES["lighting"][lighting],
        rim_light=bool(rim_light),
    )
