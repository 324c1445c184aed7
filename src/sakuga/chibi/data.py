"""What the embedded model learns from: rendered pictures, and prompts written for them."""

from __future__ import annotations

import math
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
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
from sakuga.chibi.regime import Size, Sized
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
WIDE_COUNTS = (0.2, 0.12, 0.14, 0.2, 0.17, 0.17)  # and a wide one: of these as many as six
_WIDE = (384, 256)  # where six can be told apart, in pixels
UNCONDITIONAL = 0.1  # share of samples without a prompt, for guidance
KEEP_POOLED = 0.5  # share of those that keep the pooled vector, as the original's training did
LONGEST = 400  # tokens of a prompt of training; a longer one is written again
# Lengths are multiples of this, so that batches of one length gather soon; for rarer sizes wider.
STRIDE, RARE_STRIDE = 8, 32


@dataclass(frozen=True, slots=True)
class Renders:
    """Pictures with their truth.

    pixels: (B, 3, H, W) uint8. codes: (B, CODE_LENGTH) int8, see `scene.to_codes`.
    boxes: (B, M, 2, 4) float32, per character its whole box and its face as x0, y0, x1, y1 in
    fractions of the picture; zero where there is no character.
    """

    pixels: Tensor
    codes: Tensor
    boxes: Tensor


def draw_renders(
    seed: tuple[int, ...], count: int, size: Size = (256, 256), shares: Sequence[float] = ()
) -> Renders:
    """Draw `count` random scenes; the same arguments give the same renders.

    size: (width, height). shares: how often there are 1, 2, ... characters; as suits the size.
    """
    rng = np.random.default_rng(seed)
    wide = size[0] >= _WIDE[0] and size[1] >= _WIDE[1]
    shares = shares or (WIDE_COUNTS if wide else COUNTS)
    pixels, codes, boxes = [], [], []
    for i in range(count):
        scene = random_scene(rng, count=1 + int(rng.choice(len(shares), p=shares)))
        pixels.append(render(scene, size=size, seed=int(rng.integers(2**31))))
        codes.append(to_codes(scene))
        boxes.append(scene_boxes(codes[i], size[0] / size[1]))
    return Renders(
        pixels=torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(),
        codes=torch.from_numpy(np.stack(codes)),
        boxes=torch.from_numpy(np.stack(boxes)),
    )


def scene_boxes(codes: np.ndarray, aspect: float = 1.0) -> np.ndarray:
    """Where the characters of a scene and their faces are: (M, 2, 4) float32."""
    boxes = np.zeros((MAX_CHARACTERS, 2, 4), dtype=np.float32)
    for i, place in enumerate(layout(from_codes(codes), aspect)):
        for j, box in enumerate((place.box, place.face)):
            boxes[i, j] = box.x0, box.y0, box.x1, box.y1
    return boxes


class _RenderStream(IterableDataset[tuple[int, Tensor, Tensor, Tensor]]):
    """Chunks of renders for each pool, in turn; every worker draws seeds of its own."""

    def __init__(self, seed: int, chunk: int, pools: Sequence[Pool]) -> None:
        self.seed = seed
        self.kinds = [(min(chunk, pool.capacity), pool.size) for pool in pools]
        chunks = [math.ceil(pool.capacity / chunk) for pool in pools]
        # Spread evenly, so that all pools are full at about the same time.
        places = [((k + 0.5) / many, i) for i, many in enumerate(chunks) for k in range(many)]
        self.turns = [pool for _, pool in sorted(places)]

    def __iter__(self) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        worker, workers = _worker()
        for index in range(worker, len(self.turns), workers):
            pool = self.turns[index]
            renders = draw_renders((self.seed, index), *self.kinds[pool])
            yield pool, renders.pixels, renders.codes, renders.boxes


