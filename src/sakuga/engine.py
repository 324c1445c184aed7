"""The main path, from a Request to pictures; the only place where the rooms meet.

    texts -> conditioning -> noise -> velocity, step by step -> latents -> pixels

`Engine.generate` is that line in code. How each stage is run to fit the memory there is, a
plan says beforehand; a stage that runs out of memory all the same goes down the plan's rungs.
What leaves a stage is checked for values that are not finite; if there are any, the stage
runs once more in float32 before it gives up.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from sakuga.catalog import Source, locate
from sakuga.denoiser import Denoiser, Prepared, Seating, modulated, refined
from sakuga.embeddings import EmbeddingCache, EmbeddingKey
from sakuga.errors import NonFiniteOutput, OutOfMemory
from sakuga.faults import Faults
from sakuga.memory.adapted import transformer_targets, with_adapters
from sakuga.memory.costs import Costs, Work, stage_dtype
from sakuga.memory.home import LIBRARIES, Home, available_memory, card_of, chip
from sakuga.memory.inventory import read_inventory
from sakuga.memory.plan import (
    Budget,
    MemoryPlan,
    Options,
    make_plan,
    parse_bytes,
    rungs,
    smallest_limit,
)
from sakuga.memory.reasons import readable
from sakuga.model.nextdit import NextDiT
from sakuga.model.text import Conditioning
from sakuga.models import DTYPES, STAGES, Models, choose_device, choose_dtype
from sakuga.preview import Glance, delayed, pictures, preview_map
from sakuga.prompt.canonical import encoder_texts
from sakuga.prompt.tokens import Tokenizer, Tokens
from sakuga.request import (
    AdapterRecord,
    Decoded,
    Encoded,
    Event,
    Finished,
    Plan,
    Planned,
    Receipt,
    Request,
    Result,
    SentTexts,
    StagePlan,
    Stepped,
    TokenCounts,
    Warned,
    needs_negative,
    resolve,
)
from sakuga.sample.guidance import guided
from sakuga.sample.solvers import SOLVERS, Step, evaluation_times, find_solver, grid, solve
from sakuga.weights.adapter_fit import fit_adapters, record
from sakuga.weights.adapter_spec import parse_adapters
from sakuga.weights.checkpoint import Checkpoint, open_checkpoint, read_json
from sakuga.weights.digests import DigestCache
from sakuga.weights.store import file_sha256

T = TypeVar("T")
Stage = Generator[Event, None, T]

HEADS = frozenset({"adaLN_modulation"})
# What of the transformer never lies on a card as a whole: it passes, or its blocks do.
PASSING = HEADS | {"noise_refiner", "context_refiner", "layers"}
FULL = re.compile("out of memory|can't allocate memory|ALLOC_FAILED", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reading:
    """The texts of a request as strings and as token ids, before any network.

    `ids` by stage, gemma and jina: those of the prompt, then those of the negative if the
    guidance looks at it.
    """

    sent: SentTexts
    counts: TokenCounts
    ids: dict[str, tuple[tuple[int, ...], ...]]


@dataclass(slots=True)
class Drawing:
    """One request on its way: what it reads, its time grid, what it asks of the device.

    `stages`: how each is run, as planned and then as it was. `notes`: what went otherwise.
    """

    request: Request
    reading: Reading
    times: tuple[float, ...]
    work: Work
    plan: MemoryPlan
    stages: dict[str, StagePlan]
    notes: list[str] = field(default_factory=list)


class _NotFinite(Exception):
    """A place where a value was not finite."""


class Engine:
    """Draws with one model on one device; an ImageGenerator. Weights load at first use.

    `learned`: bytes that a stage turned out not to get, by its plan; later plans of this
    engine stay below.
    """

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
        self.inventory = with_adapters(read_inventory(self.checkpoint), models.adapters)
        self.card = card_of(home.device)
        self.embeddings = EmbeddingCache(cache) if cache else None
        self.digests = DigestCache(cache) if cache else None
        self.learned: int | None = None
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
        faults: a plan for tests, see `sakuga.faults`. Raises ModelNotFound, WeightsError,
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
        models = Models(checkpoint, options.dtype, fits)
        return cls(models, home, options, cache, Faults(faults) if faults else None)

    def generate(self, request: Request) -> Iterator[Event]:
        """Draw. Stop iterating to cancel: the step under way ends and all is released.

        Raises RequestError before any work, PromptRefused, BudgetTooSmall, NonFiniteOutput,
        OutOfMemory.
        """
        began = time.perf_counter()
        request = self.resolve(request)
        drawing = self.plan(request, self.read(request))
        yield Planned(request, self._told(drawing))
        yield from self._say_learned(drawing)
        for each in self.models.adapters:
            if each.unmatched or each.adapter.assumed:
                yield Warned("adapter", str(each))
        self.home.keep(drawing.plan.kept and tuple(one.weights for one in drawing.plan.stages))
        sides = yield from self._encode(drawing)
        latents = yield from self._staged(
            drawing, "denoise", lambda how, dtype: self._denoise(drawing, sides, how, dtype)
        )
        pixels = yield from self._staged(
            drawing, "decode", lambda how, dtype: self._decode(latents, how, dtype)
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
        return self.checkpoint.sha256(self.digests)

    @property
    def adapters(self) -> tuple[AdapterRecord, ...]:
        """What changes the transformer, in order."""
        digest = self.digests.of if self.digests else file_sha256
        return tuple(record(each, digest) for each in self.models.adapters)

    def read(self, request: Request) -> Reading:
        """Both texts as each encoder will see them. Raises PromptRefused."""
        drawing = self.spec.drawing
        texts = encoder_texts(
            request.prompt,
            request.negative,
            system_xml=drawing.system_xml,
            system_text=drawing.system_text,
            system=request.system,
            verbatim=request.verbatim,
            mode=request.text_mode,
        )
        gemma = Tokenizer.open(self.checkpoint.tokenizer("tokenizer"))
        jina = Tokenizer.open(self.checkpoint.tokenizer("tokenizer_2"))
        positive, negative = (
            (gemma.encode(side.gemma), jina.encode(side.jina))
            for side in (texts.positive, texts.negative)
        )
        cut = request.max_tokens
        trained = self.spec.gemma.trained_tokens
        counts = TokenCounts(
            gemma=len(positive[0].ids[:cut]),
            jina=len(positive[1].ids),
            negative_gemma=len(negative[0].ids[:cut]),
            negative_jina=len(negative[1].ids),
            trained=trained,
            past=_word_at(texts.positive.gemma, positive[0], trained),
        )
        sent = SentTexts(
            texts.positive.gemma, texts.positive.jina, texts.negative.gemma, texts.negative.jina
        )
        sides = (positive, negative) if needs_negative(request) else (positive,)
        return Reading(sent, counts, {
            "gemma": tuple(tuple(side[0].ids[:cut]) for side in sides),
            "jina": tuple(tuple(side[1].ids) for side in sides),
        })  # fmt: skip

    def plan(self, request: Request, reading: Reading) -> Drawing:
        """How a resolved request will be run. Raises BudgetTooSmall."""
        times = grid(request.steps, request.solver, request.schedule, request.shift)
        work = work_of(request, reading, times)
        plan = self._plan(work, self.options)
        return Drawing(request, reading, times, work, plan, {one.stage: one for one in plan.stages})

    def _plan(self, work: Work, options: Options) -> MemoryPlan:
        options = replace(options, most=None if self.learned is None else self.learned - 1)
        return make_plan(self.inventory, self.home.limit, work, self.card, options)

    def _told(self, drawing: Drawing) -> Plan:
        """The plan as a receipt tells it."""
        on_card = self.home.on_card
        return Plan(
            device=str(self.home.device),
            chip=chip(self.home.device),
            dtype=self.options.dtype,
            batch=-(-drawing.request.number // drawing.stages["denoise"].batches),
            threads=0 if on_card else torch.get_num_threads(),
            limit=self.home.limit,
            kept=drawing.plan.kept,
            pinned=self.options.pinned,
            stages=tuple(drawing.stages.values()),
        )

    def _say_learned(self, drawing: Drawing) -> Stage[None]:
        """Say so where a plan starts lower than it would without what was learned."""
        if self.learned is None:
            return
        free = make_plan(
            self.inventory, self.home.limit, drawing.work, self.card, self.options
        )
        if free.stages != drawing.plan.stages:
            note = f"Planned below {readable(self.learned)}, for which memory ran out before."
            drawing.notes.append(note)
            yield Warned("learned_limit", note)

    def _encode(self, drawing: Drawing) -> Stage[list[Conditioning]]:
        """Both sides of the guidance; no negative where guidance does not need one."""
        tokens = yield from self._features(drawing, "gemma", "encode")
        pooled = yield from self._features(drawing, "jina", "jina")
        if drawing.request.uncond == "keep-pooled":
            pooled = [pooled[0]] * len(pooled)
        yield Encoded(drawing.reading.counts)
        return [Conditioning(*side) for side in zip(tokens, pooled, strict=True)]

    def _features(self, drawing: Drawing, stage: str, place: str) -> Stage[list[Tensor]]:
        """What an encoder makes of each text, on the host; it reads only what is not kept."""
        texts = drawing.reading.ids[stage]
        found = {ids: self._kept(stage, ids, drawing.stages[stage]) for ids in texts}
        missing = [ids for ids, features in found.items() if features is None]
        if missing:
            made = yield from self._staged(
                drawing, stage, lambda how, dtype: self._read(stage, missing, place, how, dtype)
            )
            found |= dict(zip(missing, made, strict=True))
        return [found[ids] for ids in texts]

    def _read(
        self, stage: str, texts: Sequence[tuple[int, ...]], place: str, how: StagePlan, dtype: str
    ) -> Stage[list[Tensor]]:
        """Run an encoder over texts, each unpadded, so that none depends on another."""
        with self.home.host():
            encoder = self.models.for_stage(stage, how.weights, dtype)
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
                trouble = self.embeddings.put(self._key(stage, one, how, dtype), (made,))
                if trouble:
                    yield Warned("cache", trouble)
        return features

    def _kept(self, stage: str, ids: tuple[int, ...], how: StagePlan) -> Tensor | None:
        """What the cache has for a text."""
        if self.embeddings is None:
            return None
        found = self.embeddings.get(self._key(stage, ids, how, self.options.dtype))
        return None if found is None else found[0]

    def _key(
        self, stage: str, ids: tuple[int, ...], how: StagePlan, dtype: str
    ) -> EmbeddingKey:
        part = getattr(self.checkpoint, STAGES[stage])
        return EmbeddingKey.of(
            stage, ids, weights=self.weights[part.name], storage=how.weights,
            compute=DTYPES[stage_dtype(stage, dtype)], device=self.home.device,
            mode=f"{part.spec} {part.match}",
        )  # fmt: skip

    def _denoise(
        self, drawing: Drawing, sides: list[Conditioning], how: StagePlan, dtype: str
    ) -> Stage[Tensor]:
        """Latents (B, C, h, w) in float32, from noise."""
        home, request = self.home, drawing.request
        lengths = [len(side.tokens) for side in sides]
        with home.host():
            transformer = self.models.for_stage("denoise", how.weights, dtype)
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
            places = [transformer.text_places((len(side.tokens),)) for side in sides]
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
        glances = map(self._glance, solve(velocity, x, drawing.times, request.solver))
        # One glance late on a card: the host reads a step while the next one is computed.
        for glance in delayed(glances, by=int(self.home.on_card)):
            step = glance.step
            if not glance.finite:
                raise _NotFinite(f"step {step.index}")
            yield Stepped(before * step.of + step.index, groups * step.of, glance.previews)
        return glance.step.x

    def _glance(self, step: Step) -> Glance:
        if self.faults:
            self.faults.strike(f"step{step.index}", step.x)
        return Glance(step, self.preview_map)

    def noise(self, request: Request) -> Tensor:
        """Float32 noise (B, C, h, w) from one CPU generator per picture, seeded seed + i."""
        width, height = request.size
        down = self.spec.vae.downscale
        shape = (self.spec.vae.latent_channels, height // down, width // down)
        generators = (torch.Generator().manual_seed(request.seed + i)
                      for i in range(request.number))
        return torch.stack([torch.randn(shape, generator=one) for one in generators])

    def _decode(self, latents: Tensor, how: StagePlan, dtype: str) -> Stage[Tensor]:
        """Pixels (B, H, W, 3), uint8 on the CPU; one picture at a time."""
        with self.home.host():
            vae = self.models.for_stage("decode", how.weights, dtype)
        images = []
        with self.home.lend(vae, frozenset({"encoder"})):
            kind = DTYPES[stage_dtype("decode", dtype)]
            for one in latents.split(1):
                image = vae.decode(one.to(kind), how.strips, how.recompute).float()
                self._check("decode", image)
                images.append(((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu())
        yield Decoded()
        return torch.cat(images).movedim(1, -1).contiguous()

    def _check(self, place: str, *tensors: Tensor) -> None:
        if self.faults:
            self.faults.strike(place, *tensors)
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            raise _NotFinite(place)

    def _staged(
        self, drawing: Drawing, name: str, run: Callable[[StagePlan, str], Stage[T]]
    ) -> Stage[T]:
        """Run a stage as planned; where it is not finite, once more in float32."""
        dtype = self.options.dtype
        try:
            return (yield from self._laddered(drawing, name, run, self.options))
        except _NotFinite as place:
            note = f"NaN or infinity at {place}; once more in float32."
        drawing.notes.append(note)
        yield Warned("non_finite", note)
        options = replace(self.options, dtype="float32")
        if dtype != "float32":
            drawing.stages[name] = self._plan(drawing.work, options).stage(name)
        try:
            return (yield from self._laddered(drawing, name, run, options))
        except _NotFinite as place:
            raise NonFiniteOutput(
                "every value that leaves a stage must be finite",
                f"NaN or infinity at {place}, in float32 too",
                "Check the weights with another prompt, or lower the guidance.",
            ) from None

    def _laddered(
        self, drawing: Drawing, name: str, run: Callable[[StagePlan, str], Stage[T]],
        options: Options,
    ) -> Stage[T]:  # fmt: skip
        """Run a stage; each time memory runs out, on the next rung of its plan."""
        for how in self._ladder(drawing, name, options):
            drawing.stages[name] = how
            self.home.begin(name)
            try:
                return (yield from self._watched(run(how, options.dtype)))
            except RuntimeError as error:
                # Only the CUDA allocator has a class of its own for this; the CPU's and the
                # driver's words are all there is to go by.
                if not FULL.search(str(error)):
                    raise
                said = str(error).splitlines()[0]
            # Outside the handler, so that no frame of the failed stage keeps its tensors alive.
            self.home.keep(False)
            self.learned = min(self.learned or how.peak_bytes, how.peak_bytes)
            note = f"Out of memory in {name}, planned for {readable(how.peak_bytes)}: {said[:200]}"
            drawing.notes.append(note)
            yield Warned("out_of_memory", note)
        raise OutOfMemory(
            f"every stage of a drawing must fit in memory, and {name!r} needs a budget of at least "
            f"{readable(smallest_limit(how.peak_bytes))}",
            said,
            "Ask for a smaller size or fewer pictures at once, or close other programs.",
        )

    def _ladder(self, drawing: Drawing, name: str, options: Options) -> Iterator[StagePlan]:
        """The way a stage is planned, then every cheaper one, each taking less than the last."""
        yield (first := drawing.stages[name])
        costs = Costs(self.inventory, drawing.work, self.card, options.dtype, options.pinned)
        for rung in rungs(name, costs, options):
            if rung.peak_bytes < first.peak_bytes:
                yield rung

    def _watched(self, stage: Stage[T]) -> Stage[T]:
        """Let what a stage computes count, and nothing of what a consumer does meanwhile."""
        with contextlib.closing(stage):
            while True:
                with self.home.watch():
                    try:
                        event = next(stage)
                    except StopIteration as end:
                        return end.value
                yield event

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
            plan=self._told(drawing),
            weights=self.weights,
            versions={"sakuga": version("sakuga"), "torch": torch.__version__,
                      "transformers": version("transformers")},
            notes=tuple(drawing.notes),
            adapters=self.adapters,
        )


def work_of(request: Request, reading: Reading, times: Sequence[float]) -> Work:
    """What of a resolved request decides memory and time."""
    width, height = request.size
    counts = {name: tuple(map(len, ids)) for name, ids in reading.ids.items()}
    evaluations = request.steps * find_solver(request.solver, request.steps).evaluations
    return Work(
        width, height, request.number, evaluations, len(counts["gemma"]), counts["gemma"],
        counts["jina"], times=len(evaluation_times(times, request.solver)),
    )  # fmt: skip


def open_home(device: torch.device, budget: Budget) -> Home:
    """The device with the budget that people asked for. Raises RequestError."""
    on_card, limit = device.type == "cuda", None
    if budget.vram != "auto":
        limit = parse_bytes(budget.vram)
    elif on_card:
        free, _ = torch.cuda.mem_get_info(device)
        limit = free - LIBRARIES
    pinned = None
    if budget.pinned != "auto":
        pinned = parse_bytes(budget.pinned)
    elif (available := available_memory()) is not None:
        pinned = available // 2
    return Home(device, limit, pinned)


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


def _word_at(text: str, tokens: Tokens, limit: int) -> str | None:
    """The word of `text` that holds the first token past `limit`, if there is one."""
    if len(tokens.ids) <= limit:
        return None
    start, _ = tokens.offsets[limit]
    start -= len(re.split(r"\s", text[:start])[-1])
    return re.split(r"\s", text[start:].lstrip(), maxsplit=1)[0]


def _stored_preview(checkpoint: Checkpoint) -> Any:
    """The preview map in model_index.json: {"sakuga": {"preview": {...}}}."""
    index = checkpoint.path / "model_index.json"
    if not index.is_file():
        return None
    return read_json(index, checkpoint.path).get("sakuga", {}).get("preview")
