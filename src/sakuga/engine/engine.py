"""The main path, from a Request to pictures; the only place where the rooms meet.

    texts -> conditioning -> noise -> velocity, step by step -> latents -> pixels

`Engine.generate` is that line in code. `staging` runs each stage as a plan says, so that it fits
the memory there is. What leaves a stage is checked for values that are not finite; if there
are any, it runs once more in float32 before it gives up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sakuga.adapters.fit import fit_adapters, record
from sakuga.adapters.inventory import transformer_targets, with_adapters
from sakuga.adapters.spec import parse_adapters
from sakuga.api.request import (
    AdapterRecord,
    Decoded,
    Encoded,
    Event,
    Finished,
    Planned,
    Receipt,
    Request,
    Result,
    StagePlan,
    Stepped,
    Warned,
    needs_negative,
    resolve,
)
from sakuga.checkpoint.catalog import Source, locate
from sakuga.checkpoint.folder import ENCODERS, Checkpoint, open_checkpoint
from sakuga.checkpoint.inventory import read_inventory
from sakuga.engine.embeddings import EmbeddingCache, EmbeddingKey
from sakuga.engine.faults import Faults
from sakuga.engine.networks import STAGES, Models
from sakuga.engine.preview import Glance, Painter, delayed, pictures, preview_map
from sakuga.engine.runner import Drawing, NotFinite, Stage, Stages
from sakuga.engine.texts import Reading, read_texts, strange
from sakuga.engine.velocity import Denoiser, Prepared, Seating, modulated, refined
from sakuga.errors import RequestError
from sakuga.memory.device import Home, open_home
from sakuga.memory.devices import DTYPES, choose_device, choose_dtype
from sakuga.memory.plan import Budget, Options
from sakuga.model.nextdit import NextDiT
from sakuga.model.text import Conditioning
from sakuga.model.vae import VAE
from sakuga.sample.guidance import guided
from sakuga.sample.solvers import SOLVERS, Step, evaluation_times, solve
from sakuga.tokenizer.tokens import Tokenizer
from sakuga.weights.digests import DigestCache
from sakuga.weights.store import file_sha256, read_json

HEADS = frozenset({"adaLN_modulation"})  # of blocks: what made the modulations, used no more
# What of the transformer never lies on a card as a whole: it passes, or its blocks do.
PASSING = HEADS | {"noise_refiner", "context_refiner", "layers"}


class Engine:
    """Draws with one model on one device; an ImageGenerator. Weights load at first use."""

    def __init__(
        self,
        models: Models,
        home: Home,
        options: Options,
        cache: Path | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.checkpoint, self.models, self.home = models.checkpoint, models, home
        self.options, self.faults = options, faults
        self.spec = self.checkpoint.spec
        self._free = threading.Lock()
        inventory = with_adapters(read_inventory(self.checkpoint), models.adapters)
        self.stages = Stages(inventory, home, options)
        self.embeddings = EmbeddingCache(cache) if cache else None
        self.digest = DigestCache(cache).of if cache else file_sha256
        self.preview_map = preview_map(
            _stored_preview(self.checkpoint), self.spec.vae.latent_channels
        )

    @classmethod
    def open(
        cls,
        model: str | Source = "chibi",
        *,
        device: str = "auto",
        dtype: str = "auto",
        budget: Budget | None = None,
        cache: Path | None = None,
        faults: str = "",
    ) -> Engine:
        """Open a model by name or folder, or from several places; only headers are read.

        device: auto, cpu, cuda or cuda:N. dtype: auto (bfloat16 on cards that compute in
        it, else float32), float32, bfloat16 or float16. budget: the memory it may use.
        cache: a folder that keeps embeddings and digests between runs; None keeps nothing.
        faults: a plan for tests, see `engine.faults`. On a card, a budget is met most closely
        with PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True in the environment before torch
        is imported, as the command line has it. Raises ModelNotFound, WeightsError,
        RequestError.
        """
        where, asked = choose_device(device), budget or Budget()
        source = Source(model) if isinstance(model, str) else model
        folder = None if source.model is None else locate(source.model)
        checkpoint = open_checkpoint(folder, source.parts)
        home = open_home(where, asked)
        options = Options(
            choose_dtype(dtype, where),
            asked.weights,
            allow_lossy=asked.allow_lossy,
            keep_resident=asked.keep_resident,
            pinned=home.pins.limit if home.pins else None,
            in_place=not home.lends,
        )
        fits = fit_adapters(
            parse_adapters(source.lora), transformer_targets(checkpoint.spec.transformer),
            partial=source.lora_partial,
        )  # fmt: skip
        models = Models(checkpoint, options.dtype, fits, folded=home.lends)
        return cls(models, home, options, cache, Faults(faults) if faults else None)

    def generate(self, request: Request) -> Iterator[Event]:
        """Draw. Stop iterating to cancel: the step under way ends and all is released.

        One request at a time: another has to wait until this is exhausted or closed. Raises
        RequestError before any work, PromptRefused, BudgetTooSmall, NonFiniteOutput,
        OutOfMemory.
        """
        if not self._free.acquire(blocking=False):
            raise RequestError(
                "an engine draws one request at a time", "another while one is drawn",
                "Exhaust or close the generator of the first, or open a second engine.",
            )  # fmt: skip
        try:
            yield from self._draw(request)
        finally:
            self._free.release()

    def _draw(self, request: Request) -> Iterator[Event]:
        began = time.perf_counter()
        request, notes = self.resolve(request), self._strange_tokenizers
        drawing = self.plan(request, self.read(request))
        yield Planned(request, self.stages.told(drawing))
        yield from self.stages.say_learned(drawing)
        for each in self.models.adapters:
            if each.unmatched or each.adapter.assumed:
                yield Warned("adapter", str(each))
        for note in notes:
            drawing.notes.append(note)
            yield Warned("tokenizer", note)
        if drawing.plan.kept:
            self.home.keep(tuple(one.weights for one in drawing.plan.stages))
        else:
            self.home.release()
        sides = yield from self._encode(drawing)
        latents = yield from self.stages.run(
            drawing, "denoise", lambda how: self._denoise(drawing, sides, how)
        )
        pixels = yield from self.stages.run(
            drawing, "decode", lambda how: self._decode(latents, how)
        )
        for index, picture in enumerate(pictures(pixels)):
            receipt = self._receipt(drawing, index)
            yield Finished(Result(picture, receipt, time.perf_counter() - began))

    def resolve(self, request: Request) -> Request:
        """The request in full, as this model draws it. Raises RequestError."""
        return resolve(request, self.spec.drawing)

    @property
    def weights(self) -> dict[str, str]:
        """SHA-256 of each component's weights."""
        return self.checkpoint.sha256(self.digest)

    @property
    def adapters(self) -> tuple[AdapterRecord, ...]:
        """What changes the transformer, in order."""
        return tuple(record(each, self.digest) for each in self.models.adapters)

    def read(self, request: Request) -> Reading:
        """Both texts as each encoder will see them. Raises PromptRefused."""
        return read_texts(request, self.spec, *self._tokenizers)

    @cached_property
    def _tokenizers(self) -> tuple[Tokenizer, Tokenizer]:
        """Gemma's and Jina's."""
        gemma, jina = map(self.checkpoint.tokenizer, ENCODERS)
        return Tokenizer.open(gemma), Tokenizer.open(jina)

    @cached_property
    def _strange_tokenizers(self) -> tuple[str, ...]:
        """What shows that a tokenizer is another encoder's. Raises SpecMismatch if it must be."""
        specs = self.spec.gemma, self.spec.jina
        found = map(strange, self._tokenizers, specs)
        return tuple(
            f"The {name} seems to be another encoder's: {why}."
            for name, why in zip(ENCODERS, found, strict=True) if why
        )  # fmt: skip

    def plan(self, request: Request, reading: Reading) -> Drawing:
        """How a resolved request will be run. Raises BudgetTooSmall."""
        return self.stages.plan(request, reading)

    def _encode(self, drawing: Drawing) -> Stage[list[Conditioning]]:
        """Both sides of the guidance; no negative where guidance does not need one."""
        tokens = yield from self._features(drawing, "gemma", "encode")
        pooled = yield from self._features(drawing, "jina", "jina")
        if drawing.request.uncond == "keep-pooled":
            pooled = pooled * len(tokens)
        yield Encoded(drawing.reading.counts)
        return [Conditioning(*side) for side in zip(tokens, pooled, strict=True)]

    def _features(self, drawing: Drawing, stage: str, place: str) -> Stage[list[Tensor]]:
        """What an encoder makes of each text, on the host; it reads only what is not kept."""
        texts = drawing.reading.ids[stage]
        found = {ids: self._kept(stage, ids, drawing.stages[stage]) for ids in texts}
        missing = [ids for ids, features in found.items() if features is None]
        if missing:
            made = yield from self.stages.run(
                drawing, stage, lambda how: self._read(stage, missing, place, how)
            )
            found |= dict(zip(missing, made, strict=True))
        return [found[ids] for ids in texts]

    def _read(
        self, stage: str, texts: Sequence[tuple[int, ...]], place: str, how: StagePlan
    ) -> Stage[list[Tensor]]:
        """Run an encoder over texts, each unpadded, so that none depends on another."""
        with self.home.host():
            encoder = self.models.for_stage(stage, how.weights, how.dtype)
            ids = [torch.tensor([one]) for one in texts]
        layers, tables = encoder.model.layers, frozenset({"embed_tokens", "word_embeddings"})
        with (
            self.home.lend(encoder.model, tables | {"layers"}),
            self.home.stream(layers, how.resident) as stream,
        ):
            features = [one[0] for one in encoder.encode(ids, stream, self.home.device)]
        self._check(place, *features)
        with self.home.host():
            features = [one.to("cpu", copy=True) for one in features]
        for one, made in zip(texts, features, strict=True):
            if self.embeddings:
                trouble = self.embeddings.put(self._key(stage, one, how), (made,))
                if trouble:
                    yield Warned("cache", trouble)
        return features

    def _kept(self, stage: str, ids: tuple[int, ...], how: StagePlan) -> Tensor | None:
        """What the cache has for a text."""
        if self.embeddings is None:
            return None
        found = self.embeddings.get(self._key(stage, ids, how))
        return None if found is None else found[0]

    def _key(self, stage: str, ids: tuple[int, ...], how: StagePlan) -> EmbeddingKey:
        part = getattr(self.checkpoint, STAGES[stage])
        return EmbeddingKey.of(
            stage, ids, weights=part.store.sha256(self.digest), storage=how.weights,
            compute=DTYPES[how.dtype], device=self.home.device,
            mode=f"{part.spec} {part.match}",
        )  # fmt: skip

    def _denoise(
        self, drawing: Drawing, sides: list[Conditioning], how: StagePlan
    ) -> Stage[Tensor]:
        """Latents (B, C, h, w) in float32, from noise."""
        home, request = self.home, drawing.request
        lengths = [len(side.tokens) for side in sides]
        with home.host():
            transformer = self.models.for_stage("denoise", how.weights, how.dtype)
            groups = self.noise(request).split(-(-request.number // how.batches))
            seating = [Seating.of(transformer, lengths, len(group), group.shape[-2:], how.parts)
                       for group in groups]
        with home.lend(transformer, PASSING):
            prepared = self._prepare(transformer, sides, drawing)
            with home.stream(transformer.blocks, how.resident, HEADS, again=True) as blocks:
                latents = []
                for group, seats in zip(groups, seating, strict=True):
                    denoiser = Denoiser(transformer, prepared, seats.to(home.device), blocks)
                    done = len(latents), len(groups)
                    latents.append((yield from self._walk(drawing, denoiser, group, done)))
        return torch.cat(latents)

    def _prepare(
        self, transformer: NextDiT, sides: list[Conditioning], drawing: Drawing
    ) -> Prepared:
        """What no step changes; the weights behind it pass the device once."""
        home, device = self.home, self.home.device
        with home.host():
            places = [transformer.text_positions((len(side.tokens),)) for side in sides]
        here = [Conditioning(side.tokens.to(device, copy=True), side.pooled.to(device, copy=True))
                for side in sides]
        with home.stream(transformer.context_refiner) as blocks:
            captions = refined(transformer, here, [one.to(device) for one in places], blocks)
        times = evaluation_times(drawing.times, drawing.request.solver)
        with home.stream(transformer.heads) as heads:
            return Prepared(captions, *modulated(transformer, here, times, heads))

    def _walk(
        self, drawing: Drawing, denoiser: Denoiser, noise: Tensor, done: tuple[int, int]
    ) -> Stage[Tensor]:
        """Denoise one group of pictures; `done`: groups before it, and how many there are."""
        request, device = drawing.request, self.home.device
        before, groups = done
        velocity = denoiser.conditional
        if needs_negative(request):
            velocity = guided(denoiser.both, request.guidance, request.renorm,
                              request.truncation if request.truncation < 1 else None, velocity)
        x = noise.to(device, copy=True)
        painter = self.preview_map.on(device) if self.preview_map else None
        steps = solve(velocity, x, drawing.times, request.solver)
        glances = (self._glance(step, painter) for step in steps)
        # One glance late on a card: the host reads a step while the next one is computed.
        for glance in delayed(glances, by=int(self.home.on_card)):
            step = glance.step
            if not glance.finite:
                raise NotFinite(f"step {step.index}")
            yield Stepped(before * step.of + step.index, groups * step.of, glance.previews)
        return glance.step.x

    def _glance(self, step: Step, painter: Painter | None) -> Glance:
        if self.faults:
            self.faults.strike(f"step{step.index}", step.x)
        return Glance(step, painter)

    def noise(self, request: Request) -> Tensor:
        """Float32 noise (B, C, h, w) from one CPU generator per picture, seeded seed + i."""
        width, height = request.size
        down = self.spec.vae.downscale
        shape = (self.spec.vae.latent_channels, height // down, width // down)
        generators = (torch.Generator().manual_seed(request.seed + i)
                      for i in range(request.number))
        return torch.stack([torch.randn(shape, generator=one) for one in generators])

    def _decode(self, latents: Tensor, how: StagePlan) -> Stage[Tensor]:
        """Pixels (B, H, W, 3), uint8 on the CPU; one picture at a time."""
        with self.home.host():
            vae = self.models.for_stage("decode", how.weights, how.dtype)
        with self.home.lend(vae, frozenset({"encoder"})):
            images = [self._pixels(vae, one, how) for one in latents.split(1)]
        yield Decoded()
        with self.home.host():
            return torch.cat(images).movedim(1, -1).contiguous()

    def _pixels(self, vae: VAE, latents: Tensor, how: StagePlan) -> Tensor:
        """Pixels (1, 3, H, W) of one picture, uint8 on the CPU; nothing else of it is left."""
        image = vae.decode(latents.to(DTYPES[how.dtype]), how.strips, how.recompute).float()
        self._check("decode", image)
        pixels = ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        with self.home.host():
            return pixels.to("cpu", copy=True)

    def _check(self, place: str, *tensors: Tensor) -> None:
        if self.faults:
            self.faults.strike(place, *tensors)
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            raise NotFinite(place)

    def _receipt(self, drawing: Drawing, index: int) -> Receipt:
        request = drawing.request
        return Receipt(
            model=self.spec.name,
            request=request,
            index=index,
            seed=request.seed + index,
            texts=drawing.reading.sent,
            tokens=drawing.reading.counts,
            solver=f"{request.solver}: {SOLVERS[request.solver].source}",
            guidance=formula(request),
            plan=self.stages.told(drawing),
            weights=self.weights,
            versions={"sakuga": version("sakuga"), "torch": torch.__version__},
            notes=tuple(drawing.notes),
            adapters=self.adapters,
        )


def formula(request: Request) -> str:
    """The guidance of a resolved request as people write it."""
    if not needs_negative(request):
        return "v_cond"
    text = f"v_uncond + {request.guidance:g}·(v_cond - v_uncond)"
    if request.renorm:
        text += f", norm at most {request.renorm:g}·|v_cond|"
    if request.truncation < 1:
        text += f"; v_cond from t = {request.truncation:g}"
    return text


def _stored_preview(checkpoint: Checkpoint) -> Any:
    """The preview map in model_index.json: {"sakuga": {"preview": {...}}}."""
    index = checkpoint.path / "model_index.json"
    if not index.is_file():
        return None
    return read_json(index, checkpoint.path).get("sakuga", {}).get("preview")
