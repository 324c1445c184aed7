"""Measures whether the embedded model draws flat prompts better as XML, made by --as-xml.

    python bench/as_xml.py [--prompts 24] [--seed 0]

Of one character four attributes are said, of two characters three each; the same prompts are
drawn as they are and as XML, from the same noise, at the model's own size and settings. The
judge reads each figure at the place where it stands when nobody asks for one.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

import numpy as np
import torch
from torch import Tensor

from sakuga.chibi.judge import Judge
from sakuga.chibi.measure import Painter, look
from sakuga.chibi.package import open_judge
from sakuga.chibi.scene import Character, Scene, random_scene
from sakuga.chibi.vocabulary import TAGS, WORDS
from sakuga.prompt.canonical import canonical
from sakuga.prompt.document import read
from sakuga.prompt.structured import as_xml
from sakuga.prompt.tags import spelling_of

SLOTS = ("eye_color", "garment", "expression", "pose", "accessory")
SEED = 2**31 + 13  # beyond every seed of training
BATCH = 8
Said = tuple[str, ...]  # slots of a character that its prompt says


def said_of(character: Character, number: int, rng: Random) -> Said:
    """The hair, which tells characters apart, and other attributes up to a number."""
    others = [slot for slot in SLOTS if getattr(character, slot) != "none"]
    return ("gender", "hair_color", *rng.sample(others, number - 1))


def tags_of(character: Character, said: Said) -> list[str]:
    """The tags of what is said, a garment with its colour."""
    found = [TAGS[slot][getattr(character, slot)][0] for slot in said if slot != "gender"]
    garment = TAGS["garment"][character.garment][0]
    return [f"{character.garment_color}_{tag}" if tag == garment else tag for tag in found]


def written(scene: Scene, said: Sequence[Said], *, spaces: bool) -> str:
    """Counts, then what each character has, then the background, as people write it."""
    genders = [one.gender for one in scene.characters]
    counts = list(dict.fromkeys(genders))
    if len(genders) == 2 and len(counts) == 1:
        counts = [f"2{genders[0][1:]}s"]
    tags = [
        tag for one, own in zip(scene.characters, said, strict=True) for tag in tags_of(one, own)
    ]
    text = ", ".join([*counts, *tags, TAGS["background"][scene.background][0]])
    return text.replace("_", " ") if spaces else text


def scenes_of(number: int, prompts: int, seed: int) -> list[Scene]:
    """Scenes whose characters stand where nobody asked them to, with hair of other colours."""
    draws = np.random.default_rng((SEED, seed, number))
    found: list[Scene] = []
    while len(found) < prompts:
        scene = random_scene(draws, number, unseen=True)
        people = tuple(replace(one, position=None) for one in scene.characters)
        if len({one.hair_color for one in people}) == number:
            found.append(replace(scene, characters=people))
    return found


def atoms(found: Mapping[str, Tensor], index: int, said: Sequence[Said]) -> list[float]:
    """1 or 0 for each attribute that one picture's prompt says."""
    right = [found["background"][index].item()]
    for place, own in enumerate(said):
        colour = ("garment_color",) if "garment" in own else ()
        right += [found[slot][index, place].item() for slot in (*own, *colour)]
    return right


def measure(painter: Painter, judge: Judge, number: int, prompts: int, seed: int) -> list[str]:
    """Rows of the table: atoms right and pictures all right, flat and as XML."""
    rng, scenes = Random(f"{seed} {number}"), scenes_of(number, prompts, seed)
    said = [
        [said_of(one, 4 if number == 1 else 3, rng) for one in scene.characters] for scene in scenes
    ]
    flat = [
        written(scene, own, spaces=at % 2 == 1)
        for at, (scene, own) in enumerate(zip(scenes, said, strict=True))
    ]
    spelling, rows = spelling_of(WORDS), []
    for name, texts in (("as it is", flat), ("`--as-xml`", list(map(as_xml, flat)))):
        read_texts = [canonical(read(text), spelling) for text in texts]
        results: list[list[float]] = []
        for start in range(0, prompts, BATCH):
            part = slice(start, start + BATCH)
            found = look(painter, judge, scenes[part], read_texts[part], SEED + seed + start)
            results += [atoms(found, at, own) for at, own in enumerate(said[part])]
        share = 100 * torch.tensor([sum(one) / len(one) for one in results]).mean().item()
        whole = sum(min(one) > 0 for one in results)
        rows.append(f"| {number} | {name} | {share:.1f} | {whole} of {prompts} |")
    return rows


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    painter = Painter.packaged()
    judge = open_judge().to(painter.device)
    print("| characters | prompt | atoms right, % | all right |\n|---|---|---|---|")
    for number in (1, 2):
        for row in measure(painter, judge, number, options.prompts, options.seed):
            print(row, flush=True)


if __name__ == "__main__":
    main()