class Pool:
    """Renders of one size (width, height) on the training device, as many as are ready."""

    def __init__(self, size: Size, capacity: int, device: torch.device) -> None:
        self.size, self.capacity = size, capacity
        self.pixels = torch.empty(capacity, 3, *size[::-1], dtype=torch.uint8, device=device)
        self.codes = torch.empty(capacity, CODE_LENGTH, dtype=torch.int8)
        self.boxes = torch.empty(capacity, MAX_CHARACTERS, 2, 4)
        self.ready = 0

    def add(self, pixels: Tensor, codes: Tensor, boxes: Tensor) -> None:
        """Take as many of these as there is room for."""
        end = min(self.ready + len(pixels), self.capacity)
        window, taken = slice(self.ready, end), end - self.ready
        self.pixels[window] = pixels[:taken].to(self.pixels.device)
        self.codes[window] = codes[:taken]
        self.boxes[window] = boxes[:taken]
        self.ready = end

    def wait(self, count: int) -> None:
        """Block until `count` pictures are ready."""
        while self.ready < count:
            time.sleep(0.05)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Indices of `count` random pictures among those that are ready."""
        self.wait(min(count, self.capacity))
        return torch.randint(self.ready, (count,), generator=generator)


class Gallery:
    """A pool of renders for each size, filled behind the trainer's back."""

    def __init__(self, pictures: int, sizes: Sequence[Sized], device: torch.device) -> None:
        self.pools = [Pool(one.size, max(2, round(pictures * one.share)), device) for one in sizes]

    def fill(self, seed: int, workers: int, chunk: int = 64) -> None:
        """Start drawing with `workers` processes (0: in this one, before returning)."""
        stream = _RenderStream(seed, chunk, self.pools)
        # Workers fork here, while no other thread can hold a lock.
        chunks = iter(DataLoader(stream, batch_size=None, num_workers=workers))
        thread = Thread(target=self._take, args=(chunks,), daemon=True)
        thread.start()
        if not workers:
            thread.join()

    def _take(self, chunks: Iterator[tuple[int, Tensor, Tensor, Tensor]]) -> None:
        for pool, *renders in chunks:
            self.pools[pool].add(*renders)

    def pick(self, generator: torch.Generator) -> Pool:
        """A pool at random, larger ones more often."""
        shares = torch.tensor([float(pool.capacity) for pool in self.pools])
        return self.pools[int(torch.multinomial(shares, 1, generator=generator))]


