"""From latents to pixels: by the autoencoder, or, for a preview, by a linear map.

Autoencoders of this family keep colour nearly linear in their latents, so three dot
products per latent show the composition at a thousandth of the cost of decoding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from sakuga.api.events import Decoded
from sakuga.api.receipt import StagePlan
from sakuga.checkpoint.folder import Checkpoint
from sakuga.engine.networks import Networks
from sakuga.engine.run import Events, Run
from sakuga.engine.runner import check_finite
from sakuga.errors import SpecMismatch
from sakuga.files.png import Picture
from sakuga.memory.device import DTYPES, Device
from sakuga.memory.stages import DECODE
from sakuga.model.vae import VAE
from sakuga.sample.solvers import Step

T = TypeVar("T")
Painting = Callable[[Tensor], Tensor]

# Fitted for FLUX.1's autoencoder by the ComfyUI project (comfy/latent_formats.py): what one
# unit of each of the 16 scaled latent channels adds to red, green and blue in [-1, 1].
FLUX_FACTORS = (
    (-0.0346, 0.0244, 0.0681), (0.0034, 0.0210, 0.0687), (0.0275, -0.0668, -0.0433),
    (-0.0174, 0.0160, 0.0617), (0.0859, 0.0721, 0.0329), (0.0004, 0.0383, 0.0115),
    (0.0405, 0.0861, 0.0915), (-0.0236, -0.0185, -0.0259), (-0.0245, 0.0250, 0.1180),
    (0.1008, 0.0755, -0.0421), (-0.0515, 0.0201, 0.0011), (0.0428, -0.0012, -0.0036),
    (0.0817, 0.0765, 0.0749), (-0.1264, -0.0522, -0.1103), (-0.0280, -0.0881, -0.0499),
    (-0.1262, -0.0982, -0.0778),
)  # fmt: skip
FLUX_BIAS = (-0.0329, -0.0718, -0.0851)


@dataclass(frozen=True, slots=True)
class PreviewMap:
    """`factors` (C, 3) and `bias` (3,): scaled latents to RGB in [-1, 1]."""

    factors: Sequence[Sequence[float]]
    bias: Sequence[float]

    def on(self, device: torch.device) -> Painting:
        """The map of latents (B, C, h, w) there to uint8 (B, h, w, 3).

        Made once for many steps: a card has to be waited for while it gets the numbers.
        """
        factors = torch.tensor(self.factors, dtype=torch.float32, device=device)
        bias = torch.tensor(self.bias, dtype=torch.float32, device=device)

        def pixels(latents: Tensor) -> Tensor:
            rgb = latents.float().movedim(1, -1) @ factors + bias
            return ((rgb + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

        return pixels


FLUX = PreviewMap(FLUX_FACTORS, FLUX_BIAS)


def preview_map(stored: Mapping[str, Any] | None, channels: int) -> PreviewMap | None:
    """The map a checkpoint brings ({"factors": C x 3, "bias": 3}), FLUX's, or none that fits.

    Raises SpecMismatch if what it brings is no such map.
    """
    if stored is None:
        return FLUX if channels == len(FLUX.factors) else None
    try:
        chosen = PreviewMap(stored["factors"], stored["bias"])
        chosen.on(torch.device("cpu"))(torch.zeros(1, channels, 1, 1))
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise SpecMismatch(
            f"a preview map must have {channels} x 3 factors and 3 biases",
            repr(stored)[:60],
            "Correct it in model_index.json, or remove it.",
        ) from None
    return chosen


def stored_preview(checkpoint: Checkpoint) -> PreviewMap | None:
    """The map of a model, from its model_index.json: {"sakuga": {"preview": {...}}}."""
    return preview_map(checkpoint.index.preview, checkpoint.spec.vae.latent_channels)


def fit_preview(latents: Tensor, images: Tensor) -> PreviewMap:
    """The least-squares map from latents (B, C, h, w) to their images (B, 3, H, W) in [-1, 1]."""
    small = torch.nn.functional.interpolate(images.float(), latents.shape[-2:], mode="area")
    rows = latents.float().movedim(1, -1).flatten(0, -2)  # (B·h·w, C)
    rows = torch.nn.functional.pad(rows, (0, 1), value=1.0)
    solved = torch.linalg.lstsq(rows, small.movedim(1, -1).flatten(0, -2)).solution.tolist()
    return PreviewMap(solved[:-1], solved[-1])


class Preview:
    """A finished step, whether its latents (B, C, h, w) are finite, and a preview of them.

    The preview shows the picture that the step expects, not its noise. On a card both are
    copied to the host without waiting; reading them waits for no more than the work queued
    before. Read one step late, they cost no time at all.
    """

    def __init__(self, step: Step, painter: Painting | None) -> None:
        self.step = step
        small = painter(step.x0) if painter else None
        self._finite = torch.isfinite(step.x).all().to("cpu", non_blocking=True)
        self._small = small.to("cpu", non_blocking=True) if small is not None else None
        self._copied = torch.cuda.Event() if step.x.is_cuda else None
        if self._copied:
            self._copied.record(torch.cuda.current_stream(step.x.device))

    @property
    def finite(self) -> bool:
        """Whether every value is."""
        if self._copied:
            self._copied.synchronize()
        return bool(self._finite)

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """One small picture per image; none without a map."""
        if self._copied:
            self._copied.synchronize()
        return () if self._small is None else tuple(map(picture_of, self._small))


def delayed(items: Iterable[T], by: int) -> Iterator[T]:
    """The same items, each given only after `by` more have been made."""
    waiting: deque[T] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > by:
            yield waiting.popleft()
    yield from waiting


def picture_of(pixels: Tensor) -> Picture:
    """A Picture of uint8 (H, W, 3) on the CPU."""
    height, width, _ = pixels.shape
    return Picture(width, height, pixels.contiguous().numpy().tobytes())


def finished(run: Run, pixels: Tensor) -> Picture:
    """What comes out: pixels as they are, or laid into the picture that was started from.

    An upscaler that was not of use between two passes enlarges it.
    """
    if run.start is not None:
        pixels = torch.from_numpy(run.start.canvas.with_drawn(pixels.numpy()))
    if run.upscaler is not None and run.request.hires_by != "model":
        pixels = run.upscaler.enlarge(pixels)
    return picture_of(pixels)


@dataclass(frozen=True, slots=True)
class DecodeInputs:
    """The autoencoder, latents (B, C, h, w) on the device, and how they are decoded."""

    run: Run
    vae: VAE
    latents: Tensor
    how: StagePlan


def prepare(networks: Networks, run: Run, latents: Tensor, how: StagePlan) -> DecodeInputs:
    """On the host: the network as planned."""
    return DecodeInputs(run, networks.of(DECODE, how.weights, how.dtype), latents, how)


def decode(inputs: DecodeInputs, device: Device) -> Events[list[Tensor]]:
    """Pixels (H, W, 3) of each picture, uint8 on the host; one picture at a time."""
    with device.lend(inputs.vae, frozenset({"encoder"})):
        pictures = [_pixels(inputs, one, device) for one in torch.split(inputs.latents, 1)]
    yield Decoded()
    return pictures


def _pixels(inputs: DecodeInputs, latents: Tensor, device: Device) -> Tensor:
    """Pixels of one picture; nothing else of it is left on the device."""
    how = inputs.how
    image = inputs.vae.decode(latents.to(DTYPES[how.dtype]), how.strips, how.recompute).float()
    check_finite(inputs.run, "decode", image)
    pixels = ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return device.to_host(pixels)[0].movedim(0, -1)
