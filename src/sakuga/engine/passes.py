"""The passes of a drawing: latents from noise or a picture, pixels from latents, and once more.

With `hires` a drawing has two: the first is drawn small, its picture enlarged, and the second
begins on the way from new noise to that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from sakuga.api.events import Decoded, Stepped
from sakuga.api.resolved import Resolved
from sakuga.engine import decode, denoise, encode_picture
from sakuga.engine.beginning import Beginning, beginning_of
from sakuga.engine.decode import PreviewMap
from sakuga.engine.networks import Networks
from sakuga.engine.run import Events, Run
from sakuga.engine.runner import Runner
from sakuga.files.canvas import scaled
from sakuga.memory.costs import Work
from sakuga.memory.stages import DECODE, DENOISE, ENCODE, STAGES, Stage
from sakuga.model.text import Conditioning

T = TypeVar("T")
LATENT, MODEL = "latent", "model"


def stages_of_second(request: Resolved) -> tuple[Stage, ...]:
    """The stages of a second pass: its texts are read by then."""
    wanted = (DENOISE, DECODE) if request.hires_by == LATENT else (ENCODE, DENOISE, DECODE)
    return tuple(stage for stage in STAGES if stage in wanted)


def work_of_second(work: Work, request: Resolved) -> Work:
    """What a second pass asks of a device, which begins with pictures or with their latents."""
    return replace(work, encodes=0 if request.hires_by == LATENT else work.batch)


@dataclass(frozen=True, slots=True)
class Passes:
    """What passes need: networks, and who runs their stages. `previews`: of latents, if any."""

    networks: Networks
    runner: Runner
    previews: PreviewMap | None

    def latents(self, run: Run, texts: Sequence[Conditioning]) -> Events[Tensor]:
        """What is decoded (B, C, h, w): drawn from noise, or from a picture, or a picture's own."""
        origin = None
        if run.start is not None and ENCODE.name in run.stages:
            own = yield from self._encoded(run, torch.tensor(run.start.canvas.framed())[None])
            origin = beginning_of(run, own)
        if DENOISE.name not in run.stages:
            assert origin is not None  # a drawing without a step is of a picture
            return origin.latents.repeat(run.request.number, 1, 1, 1)
        return (yield from self._denoised(run, texts, origin))

    def pixels(self, run: Run, latents: Tensor) -> Events[list[Tensor]]:
        """Pixels (H, W, 3) of each, uint8 on the host."""
        prepare = partial(decode.prepare, self.networks, run, latents)
        return (yield from self.runner.run(run, DECODE, prepare, decode.decode))

    def enlarged(self, run: Run, latents: Tensor) -> Events[Tensor]:
        """What a second pass begins with: latents (B, C, h, w), or pixels (B, H, W, 3)."""
        assert run.second is not None
        width, height = run.second.request.size
        if run.request.hires_by == LATENT:
            cell = self.networks.checkpoint.spec.vae.downscale
            return F.interpolate(latents, (height // cell, width // cell), mode="bicubic").cpu()
        pictures = yield from self.pixels(run, latents)
        if run.upscaler is not None and run.request.hires_by == MODEL:
            pictures = [run.upscaler.enlarge(one) for one in pictures]
        return torch.stack([torch.tensor(scaled(one.numpy(), (width, height))) for one in pictures])

    def again(self, run: Run, begun: Tensor, texts: Sequence[Conditioning]) -> Events[Tensor]:
        """The latents (B, C, h, w) of pictures after their second pass."""
        assert run.second is not None
        second = run.second
        if ENCODE.name in second.stages:
            begun = yield from self._encoded(second, begun)
        return (yield from self._denoised(second, texts, beginning_of(second, begun)))

    def _encoded(self, run: Run, pixels: Tensor) -> Events[Tensor]:
        prepare = partial(encode_picture.prepare, self.networks, run, pixels)
        return (yield from self.runner.run(run, ENCODE, prepare, encode_picture.encode))

    def _denoised(
        self, run: Run, texts: Sequence[Conditioning], origin: Beginning | None
    ) -> Events[Tensor]:
        prepare = partial(denoise.prepare, self.networks, run, texts, self.previews, origin)
        return (yield from self.runner.run(run, DENOISE, prepare, denoise.denoise))


def among(events: Events[T], before: int, after: int, *, last: bool = True) -> Events[T]:
    """The events of one pass among those of all: `before` and `after` are steps of others."""
    with contextlib.closing(events):
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                made: T = end.value
                return made
            if isinstance(event, Stepped):
                index, of = before + event.index, before + event.of + after
                event = replace(event, index=index, of=of)
            if last or not isinstance(event, Decoded):
                yield event
