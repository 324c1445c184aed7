"""Measures what a prompt's weights do to pictures of the embedded model: response curves.

    python bench/weights.py [--pictures 32] [--form flat|xml] [--weighting interpolate|empty]

Each prompt says hair colour and style, eyes and a garment. `alone`: the weight is on the garment,
which flat tags do worst. `against`: a second colour of eyes stands behind the first, and the weight
is on the first. The judge says how likely it finds what was said, at the place of a lone character;
what has no weight should not move.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sakuga.api.marks import Mark
from sakuga.chibi.data import scene_boxes
from sakuga.chibi.judge import Judge
from sakuga.chibi.measure import Painter
from sakuga.chibi.package import open_judge
from sakuga.chibi.scene import Scene, random_scene, to_codes
from sakuga.chibi.vocabulary import TAGS, VALUES, WORDS
from sakuga.engine.encode import joined, mean_of, weighed
from sakuga.engine.readings import Weighing, read_tokens
from sakuga.model.layers import Segments
from sakuga.prompt.canonical import Systems, encoder_texts
from sakuga.prompt.tags import spelling_of
from sakuga.tokenizer.tokens import Tokenizer

SEED = 2**31 + 11  # beyond every seed of training
SLOTS = ("hair_color", "hair_style", "eye_color", "garment", "garment_color")
WEIGHTS = (0.0, 0.5, 0.8, 1.0, 1.2, 1.6, 2.0)
WAYS = ("alone", "against")


class WeighingPainter(Painter):
    """Reads texts as the engine does where weights are heeded."""

    kind = "interpolate"

    def _read(self, texts: Sequence[str], device: torch.device) -> tuple[Tensor, Segments, Tensor]:
        known = {text: self._one(text, device) for text in dict.fromkeys(texts)}
        captions, pooled = zip(*(known[text] for text in texts), strict=True)
        lengths = Segments(tuple(len(caption) for caption in captions))
        return torch.cat(captions), lengths, torch.stack(pooled)

    def _one(self, text: str, device: torch.device) -> tuple[Tensor, Tensor]:
        """The caption and the pooled vector of a text."""
        sent = encoder_texts(
            text, systems=Systems(), spelling=spelling_of(WORDS), weighted=True
        ).positive
        marks = [Mark("prompt", one.start, one.end, one.weight) for one in sent.emphases]
        found = []
        for tokenizer, encoder, join in (
            (self.gemma_tokenizer, self.gemma, joined), (self.jina_tokenizer, self.jina, mean_of),
        ):  # fmt: skip
            kind = "off" if self.kind == "empty" and join is mean_of else self.kind
            tokens = Tokenizer(tokenizer).encode(sent.jina)
            reading = read_tokens(tokens, marks, Weighing(kind, self.gemma.spec.pad_token_id))
            features = {
                each: encoder(torch.tensor([each], device=device))[0].cpu()
                for each in reading.texts
            }
            found.append(weighed(reading, features, join).to(device))
        caption: Tensor = self.transformer.caption(found[0], Segments((len(found[0]),)))
        return caption, found[1]


def prompt_of(scene: Scene, other: str, weight: float, way: str, form: str) -> str:
    """What is said of the one character of a scene, one of it with a weight."""
    (one,) = scene.characters
    eyes = f"{one.eye_color}_eyes"
    tags = {slot: TAGS[slot][getattr(one, slot)][0] for slot in ("hair_color", "hair_style")}
    garment = f"{one.garment_color}_{TAGS['garment'][one.garment][0]}"
    if way == "alone":
        garment = f"({garment}:{weight:g})"
    else:
        eyes = f"({eyes}:{weight:g}), {other}_eyes"
    looks = f"{tags['hair_color']}, {tags['hair_style']}, {eyes}"
    if form == "flat":
        return f"{one.gender}, {looks}, {garment}"
    return (
        f"<character_1><gender>{one.gender}</gender><appearance>{looks}</appearance>"
        f"<clothing>{garment}</clothing></character_1>"
    )


def seen(
    painter: Painter, judge: Judge, scenes: Sequence[Scene], texts: Sequence[str], batch: int
) -> Mapping[str, Tensor]:
    """How likely the judge finds each value of each slot, (pictures, values)."""
    found: dict[str, list[Tensor]] = {slot: [] for slot in SLOTS}
    for start in range(0, len(texts), batch):
        pictures = painter.paint(texts[start : start + batch], SEED + start)
        boxes = [scene_boxes(to_codes(one))[:, 0] for one in scenes[start : start + batch]]
        logits = judge(pictures, torch.from_numpy(np.stack(boxes)).to(pictures.device))
        for slot in SLOTS:
            found[slot].append(logits[slot][:, 0].softmax(-1).cpu())
    return {slot: torch.cat(parts) for slot, parts in found.items()}


def _likely(found: Mapping[str, Tensor], slot: str, values: Sequence[str]) -> float:
    places = torch.tensor([VALUES[slot].index(value) for value in values])
    return found[slot].gather(1, places[:, None]).mean().item()


@torch.inference_mode()
def main() -> None:
    """Draw, ask the judge, print a table for each of the two ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--form", choices=("flat", "xml"), default="flat")
    parser.add_argument("--weighting", choices=("interpolate", "empty"), default="interpolate")
    parser.add_argument("--weights", nargs="+", type=float, default=WEIGHTS)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    options = parser.parse_args()
    painter, rng = WeighingPainter.packaged(), np.random.default_rng(SEED)
    WeighingPainter.kind = options.weighting
    judge = open_judge().to(painter.device)
    scenes = [random_scene(rng, 1, unseen=True) for _ in range(options.pictures)]
    scenes = [replace(s, characters=(replace(s.characters[0], position=None),)) for s in scenes]
    eyes = [scene.characters[0].eye_color for scene in scenes]
    colours = list(VALUES["eye_color"])
    others = [colours[(colours.index(one) + 3) % len(colours)] for one in eyes]
    said = {slot: [getattr(scene.characters[0], slot) for scene in scenes] for slot in SLOTS}
    for way in options.ways:
        print(f"{way}, {options.form}, {options.weighting}, {options.pictures} pictures a row")
        print("| weight | eyes | other eyes | hair | hair style | garment | its colour |")
        print("|---|---|---|---|---|---|---|")
        for weight in options.weights:
            texts = [
                prompt_of(scene, other, weight, way, options.form)
                for scene, other in zip(scenes, others, strict=True)
            ]
            found = seen(painter, judge, scenes, texts, options.batch)
            figures = [_likely(found, "eye_color", eyes), _likely(found, "eye_color", others)]
            figures += [_likely(found, slot, said[slot]) for slot in SLOTS if slot != "eye_color"]
            cells = " | ".join(f"{100 * one:.1f}" for one in figures)
            print(f"| {weight:g} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
