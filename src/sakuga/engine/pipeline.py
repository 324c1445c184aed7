"""The names that users of diffusers type first: a pipeline to call, and its transformer alone."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sakuga.api.engine_spec import Budget, EngineSpec, as_model
from sakuga.api.events import Finished, Result, Stepped
from sakuga.api.options import keywords
from sakuga.api.request import Request
from sakuga.engine.engine import Engine
from sakuga.errors import RequestError
from sakuga.memory.stages import DENOISE
from sakuga.model.layers import Segments
from sakuga.model.nextdit import NextDiT
from sakuga.printable import cut

StepEnd = Callable[..., Any]
Generators = torch.Generator | Sequence[torch.Generator]
OUTPUTS = ("pil", "np", "pt")


@dataclass(frozen=True, slots=True)
class PipelineOutput:
    """What a pipeline gives: `images` as asked for, and their receipts."""

    images: Any
    results: tuple[Result, ...]


class NewbiePipeline:
    """A model that is called as diffusers' pipelines are; an Engine behind it does the work.

    pipe = NewbiePipeline.from_pretrained(path, torch_dtype=torch.bfloat16).to("cuda")
    pipe("1girl, smile", num_inference_steps=20).images[0].save("smile.png")
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    @keywords()
    def from_pretrained(
        cls, path: str | Path, *, torch_dtype: Any = "auto", device_map: str = "auto"
    ) -> NewbiePipeline:
        """Open a model's folder; only headers are read. device_map: a device, or auto.

        Raises ModelNotFound, WeightsError, RequestError.
        """
        where = "auto" if device_map in ("auto", "balanced", "sequential") else device_map
        dtype = str(torch_dtype).removeprefix("torch.")
        spec = EngineSpec(as_model(path), device=where, dtype=dtype)
        return cls(Engine.open(spec))

    @keywords(" A Request has more: pipe.engine.draw(Request(...)).")
    def __call__(  # noqa: PLR0913  # the signature is diffusers'
        self,
        prompt: str | Sequence[str],
        *,
        negative_prompt: str | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_images_per_prompt: int = 1,
        generator: Generators | None = None,
        callback_on_step_end: StepEnd | None = None,
        output_type: str = "pil",
    ) -> PipelineOutput:
        """Draw pictures of a prompt, or of each of several. Raises SakugaError.

        generator: whose first seed is taken, so that a picture is that of `seed=`; of several, one
        for each picture. callback_on_step_end: called with (pipe, step, time, {}).
        """
        if output_type not in OUTPUTS:
            near = difflib.get_close_matches(str(output_type), OUTPUTS, 1, 0.2) or OUTPUTS
            raise RequestError(
                f"output_type is one of {', '.join(OUTPUTS)}", cut(repr(output_type)),
                f"Did you mean {near[0]!r}?",
            )  # fmt: skip
        asked = Request(
            "", negative=negative_prompt or "", width=width, height=height,
            steps=num_inference_steps, guidance=guidance_scale,
        )  # fmt: skip
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        each = [one for one in prompts for _ in range(num_images_per_prompt)]
        seeds = _seeds(generator, len(each))
        results = tuple(
            self._drawn(replace(asked, prompt=one, seed=seed), callback_on_step_end)
            for one, seed in zip(each, seeds, strict=True)
        )
        return PipelineOutput(_as_asked(results, output_type), results)

    def to(self, *where: Any) -> NewbiePipeline:
        """This pipeline on another device, or in another dtype."""
        spec = self.engine.spec
        for one in where:
            if isinstance(one, torch.dtype):
                spec = replace(spec, dtype=str(one).removeprefix("torch."))
            else:
                spec = replace(spec, device=str(one))
        return self._reopened(spec)

    def enable_model_cpu_offload(self) -> None:
        """Let networks be on the card only while they work, which is so anyway."""
        self._reopened(replace(self.engine.spec, budget=Budget()))

    def enable_sequential_cpu_offload(self) -> None:
        """Let the blocks of a network pass a card of 4 GB."""
        self._reopened(replace(self.engine.spec, budget=Budget(vram="4GB")))

    def _reopened(self, spec: EngineSpec) -> NewbiePipeline:
        if spec != self.engine.spec:
            self.engine = Engine.open(spec)
        return self

    def _drawn(self, request: Request, ended: StepEnd | None) -> Result:
        """One picture; whoever listens hears of each step."""
        for event in self.engine.generate(request):
            if isinstance(event, Stepped) and ended:
                ended(self, event.index - 1, event.index / event.of, {})
            if isinstance(event, Finished):
                return event.result
        raise AssertionError("a drawing ends with a picture")


class DiT(nn.Module):
    """The transformer of a model alone: `DiT.from_pretrained(path).to(device)(x, t, c)`."""

    def __init__(self, network: NextDiT) -> None:
        super().__init__()
        self.network = network

    @classmethod
    @keywords()
    def from_pretrained(cls, path: str | Path, *, torch_dtype: Any = "auto") -> DiT:
        """Load the transformer of a model's folder. Raises ModelNotFound, WeightsError."""
        dtype = str(torch_dtype).removeprefix("torch.")
        engine = Engine.open(EngineSpec(as_model(path), device="cpu", dtype=dtype))
        return cls(engine.networks.of(DENOISE))

    def forward(self, x: Tensor, t: Tensor, c: Tensor, pooled: Tensor | None = None) -> Tensor:
        """The velocity (B, C, h, w) of latents at times t (B,), 0 noise to 1 picture.

        c: features of Gemma, (B, L, cap_feat_dim). pooled: Jina's, (B, clip_text_dim), which is
        left out where it is None.
        """
        segments = Segments((c.shape[1],) * len(c))
        caption = self.network.caption(c.flatten(0, 1), segments)
        velocity = self.network(x, t, caption, segments, pooled)
        return velocity if isinstance(velocity, Tensor) else torch.stack(tuple(velocity))


def _seeds(given: Generators | None, count: int) -> list[int | None]:
    """The seed of each picture: of one generator they follow each other."""
    if given is None:
        return [None] * count
    if isinstance(given, torch.Generator):
        return [given.initial_seed() % 2**63 + i for i in range(count)]
    if len(given) != count:
        got = f"{len(given)} for {count}"
        raise RequestError("there is a generator for each picture", got, "Give one, or as many.")
    return [one.initial_seed() % 2**63 for one in given]


def _as_asked(results: Sequence[Result], kind: str) -> Any:
    """Pictures as PIL images, or as numbers from 0 to 1: (B, H, W, 3) of numpy, (B, 3, H, W)."""
    images = [one.image for one in results]
    if kind == "pil":
        return images
    import numpy as np  # noqa: PLC0415

    stacked = np.stack([np.asarray(one) for one in images]).astype(np.float32) / 255
    return stacked if kind == "np" else torch.from_numpy(stacked).movedim(-1, 1)