def to_unit(pixels: Tensor) -> Tensor:
    """Bytes to [-1, 1] in float32."""
    return pixels.float() / 127.5 - 1


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the transformer learns from: of each size, (B, C, h, w) latents, codes and boxes.

    Latents are scaled. The first size is the usual one.
    """

    latents: tuple[Tensor, ...]
    codes: tuple[Tensor, ...]
    boxes: tuple[Tensor, ...]

    @classmethod
    def open(cls, folder: Path, device: torch.device) -> Lesson:
        """Read what `encode_gallery` kept; latents go to `device`."""
        tensors = load_file(folder / "latents.safetensors")
        pools = range(len(tensors) // 3)
        latents, codes, boxes = (
            tuple(tensors[f"{name}.{pool}"] for pool in pools)
            for name in ("latents", "codes", "boxes")
        )
        return cls(tuple(each.to(device) for each in latents), codes, boxes)

    def batch_of(self, pool: int, usual: int) -> int:
        """How many pictures of a pool take the place of `usual` ones of the first.

        Half of what their area says: of rare sizes batches would gather too slowly.
        """
        if not pool:
            return usual
        first, area = (math.prod(self.latents[i].shape[-2:]) for i in (0, pool))
        fitting = usual * min(1.0, first / area) / 2
        return max(1, round(fitting) // 16 * 16 or round(fitting))


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """Prompts of one length, for the renders at `index` (B,) of one pool; boxes are (B, M, 2, 4).

    gemma: (B, L) ids. jina: (B, L') ids, padded with 1. place: (B, L, 2), where the character a
    token describes stands (x, height of its figure); `owned` (B, L) marks such tokens.
    """

    pool: int
    index: Tensor
    boxes: Tensor
    gemma: Tensor
    jina: Tensor
    place: Tensor
    owned: Tensor

    def to(self, device: torch.device) -> PromptBatch:
        """The same batch on another device."""
        names = (field.name for field in fields(self) if field.name != "pool")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        return PromptBatch(pool=self.pool, **moved)


class _PromptStream(IterableDataset[tuple[int, *tuple[Tensor, ...]]]):
    """Endless prompts, gathered by pool and length.

    Line breaks at its end, which mean nothing, take a prompt to the next length that is used.
    """

    def __init__(
        self, lesson: Lesson, folder: Path, batch: int, seed: int, forms: Sequence[str]
    ) -> None:
        self.forms = tuple(forms)
        self.codes = [codes.numpy() for codes in lesson.codes]
        self.boxes = [boxes.numpy() for boxes in lesson.boxes]
        self.batches = [lesson.batch_of(pool, batch) for pool in range(len(self.codes))]
        self.folder, self.seed = folder, seed

    def __iter__(self) -> Iterator[tuple[int, *tuple[Tensor, ...]]]:
        worker, _ = _worker()
        rng = Random(self.seed * 1000 + worker)
        gemma = Tokenizer.from_file(str(self.folder / "tokenizer" / "tokenizer.json"))
        jina = Tokenizer.from_file(str(self.folder / "tokenizer_2" / "tokenizer.json"))
        waiting: dict[tuple[int, int], list[_Sample]] = defaultdict(list)
        pools, shares = range(len(self.codes)), [len(codes) for codes in self.codes]
        while True:
            (pool,) = rng.choices(pools, shares)
            sample = self._write(pool, rng, gemma, jina)
            kind = pool, len(sample.gemma)
            waiting[kind].append(sample)
            if len(waiting[kind]) == self.batches[pool]:
                yield pool, *self._collate(pool, waiting.pop(kind))

    def _write(self, pool: int, rng: Random, gemma: Tokenizer, jina: Tokenizer) -> _Sample:
        index = rng.randrange(len(self.codes[pool]))
        scene = from_codes(self.codes[pool][index])
        while True:
            writer = habits(rng)
            if self.forms:
                writer = replace(writer, form=rng.choice(self.forms))
            pieces = write_prompt(scene, rng, writer)
            text = joined(pieces)
            encoding = gemma.encode(text)
            if len(encoding.ids) <= LONGEST:
                break
        dropped = rng.random() < UNCONDITIONAL
        pooled_text = "" if dropped and rng.random() >= KEEP_POOLED else text
        stride = RARE_STRIDE if pool else STRIDE
        ids = gemma.encode("").ids if dropped else _filled(encoding.ids, gemma, stride)
        owners = np.full(len(ids), -1, dtype=np.int64)
        if not dropped:
            starts = np.array([span[0] for span in encoding.offsets])
            ends = np.cumsum([len(piece.text) for piece in pieces])
            piece_of = np.searchsorted(ends, starts, side="right").clip(max=len(pieces) - 1)
            owners[: len(starts)] = np.array([piece.owner for piece in pieces])[piece_of]
            owners[0] = -1
        # A prompt does not know the size of its picture: places are those of a square one.
        figure = scene_boxes(self.codes[pool][index])[:, 0]
        place = np.stack([(figure[:, 0] + figure[:, 2]) / 2, figure[:, 3] - figure[:, 1]], axis=-1)
        pooled_ids = jina.encode(pooled_text).ids
        return _Sample(index, ids, pooled_ids, place[owners], owners >= 0)

    def _collate(self, pool: int, samples: list[_Sample]) -> tuple[Tensor, ...]:
        index = np.array([sample.index for sample in samples])
        jina = [torch.tensor(sample.jina) for sample in samples]
        return (
            torch.from_numpy(index),
            torch.from_numpy(self.boxes[pool][index]),
            torch.tensor([sample.gemma for sample in samples]),
            torch.nn.utils.rnn.pad_sequence(jina, batch_first=True, padding_value=1),
            torch.from_numpy(np.stack([sample.place for sample in samples])),
            torch.from_numpy(np.stack([sample.owned for sample in samples])),
        )


def _filled(ids: list[int], gemma: Tokenizer, stride: int) -> list[int]:
    return ids + [gemma.encode("\n").ids[-1]] * (-len(ids) % stride)


@dataclass(frozen=True, slots=True)
class _Sample:
    index: int
    gemma: list[int]
    jina: list[int]
    place: np.ndarray
    owned: np.ndarray


def prompt_batches(
    lesson: Lesson, folder: Path, batch: int, seed: int, workers: int, forms: Sequence[str] = ()
) -> Iterator[PromptBatch]:
    """Prompts for the pictures of a lesson, without end, `batch` of the usual size at once.

    Tokenizers are read from `folder`. `forms`: those of `prompts.Habits` that are written, each
    as often; without it as writers have them.
    """
    stream = _PromptStream(lesson, folder, batch, seed, forms)
    # A worker whose lengths have not gathered yet must not hold up the others.
    loader = DataLoader(stream, batch_size=None, num_workers=workers, in_order=False)
    for pool, *tensors in loader:
        yield PromptBatch(pool, *tensors)


def _worker() -> tuple[int, int]:
    """Number of this worker and of all; workers step aside for the process that trains."""
    info = get_worker_info()
    if info is None:
        return 0, 1
    os.nice(10)
    return info.id, info.num_workers
