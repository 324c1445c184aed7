"""What is seen in a picture: by the judge of the small model, or by any tagger on crops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sakuga.chibi.binding.heads import Head, HeadFinder, find_heads
from sakuga.chibi.data import scene_boxes
from sakuga.chibi.judge import FIGURE_SLOTS, Judge
from sakuga.chibi.scene import Box, Place, Scene, layout, to_codes
from sakuga.chibi.vocabulary import VALUES, read_tags

Values = Mapping[str, str]  # slot -> value
_NEAR = 1.25  # of half a face: how far from its middle a head may be and still stand there


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen: of each character that was asked for, in that order, and of what is around.

    `count`: how many there are in all. `placed`: who is where the scene has them.
    """

    figures: tuple[Values, ...]
    around: Values
    count: int
    placed: tuple[bool, ...]


class Scorer(Protocol):
    """Whoever can say what pictures show."""

    def look(self, pictures: Tensor, scenes: Sequence[Scene]) -> Sequence[Sight]:
        """What (B, 3, H, W) pictures in [-1, 1] show, each held against its scene's places."""


@dataclass(frozen=True, slots=True)
class JudgeScorer:
    """The judge at each character's place, and the finder of heads everywhere."""

    judge: Judge
    finder: HeadFinder

    @torch.inference_mode()
    def look(self, pictures: Tensor, scenes: Sequence[Scene]) -> Sequence[Sight]:
        """See `Scorer`."""
        aspect = pictures.shape[-1] / pictures.shape[-2]
        boxes = np.stack([scene_boxes(to_codes(scene), aspect)[:, 0] for scene in scenes])
        logits = self.judge(pictures, torch.from_numpy(boxes).to(pictures.device))
        seen = {slot: each.argmax(-1).tolist() for slot, each in logits.items()}
        heads = find_heads(self.finder, pictures)
        sights = []
        for index, scene in enumerate(scenes):
            figures = tuple(
                {slot: VALUES[slot][seen[slot][index][number]] for slot in FIGURE_SLOTS}
                for number in range(len(scene.characters))
            )
            around = {
                slot: VALUES[slot][seen[slot][index]] for slot in seen if slot not in FIGURE_SLOTS
            }
            there = standing(heads[index], layout(scene, aspect))
            sights.append(Sight(figures, around, len(heads[index]), there))
        return sights


def standing(heads: Sequence[Head], places: Sequence[Place]) -> tuple[bool, ...]:
    """Whose face has a head in it; a head is one person's."""
    free = list(heads)
    there = []
    for place in places:
        near = [head for head in free if _in(head, place.face)]
        there.append(bool(near))
        if near:
            free.remove(min(near, key=lambda head: abs(head[0] - place.x)))
    return tuple(there)


def _in(head: Head, face: Box) -> bool:
    return (
        abs(head[0] - (face.x0 + face.x1) / 2) <= _NEAR * (face.x1 - face.x0) / 2
        and abs(head[1] - (face.y0 + face.y1) / 2) <= _NEAR * (face.y1 - face.y0) / 2
    )


Picture = NDArray[np.uint8]  # (H, W, 3)
Find = Callable[[Picture], Sequence[Box]]
Tag = Callable[[Picture], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class TaggerScorer:
    """A detector of figures and a tagger of pictures, for models that draw more than chibi does.

    `find` gives the boxes of figures, `tag` how sure it is of each Danbooru tag of a crop. What
    is found belongs to the characters from left to right; of too many, the nearest to each.
    """

    find: Find
    tag: Tag
    least: float = 0.35

    def look(self, pictures: Tensor, scenes: Sequence[Scene]) -> Sequence[Sight]:
        """See `Scorer`."""
        pixels = ((pictures.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu()
        pairs = zip(pixels.numpy(), scenes, strict=True)
        return [self._look(picture, scene) for picture, scene in pairs]

    def _look(self, picture: Picture, scene: Scene) -> Sight:
        found = sorted(self.find(picture), key=lambda box: box.x0 + box.x1)
        places = layout(scene, picture.shape[1] / picture.shape[0])
        owned = _matched(found, places)
        figures = tuple({} if box is None else self._tags(_cut(picture, box)) for box in owned)
        return Sight(
            figures, self._tags(picture), len(found), tuple(box is not None for box in owned)
        )

    def _tags(self, picture: Picture) -> Values:
        sure = sorted(self.tag(picture).items(), key=lambda pair: -pair[1])
        return read_tags(tag for tag, share in sure if share >= self.least)


def _matched(found: Sequence[Box], places: Sequence[Place]) -> list[Box | None]:
    """The box of each place, in the order of places."""
    order = sorted(range(len(places)), key=lambda index: places[index].x)
    owned: list[Box | None] = [None] * len(places)
    free = list(found)
    for rank, index in enumerate(order):
        if len(found) == len(places):
            owned[index] = found[rank]
        elif free:
            nearest = min(free, key=lambda box: abs((box.x0 + box.x1) / 2 - places[index].x))
            free.remove(nearest)
            owned[index] = nearest
    return owned


def _cut(picture: Picture, box: Box) -> Picture:
    tall, wide = picture.shape[:2]
    x0, x1 = (int(min(max(x, 0), 1) * wide) for x in (box.x0, box.x1))
    y0, y1 = (int(min(max(y, 0), 1) * tall) for y in (box.y0, box.y1))
    return picture[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
