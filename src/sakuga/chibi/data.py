"""What the embedded model learns from: rendered pictures, and prompts written for them."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from random import Random
from threading import Thread

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from sakuga.chibi.prompts import habits, joined, write_prompt
from sakuga.chibi.renderer import render
from sakuga.chibi.scene import (
    CODE_LENGTH,
    MAX_CHARACTERS,
    from_codes,
    layout,
    random_scene,
    to_codes,
)

COUNTS = (0.2, 0.16, 0.24, 0.4)  # how often a training picture holds 1, 2, 3, 4 characters
UNCONDITIONAL = 0.1  # share of samples without a prompt, for guidance
KEEP_POOLED = 0.5  # share of those that keep the pooled vector, as the original's training did
LONGEST = 304  # tokens of a prompt of training; a longer one is written again
STRIDE = 8  # lengths are multiples of this, so that batches of one length gather soon


@dataclass(frozen=True, slots=True)
class Renders:
    """Pictures with their truth.

    pixels: (B, 3, H, W) uint8. codes: (B, CODE_LENGTH) int8, see `scene.to_codes`.
    boxes: (B, 4, 2, 4) float32, per character its whole box and its face as x0, y0, x1, y1 in
    fractions of the picture; zero where there is no character.
    """

    pixels: Tensor
    codes: Tensor
    boxes: Tensor


def draw_renders(seed: tuple[int, ...], count: int, size: int) -> Renders:
    """Draw `count` random scenes; the same seed gives the same renders."""
    rng = np.random.default_rng(seed)
    pixels, codes, boxes = [], [], []
    for i in range(count):
        scene = random_scene(rng, count=1 + int(rng.choice(MAX_CHARACTERS, p=COUNTS)))
        pixels.append(render(scene, size=size, seed=int(rng.integers(2**31))))
        codes.append(to_codes(scene))
        boxes.append(scene_boxes(codes[i]))
    return Renders(
        pixels=torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(),
        codes=torch.from_numpy(np.stack(codes)),
        boxes=torch.from_numpy(np.stack(boxes)),
    )


def scene_boxes(codes: np.ndarray) -> np.ndarray:
    """Where the characters of a scene and their faces are: (4, 2, 4) float32."""
    boxes = np.zeros((MAX_CHARACTERS, 2, 4), dtype=np.float32)
    for i, place in enumerate(layout(from_codes(codes))):
        for j, box in enumerate((place.box, place.face)):
            boxes[i, j] = box.x0, box.y0, box.x1, box.y1
    return boxes


class _RenderStream(IterableDataset[tuple[Tensor, Tensor, Tensor]]):
    """Endless chunks of renders; every worker draws seeds of its own."""

    def __init__(self, seed: int, chunk: int, size: int) -> None:
        self.seed, self.chunk, self.size = seed, chunk, size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        worker, workers = _worker()
        index = worker
        while True:
            renders = draw_renders((self.seed, index), self.chunk, self.size)
            yield renders.pixels, renders.codes, renders.boxes
            index += workers


class Gallery:
    """A pool of renders on the training device, filled behind the trainer's back."""

    def __init__(self, capacity: int, size: int, device: torch.device) -> None:
        self.pixels = torch.empty(capacity, 3, size, size, dtype=torch.uint8, device=device)
        self.codes = torch.empty(capacity, CODE_LENGTH, dtype=torch.int8)
        self.boxes = torch.empty(capacity, MAX_CHARACTERS, 2, 4)
        self.ready = 0

    def fill(self, seed: int, workers: int, chunk: int = 64) -> None:
        """Start drawing with `workers` processes (0: in this one, before returning)."""
        stream = _RenderStream(seed, chunk, self.pixels.shape[-1])
        # Workers fork here, while no other thread can hold a lock.
        chunks = iter(DataLoader(stream, batch_size=None, num_workers=workers))
        thread = Thread(target=self._take, args=(chunks,), daemon=True)
        thread.start()
        if not workers:
            thread.join()

    def _take(self, chunks: Iterator[tuple[Tensor, Tensor, Tensor]]) -> None:
        for pixels, codes, boxes in chunks:
            end = min(self.ready + len(pixels), len(self.pixels))
            window, taken = slice(self.ready, end), end - self.ready
            self.pixels[window] = pixels[:taken].to(self.pixels.device)
            self.codes[window] = codes[:taken]
            self.boxes[window] = boxes[:taken]
            self.ready = end
            if end == len(self.pixels):
                return

    def wait(self, count: int) -> None:
        """Block until `count` pictures are ready."""
        while self.ready < count:
            time.sleep(0.05)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Indices of `count` random pictures among those that are ready."""
        return torch.randint(self.ready, (count,), generator=generator)


def to_unit(pixels: Tensor) -> Tensor:
    """Bytes to [-1, 1] in float32."""
    return pixels.float() / 127.5 - 1


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the transformer learns from: scaled latents (B, C, h, w), codes and boxes of each."""

    latents: Tensor
    codes: Tensor
    boxes: Tensor

    @classmethod
    def open(cls, folder: Path, device: torch.device) -> Lesson:
        """Read what `encode_gallery` kept; latents go to `device`."""
        tensors = load_file(folder / "latents.safetensors")
        return cls(tensors["latents"].to(device), tensors["codes"], tensors["boxes"])


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """Prompts of one length, for the renders at `index` (B,), whose boxes are (B, 4, 2, 4).

    gemma: (B, L) ids. jina: (B, L') ids, padded with 1. place: (B, L, 2), where the character a
    token describes stands (x, height of its figure); `owned` (B, L) marks such tokens.
    """

    index: Tensor
    boxes: Tensor
    gemma: Tensor
    jina: Tensor
    place: Tensor
    owned: Tensor

    def to(self, device: torch.device) -> PromptBatch:
        """The same batch on another device."""
        parts = (getattr(self, field.name) for field in fields(self))
        return PromptBatch(*(part.to(device, non_blocking=True) for part in parts))


