"""Measures what the embedded model draws: accuracy per attribute, and the autoencoder's loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from sakuga.checkpoint.catalog import EMBEDDED_FOLDER
from sakuga.checkpoint.folder import open_checkpoint
from sakuga.chibi.data import scene_boxes
from sakuga.chibi.judge import Judge, hits
from sakuga.chibi.prompts import CAREFUL, Habits, joined, write_prompt
from sakuga.chibi.regime import Size
from sakuga.chibi.scene import Scene, random_scene, to_codes
from sakuga.engine.networks import Networks
from sakuga.memory.device import choose_device
from sakuga.model.layers import Segments
from sakuga.model.nextdit import NextDiT
from sakuga.model.spec import CHIBI, DrawingSpec
from sakuga.model.text import GemmaEncoder, JinaEncoder
from sakuga.model.vae import VAE
from sakuga.sample.guidance import guided
from sakuga.sample.solvers import grid, solve

BINDING = ("hair_color", "hair_style", "eye_color", "garment", "garment_color")


@dataclass(frozen=True, slots=True)
class Painter:
    """All parts of a model, ready to draw many pictures at once."""

    gemma_tokenizer: Tokenizer
    jina_tokenizer: Tokenizer
    gemma: GemmaEncoder
    jina: JinaEncoder
    transformer: NextDiT
    vae: VAE
    drawing: DrawingSpec = CHIBI.drawing

    @classmethod
    def open(
        cls, folder: Path, gemma: GemmaEncoder, jina: JinaEncoder, transformer: NextDiT, vae: VAE
    ) -> Painter:
        """Join networks with the tokenizers of a checkpoint's folder."""
        gemma_tokenizer, jina_tokenizer = (
            Tokenizer.from_file(str(folder / name / "tokenizer.json"))
            for name in ("tokenizer", "tokenizer_2")
        )
        return cls(gemma_tokenizer, jina_tokenizer, gemma, jina, transformer, vae)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.transformer.parameters()).device

    @classmethod
    def packaged(cls, device: str = "auto", folder: Path = EMBEDDED_FOLDER) -> Painter:
        """The model that ships with sakuga, or one like it in a folder, in float32 on `device`."""
        models, where = Networks(open_checkpoint(folder), "float32"), choose_device(device)
        parts = ("text_encoder", "text_encoder_2", "transformer", "vae")
        return cls.open(folder, *(models[part].to(where) for part in parts))

    @torch.inference_mode()
    def paint(self, texts: Sequence[str], seed: int, size: Size | None = None) -> Tensor:
        """Draw one picture per text: (B, 3, H, W) in [-1, 1].

        size: (width, height) in pixels; without it the model's own.
        """
        read = self._read([*texts, *[""] * len(texts)], self.device)
        return self.walk(read, self.noise(len(texts), seed, size))

    def noise(self, count: int, seed: int, size: Size | None = None) -> Tensor:
        """Where `count` pictures begin: (count, C, h, w) on the host."""
        latent = self.vae.spec
        wide, high = size or (self.drawing.width, self.drawing.height)
        shape = latent.latent_channels, high // latent.downscale, wide // latent.downscale
        return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))

    @torch.inference_mode()
    def walk(self, read: tuple[Tensor, Segments, Tensor], noise: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] of B captions and as many negatives, from noise.

        read: refined captions of both laid end to end, their lengths, the pooled vectors.
        """
        device, (captions, segments, pooled) = self.device, read

        def both(x: Tensor, t: float) -> tuple[Tensor, Tensor]:
            times = torch.full((2 * len(noise),), t, device=device)
            pair = torch.cat((x, x))
            v: Tensor = self.transformer(pair, times, captions, segments, pooled)
            conditional, unconditional = v.float().chunk(2)
            return conditional, unconditional

        velocity = guided(both, self.drawing.guidance)
        times = grid(self.drawing.steps, self.drawing.solver, shift=self.drawing.shift)
        x = noise.to(device)
        for step in solve(velocity, x, times, self.drawing.solver):
            x = step.x
        return torch.cat([self.vae.decode(part) for part in x.split(32)]).clamp(-1, 1)

    def _read(self, texts: Sequence[str], device: torch.device) -> tuple[Tensor, Segments, Tensor]:
        """Encode texts one by one; empty ones, all alike, only once."""
        known: dict[str, tuple[Tensor, Tensor]] = {}
        for text in dict.fromkeys(texts):
            ids, pooled_ids = (
                torch.tensor([tokenizer.encode(text).ids], device=device)
                for tokenizer in (self.gemma_tokenizer, self.jina_tokenizer)
            )
            features = self.gemma(ids)[0]
            caption = self.transformer.caption(features, Segments((len(features),)))
            known[text] = caption, self.jina(pooled_ids)[0]
        captions, pooled = zip(*(known[text] for text in texts), strict=True)
        segments = Segments(tuple(len(caption) for caption in captions))
        return torch.cat(captions), segments, torch.stack(pooled)


@dataclass(frozen=True, slots=True)
class Score:
    """Share of hits per slot (0-1) for drawings with `count` characters."""

    count: int
    pictures: int
    slots: Mapping[str, float]

    @property
    def binding(self) -> float:
        """Mean over hair colour and style, eye colour, garment and its colour."""
        return sum(self.slots[slot] for slot in BINDING) / len(BINDING)


def measure(
    painter: Painter,
    judge: Judge,
    count: int,
    pictures: int,
    seed: int,
    writer: Habits = CAREFUL,
    batch: int = 64,
    size: Size = (256, 256),
) -> Score:
    """Draw `pictures` scenes of `count` characters that training never saw, and ask the judge."""
    rng, words = np.random.default_rng((seed, count)), Random(seed + count)
    found: dict[str, list[Tensor]] = {}
    for start in range(0, pictures, batch):
        scenes = [
            random_scene(rng, count, unseen=True) for _ in range(min(batch, pictures - start))
        ]
        texts = [joined(write_prompt(scene, words, writer)) for scene in scenes]
        for slot, right in look(painter, judge, scenes, texts, seed + start, size).items():
            found.setdefault(slot, []).append(right.flatten())
    slots = {slot: torch.cat(right).nanmean().item() for slot, right in found.items()}
    return Score(count, pictures, slots)


def look(
    painter: Painter,
    judge: Judge,
    scenes: Sequence[Scene],
    texts: Sequence[str],
    seed: int,
    size: Size = (256, 256),
) -> Mapping[str, Tensor]:
    """Draw scenes by their texts, and ask the judge at each character's place; as `hits`."""
    device = next(judge.parameters()).device
    codes = np.stack([to_codes(scene) for scene in scenes])
    boxes = np.stack([scene_boxes(row, size[0] / size[1])[:, 0] for row in codes])
    drawn = painter.paint(texts, seed, size)
    truth = (torch.from_numpy(array).to(device) for array in (boxes, codes))
    return hits(judge, drawn, *truth)


def accuracy_table(scores: Sequence[Score]) -> str:
    """Accuracy in percent, a column for each score, as a Markdown table."""
    rows = {"binding": [score.binding for score in scores]}
    rows |= {slot: [score.slots[slot] for score in scores] for slot in scores[0].slots}
    head = " | ".join(str(score.count) for score in scores)
    lines = [f"| characters | {head} |", "|---|" + "---|" * len(scores)]
    for name, values in rows.items():
        cells = " | ".join(f"{100 * value:.1f}" for value in values)
        lines.append(f"| {name.replace('_', ' ')} | {cells} |")
    return "\n".join(lines)


@torch.inference_mode()
def psnr(vae: VAE, pictures: Tensor) -> float:
    """Mean peak signal-to-noise ratio, dB, of (B, 3, H, W) pictures in [-1, 1] through `vae`."""
    ratios = []
    for part in pictures.split(16):
        back = vae.decode(vae.encode(part)).clamp(-1, 1)
        error = (back - part).square().flatten(1).mean(dim=1)
        ratios.append(10 * torch.log10(4 / error))
    return torch.cat(ratios).mean().item()
