"""Measures whether the embedded model draws what little a prompt says, whatever its form.

    python bench/binding.py [--pictures 256] [--only ROW ...] [--json OUT]

One character, some attributes said and the rest left open; a picture is right if the judge reads
everything that was said at the place where a lone character stands by default. The scenes are
made of colours that no training picture has together, and texts reach the encoders as the
command line sends them.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor

from sakuga.chibi.judge import Judge
from sakuga.chibi.languages import PHRASES, Table
from sakuga.chibi.measure import Painter, look
from sakuga.chibi.package import open_judge
from sakuga.chibi.scene import Scene, random_scene
from sakuga.chibi.strangers import stranger
from sakuga.chibi.vocabulary import TAGS, WORDS
from sakuga.prompt.canonical import canonical
from sakuga.prompt.document import read
from sakuga.prompt.tags import spelling_of

SEED = 2**31 + 7  # beyond every seed of training
SLOTS = ("hair_color", "hair_style", "eye_color", "garment", "expression", "pose", "accessory")
HOMES = {
    "hair_color": "appearance", "hair_style": "appearance", "eye_color": "appearance",
    "garment": "clothing", "accessory": "clothing", "expression": "expression", "pose": "action",
}  # fmt: skip
# Sentences of nobody's training, which say nothing of what is drawn.
CAPTIONS = {
    "en": (
        "A candid snapshot from a slow afternoon.",
        "Concept art for a short film, still unfinished.",
        "She has been waiting for the last train and humming a tune.",
        "Nobody knows how long this lasted.", "Drawn with a steady hand for a friend's birthday.",
    ),
    "ja": (
        "ゆっくりとした午後の一枚。", "友だちの誕生日のために描いたイラスト。",
        "終電を待ちながら鼻歌を歌っている。",
        "どれくらい続いたのか誰も知らない。", "短編映画のための未完成の設定画。",
    ),
    "zh": (
        "一个慢悠悠的下午。", "为朋友生日画的插画。", "她一边等末班车一边哼着歌。",
        "没有人知道这持续了多久。",
        "一部短片的未完成设定图。",
    ),
}  # fmt: skip
Said = Mapping[str, str]  # slot -> tag; of the scene `background` alone
Write = Callable[[Said, str, Random], str]


@dataclass(frozen=True, slots=True)
class Row:
    """A way to write prompts, and how many attributes they say."""

    name: str
    said: int
    write: Write


def xml(said: Said, gender: str, rng: Random) -> str:
    """Each tag in its field."""
    fields: dict[str, list[str]] = {"gender": [gender]}
    for slot, tag in said.items():
        fields.setdefault(HOMES.get(slot, ""), []).append(tag)
    where = fields.pop("", [])
    lines = "".join(f"<{name}>{', '.join(tags)}</{name}>" for name, tags in fields.items())
    general = f"<general_tags><background>{where[0]}</background></general_tags>" if where else ""
    return f"<character_1>{lines}</character_1>{general}"


def flat(said: Said, gender: str, rng: Random) -> str:
    """`1girl`, then tags with underscores."""
    return ", ".join((gender, *said.values()))


def flat_spaces(said: Said, gender: str, rng: Random) -> str:
    """The same with spaces."""
    return flat(said, gender, rng).replace("_", " ")


def flat_strangers(said: Said, gender: str, rng: Random) -> str:
    """As many unknown words as known ones, in any order."""
    words = [*said.values(), *(stranger(rng) for _ in said)]
    rng.shuffle(words)
    return ", ".join((gender, *words))


def xml_caption(language: str) -> Write:
    """XML with one sentence that says nothing else."""
    return lambda said, gender, rng: (
        xml(said, gender, rng) + f"<caption>{rng.choice(CAPTIONS[language])}</caption>"
    )


def prose(language: str) -> Write:
    """A sentence that is made otherwise than those of training."""

    def write(said: Said, gender: str, rng: Random) -> str:
        if language == "en":
            words = [tag.replace("_", " ") for tag in said.values()]
            return f"An anime {gender[1:]}: {', '.join(words)}."
        table = PHRASES[language]
        words = [_phrase(table, slot, tag) for slot, tag in said.items()]
        who = table["gender"][gender].split("|")[0]
        if language == "ja":
            return f"アニメの{who}。{'、'.join(words)}。"
        return f"动漫{who}，{'，'.join(words)}。"

    return write


def _phrase(table: Table, slot: str, tag: str) -> str:
    """A tag in the words of another language; a garment's with its colour."""
    tags = TAGS[slot]
    value = next(each for each, (first, *_) in tags.items() if tag in (first, _bare(tag, first)))
    colour = table["garment_color"][tag.split("_", maxsplit=1)[0]] if slot == "garment" else ""
    return colour.split("|")[0] + table[slot][value].split("|")[0]