class _PromptStream(IterableDataset[tuple[Tensor, ...]]):
    """Endless prompts, gathered by length.

    Line breaks at its end, which mean nothing, take a prompt to the next length that is used.
    """

    def __init__(self, codes: Tensor, boxes: Tensor, folder: Path, batch: int, seed: int) -> None:
        self.codes, self.boxes = codes.numpy(), boxes.numpy()
        self.folder, self.batch, self.seed = folder, batch, seed

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        worker, _ = _worker()
        rng = Random(self.seed * 1000 + worker)
        gemma = Tokenizer.from_file(str(self.folder / "tokenizer" / "tokenizer.json"))
        jina = Tokenizer.from_file(str(self.folder / "tokenizer_2" / "tokenizer.json"))
        waiting: dict[int, list[_Sample]] = defaultdict(list)
        while True:
            sample = self._write(rng, gemma, jina)
            same = waiting[len(sample.gemma)]
            same.append(sample)
            if len(same) == self.batch:
                yield self._collate(waiting.pop(len(sample.gemma)))

    def _write(self, rng: Random, gemma: Tokenizer, jina: Tokenizer) -> _Sample:
        index = rng.randrange(len(self.codes))
        scene = from_codes(self.codes[index])
        while True:
            pieces = write_prompt(scene, rng, habits(rng))
            text = joined(pieces)
            encoding = gemma.encode(text)
            if len(encoding.ids) <= LONGEST:
                break
        dropped = rng.random() < UNCONDITIONAL
        pooled_text = "" if dropped and rng.random() >= KEEP_POOLED else text
        ids = gemma.encode("").ids if dropped else self._filled(encoding.ids, gemma)
        owners = np.full(len(ids), -1, dtype=np.int64)
        if not dropped:
            starts = np.array([span[0] for span in encoding.offsets])
            ends = np.cumsum([len(piece.text) for piece in pieces])
            piece_of = np.searchsorted(ends, starts, side="right").clip(max=len(pieces) - 1)
            owners[: len(starts)] = np.array([piece.owner for piece in pieces])[piece_of]
            owners[0] = -1
        figure = self.boxes[index, :, 0]
        place = np.stack([(figure[:, 0] + figure[:, 2]) / 2, figure[:, 3] - figure[:, 1]], axis=-1)
        pooled_ids = jina.encode(pooled_text).ids
        return _Sample(index, ids, pooled_ids, place[owners], owners >= 0)

    def _filled(self, ids: list[int], gemma: Tokenizer) -> list[int]:
        return ids + [gemma.encode("\n").ids[-1]] * (-len(ids) % STRIDE)

    def _collate(self, samples: list[_Sample]) -> tuple[Tensor, ...]:
        index = np.array([sample.index for sample in samples])
        jina = [torch.tensor(sample.jina) for sample in samples]
        return (
            torch.from_numpy(index),
            torch.from_numpy(self.boxes[index]),
            torch.tensor([sample.gemma for sample in samples]),
            torch.nn.utils.rnn.pad_sequence(jina, batch_first=True, padding_value=1),
            torch.from_numpy(np.stack([sample.place for sample in samples])),
            torch.from_numpy(np.stack([sample.owned for sample in samples])),
        )


@dataclass(frozen=True, slots=True)
class _Sample:
    index: int
    gemma: list[int]
    jina: list[int]
    place: np.ndarray
    owned: np.ndarray


def prompt_batches(
    codes: Tensor, boxes: Tensor, folder: Path, batch: int, seed: int, workers: int
) -> Iterator[PromptBatch]:
    """Prompts for the renders with these codes and boxes, without end.

    Tokenizers are read from `folder`.
    """
    stream = _PromptStream(codes, boxes, folder, batch, seed)
    # A worker whose lengths have not gathered yet must not hold up the others.
    loader = DataLoader(stream, batch_size=None, num_workers=workers, in_order=False)
    for tensors in loader:
        yield PromptBatch(*tensors)


def _worker() -> tuple[int, int]:
    """Number of this worker and of all; workers step aside for the process that trains."""
    info = get_worker_info()
    if info is None:
        return 0, 1
    os.nice(10)
    return info.id, info.num_workers
