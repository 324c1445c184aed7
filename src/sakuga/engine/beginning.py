"""Where a drawing begins: in noise, or on the way from noise to the latents of a picture.

Between noise and a picture a flow goes straight, x_t = (1 - t)·noise + t·picture. A strength
says how much of that way is walked again. Where only a part is drawn, all else goes on along
its own straight line: its velocity is picture - noise, whatever the model says, so that any
solver has it at the noised original after every step. That is the blending of Blended Latent
Diffusion (arXiv 2206.02779, section 3.2), said as a velocity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import repeat

import torch
from torch import Tensor

from sakuga.engine.run import Run
from sakuga.memory.device import Device
from sakuga.sample.solvers import Velocity


@dataclass(frozen=True, slots=True)
class Beginning:
    """Latents (1 or B, C, h, w) on the host of what pictures start from, and how much is left.

    `time`: where its way begins; 0 where all of it is walked, which begins in noise alone.
    `free`: the cells (h, w) that are drawn, None for all.
    """

    latents: Tensor
    time: float
    free: Tensor | None

    def split(self, count: int) -> Iterator[Beginning]:
        """Those of `count` pictures each; one for all is that of any of them."""
        if len(self.latents) == 1:
            return repeat(self)
        return (replace(self, latents=some) for some in self.latents.split(count))

    def state(self, noise: Tensor) -> Tensor:
        """Where pictures with this noise (B, C, h, w) begin."""
        return noise if self.time == 0 else (1 - self.time) * noise + self.time * self.latents

    def bounded(self, velocity: Velocity, noise: Tensor, device: Device) -> Velocity:
        """The velocity where pictures are drawn, and of the original everywhere else."""
        if self.free is None:
            return velocity
        with device.host():
            line = self.latents - noise
        free, course = device.to_device(self.free), device.to_device(line)
        return lambda x, t: torch.where(free, velocity(x, t), course)


def beginning_of(run: Run, latents: Tensor) -> Beginning:
    """Where a drawing begins that starts from a picture with these latents."""
    request, free = run.request, None
    if run.start is not None:
        canvas = run.start.canvas
        free = canvas.free(canvas.size[0] // latents.shape[-1])
    whole = request.walked == request.steps
    return Beginning(
        latents, 0.0 if whole else run.times[0], None if free is None else torch.from_numpy(free)
    )