def _bare(tag: str, name: str) -> str:
    """The tag of a garment with a colour before its name; anything else matches nothing."""
    return tag if tag.endswith(f"_{name}") else ""


ROWS = (
    *(Row(f"XML, {k} said", k, xml) for k in (1, 2, 3, 4, 6)),
    *(Row(f"flat, {k} said", k, flat) for k in (1, 2, 3, 4, 6)),
    *(Row(f"flat with spaces, {k} said", k, flat_spaces) for k in (1, 2, 3, 4, 6)),
    Row("flat, 4 said, 4 unknown words", 4, flat_strangers),
    *(Row(f"XML, 5 said, caption in {lang}", 5, xml_caption(lang)) for lang in ("en", "ja", "zh")),
    *(Row(f"prose, 3 said, {lang}", 3, prose(lang)) for lang in ("en", "zh", "ja")),
)


def said_of(scene: Scene, count: int, rng: Random) -> dict[str, str]:
    """The tags of `count` attributes of a scene's one character; half with its background."""
    (character,) = scene.characters
    open_slots = [slot for slot in SLOTS if getattr(character, slot) != "none"]
    chosen = rng.sample(open_slots, min(count, len(open_slots)))
    said = {slot: TAGS[slot][getattr(character, slot)][0] for slot in chosen}
    if "garment" in said:
        said["garment"] = f"{character.garment_color}_{said['garment']}"
    if count > 1 and rng.random() < 0.5:
        said.pop(chosen[-1])
        said["background"] = TAGS["background"][scene.background][0]
    return said


def measure_row(painter: Painter, judge: Judge, row: Row, pictures: int, batch: int) -> Tensor:
    """What each picture shows of what was said: (pictures, ATOMS), 1 or 0, NaN for what was not."""
    rng, draws = Random(row.name), np.random.default_rng((SEED, row.said))
    spelling, right = spelling_of(WORDS), []
    for start in range(0, pictures, batch):
        scenes = [_lone(draws) for _ in range(min(batch, pictures - start))]
        said = [said_of(scene, row.said, rng) for scene in scenes]
        written = [
            row.write(each, scene.characters[0].gender, rng)
            for each, scene in zip(said, scenes, strict=True)
        ]
        texts = [canonical(read(text), spelling) for text in written]
        found = look(painter, judge, scenes, texts, SEED + start)
        right.append(torch.tensor([_atoms(found, i, each) for i, each in enumerate(said)]))
    return torch.cat(right)


ATOMS = ("gender", *SLOTS, "garment_color", "background")


def _atoms(found: Mapping[str, Tensor], index: int, said: Said) -> list[float]:
    """1 or 0 for each attribute that was said, NaN for the others, in the order of ATOMS."""
    asked = {"gender", *said, *(("garment_color",) if "garment" in said else ())}
    return [
        (found[slot][index] if slot == "background" else found[slot][index, 0]).item()
        if slot in asked else math.nan
        for slot in ATOMS
    ]  # fmt: skip


def _lone(draws: np.random.Generator) -> Scene:
    scene = random_scene(draws, 1, unseen=True)
    return replace(scene, characters=(replace(scene.characters[0], position=None),))


def summary(right: Tensor) -> dict[str, float]:
    """Percent of pictures with everything right, its 95% interval (Wilson), and of each atom."""
    whole = (right.nan_to_num(nan=1.0).min(dim=1).values > 0).double()
    share, count = whole.mean().item(), len(whole)
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / 2 / count) ** 2)
    atoms = dict(zip(ATOMS, (100 * right.nanmean(dim=0)).tolist(), strict=True))
    told = {"all": 100 * share, "low": 100 * (middle - reach), "high": 100 * (middle + reach)}
    return {key: round(value, 1) for key, value in {**told, **atoms}.items()}


def table(results: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown, a row for each way to write."""
    lines = ["| prompt | all said right, % (95%) | eyes |", "|---|---|---|"]
    lines += [
        f"| {name} | {one['all']} ({one['low']}-{one['high']}) | {one['eye_color']} |"
        for name, one in results.items()
    ]
    return "\n".join(lines)


def measure_all(
    painter: Painter, judge: Judge, rows: Sequence[Row], pictures: int, batch: int
) -> dict[str, dict[str, float]]:
    """The summary of every row, by its name."""
    return {row.name: summary(measure_row(painter, judge, row, pictures, batch)) for row in rows}


def main() -> None:
    """Measure, print, and keep the figures if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--only", nargs="+", help="rows whose names begin so")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    painter = Painter.packaged()
    judge = open_judge().to(painter.device)
    rows = [row for row in ROWS if not options.only or row.name.startswith(tuple(options.only))]
    results = measure_all(painter, judge, rows, options.pictures, options.batch)
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
