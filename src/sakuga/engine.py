"""The main path, from a Request to pictures; the only place where the rooms meet.

    texts -> conditioning -> noise -> velocity, step by step -> latents -> pixels

`Engine.generate` is that line in code. What leaves a stage is checked for values that are
not finite; if there are any, the stage runs once more in float32 before it gives up.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from sakuga.catalog import locate
from sakuga.denoiser import Denoiser
from sakuga.errors import NonFiniteOutput, OutOfMemory
from sakuga.faults import Faults
from sakuga.model.text import Conditioning
from sakuga.models import ENCODERS, Models, choose_device, choose_dtype
from sakuga.preview import Glance, delayed, pictures, preview_map
from sakuga.prompt.canonical import encoder_texts
from sakuga.prompt.tokens import Tokenizer, Tokens
from sakuga.request import (
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
    Stepped,
    TokenCounts,
    Warned,
    needs_negative,
    resolve,
)
from sakuga.sample.guidance import guided
from sakuga.sample.solvers import SOLVERS, Step, evaluation_times, grid, solve
from sakuga.weights.checkpoint import Checkpoint, open_checkpoint, read_json

T = TypeVar("T")
Stage = Generator[Event, None, T]


@dataclass(frozen=True, slots=True)
class Reading:
    """The texts of a request as strings and as token ids, before any network."""

    sent: SentTexts
    counts: TokenCounts
    positive: tuple[Tokens, Tokens]
    negative: tuple[Tokens, Tokens]


class _NotFinite(Exception):
    """A place where a value was not finite."""


class Engine:
    """Draws with one model on one device; an ImageGenerator. Weights load at first use."""

    def __init__(self, checkpoint: Checkpoint, models: Models, faults: Faults | None) -> None:
        self.checkpoint, self.models, self.faults = checkpoint, models, faults
        self.spec = checkpoint.spec
        self.device = models.device
        self.preview_map = preview_map(_stored_preview(checkpoint), self.spec.vae.latent_channels)

    @classmethod
    def open(
        cls, model: str = "chibi", *, device: str = "auto", dtype: str = "auto", faults: str = ""
    ) -> Engine:
        """Open a model by name or folder; only headers are read.

        device: auto, cpu, cuda or cuda:N. dtype: auto (bfloat16 on cards that compute in
        it, else float32), float32, bfloat16 or float16. faults: a plan for tests, see
        `sakuga.faults`. Raises ModelNotFound, WeightsError, RequestError.
        """
        where = choose_device(device)
        checkpoint = open_checkpoint(locate(model))
        models = Models(checkpoint, where, choose_dtype(dtype, where))
        return cls(checkpoint, models, Faults(faults) if faults else None)

    def generate(self, request: Request) -> Iterator[Event]:
        """Draw. Stop iterating to cancel: the step under way ends and all is released.

        Raises RequestError before any work, PromptRefused, NonFiniteOutput, OutOfMemory.
        """
        began = time.perf_counter()
        request = self.resolve(request)
        reading = self.read(request)
        plan = self.plan(request)
        yield Planned(request, plan)
        with _memory_errors():
            sides = yield from self._twice(ENCODERS, lambda: self._encode(reading, request))
            latents = yield from self._twice(
                ("transformer",), lambda: self._denoise(request, sides)
            )
            pixels = yield from self._twice(("vae",), lambda: self._decode(latents))
        for index, picture in enumerate(pictures(pixels)):
            receipt = self._receipt(request, index, reading, plan)
            yield Finished(Result(picture, receipt, time.perf_counter() - began))

    def resolve(self, request: Request) -> Request:
        """The request in full, as this model draws it. Raises RequestError."""
        return resolve(request, self.spec.drawing)

    def plan(self, request: Request) -> Plan:
        """How a resolved request is run: the whole batch at once, all of it on the device."""
        on_card = self.device.type == "cuda"
        return Plan(
            device=str(self.device),
            chip=torch.cuda.get_device_name(self.device) if on_card
            else torch.backends.cpu.get_cpu_capability(),
            dtype=str(self.models.dtype).removeprefix("torch."),
            batch=request.number,
            threads=0 if on_card else torch.get_num_threads(),
        )

    @property
    def weights(self) -> dict[str, str]:
        """SHA-256 of each component's weights."""
        return self.checkpoint.sha256()

    def memory(self) -> int:
        """Bytes in use: allocated on the card, or resident in this process."""
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        return resident_bytes()

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
        return Reading(sent, counts, positive, negative)

    def _encode(
        self, reading: Reading, request: Request
    ) -> Stage[tuple[Conditioning, Conditioning | None]]:
        """Both sides of the guidance; no negative where guidance does not need one."""
        positive = self._condition(reading.positive, request)
        found = [positive.tokens, positive.pooled]
        negative = None
        if needs_negative(request):
            negative = self._condition(reading.negative, request)
            found += [negative.tokens, negative.pooled]
            if request.uncond == "keep-pooled":
                negative = Conditioning(negative.tokens, positive.pooled)
        self._check("encode", *found)
        yield Encoded(reading.counts)
        return positive, negative

    def _condition(self, tokens: tuple[Tokens, Tokens], request: Request) -> Conditioning:
        """Encode one side: unpadded, so that no text depends on another."""
        gemma, jina = (torch.tensor([one.ids], device=self.device) for one in tokens)
        features = self.models["text_encoder"](gemma[:, : request.max_tokens])
        return Conditioning(features[0], self.models["text_encoder_2"](jina)[0])

    def _denoise(
        self, request: Request, sides: tuple[Conditioning, Conditioning | None]
    ) -> Stage[Tensor]:
        """Latents (B, C, h, w) in float32, from noise."""
        times = grid(request.steps, request.solver, request.schedule, request.shift)
        noise = self.noise(request).to(self.device)
        denoiser = Denoiser(
            self.models["transformer"], sides, request.number, tuple(noise.shape[-2:]),
            evaluation_times(times, request.solver),
        )  # fmt: skip
        velocity = denoiser.conditional
        if sides[1] is not None:
            velocity = guided(denoiser.both, request.guidance, request.renorm,
                              request.truncation if request.truncation < 1 else None, velocity)
        glances = map(self._glance, solve(velocity, noise, times, request.solver))
        # One glance late on a card: the host reads a step while the next one is computed.
        for glance in delayed(glances, by=int(noise.is_cuda)):
            if not glance.finite:
                raise _NotFinite(f"step {glance.step.index}")
            yield Stepped(glance.step.index, glance.step.of, glance.previews)
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

    def _decode(self, latents: Tensor) -> Stage[Tensor]:
        """Pixels (B, H, W, 3), uint8 on the CPU; one picture at a time."""
        vae = self.models["vae"]
        dtype = next(vae.parameters()).dtype
        images = []
        for one in latents.split(1):
            image = vae.decode(one.to(dtype)).float()
            self._check("decode", image)
            images.append(((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu())
        yield Decoded()
        return torch.cat(images).movedim(1, -1).contiguous()

    def _check(self, place: str, *tensors: Tensor) -> None:
        if self.faults:
            self.faults.strike(place, *tensors)
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            raise _NotFinite(place)

    def _twice(self, parts: tuple[str, ...], stage: Callable[[], Stage[T]]) -> Stage[T]:
        """Run a stage; where it is not finite, once more with `parts` in float32."""
        try:
            return (yield from stage())
        except _NotFinite as place:
            yield Warned("non_finite", f"NaN or infinity at {place}; once more in float32.")
        with self.models.in_float32(*parts):
            try:
                return (yield from stage())
            except _NotFinite as place:
                raise NonFiniteOutput(
                    "every value that leaves a stage must be finite",
                    f"NaN or infinity at {place}, in float32 too",
                    "Check the weights with another prompt, or lower the guidance.",
                ) from None

    def _receipt(self, request: Request, index: int, reading: Reading, plan: Plan) -> Receipt:
        return Receipt(
            model=self.spec.name,
            request=request,
            index=index,
            seed=request.seed + index,
            texts=reading.sent,
            tokens=reading.counts,
            solver=f"{request.solver}: {SOLVERS[request.solver].source}",
            guidance=formula(request),
            plan=plan,
            weights=self.weights,
            versions={"sakuga": version("sakuga"), "torch": torch.__version__,
                      "transformers": version("transformers")},
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


def resident_bytes() -> int:
    """Bytes of this process in memory now; where the system does not say, at most so far."""
    status = Path("/proc/self/statm")
    if status.is_file():
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    try:
        import resource  # noqa: PLC0415  # Windows has none
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


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


@contextlib.contextmanager
def _memory_errors() -> Iterator[None]:
    """Turn the several ways in which torch runs out of memory into one error of ours."""
    try:
        yield
    except RuntimeError as error:
        # Only the CUDA allocator has a class of its own for this; the CPU's and the driver's
        # words are all there is to go by.
        if not re.search("out of memory|can't allocate memory", str(error)):
            raise
        said = str(error).splitlines()[0]
    else:
        return
    # Outside the handler, so that no frame of the failed stage keeps its tensors alive.
    torch.cuda.empty_cache()
    raise OutOfMemory(
        "every stage of a drawing must fit in memory", said,
        "Ask for a smaller size or fewer pictures at once, or close other programs.",
    )
