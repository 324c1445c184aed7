"""What training makes small: the errors of the autoencoder and of the velocity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sakuga.chibi.data import Lesson, PromptBatch
from sakuga.chibi.text2velocity import Text2Velocity
from sakuga.model.vae import VAE

_FIGURE_WEIGHT, _FACE_WEIGHT = 2.0, 3.0  # added to the loss where figures and faces are
_NEAR_NOISE, _NEAR_NOISE_SHARE = 0.05, 0.12  # where backgrounds are decided


def vae_loss(vae: VAE, pixels: Tensor) -> Tensor:
    """Squared and absolute error, and a light pull of the latents towards a unit normal."""
    mean, logvar = vae.moments(pixels)
    mean, logvar = mean.float(), logvar.float().clamp(-20, 5)
    latents = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
    error: Tensor = vae.decoder(latents).float() - pixels
    divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return error.square().mean() + 0.1 * error.abs().mean() + 1e-5 * divergence


def flow_loss(
    model: Text2Velocity, whereabouts: nn.Linear, lesson: Lesson, batch: PromptBatch
) -> Tensor:
    """Error of the velocity, weighted towards figures and faces, plus that of the whereabouts.

    The second term asks each refined caption token where the character it describes stands.
    It exists in training alone, and brings binding sooner: picture tokens then find the tags
    of their own character in one look instead of by way of its position.
    """
    picture = lesson.latents[batch.pool][batch.index].float()
    noise, t = torch.randn_like(picture), sample_times(len(picture), picture.device)
    mix = t.view(-1, 1, 1, 1)
    velocity: Tensor
    velocity, caption = model(mix * picture + (1 - mix) * noise, t, batch)
    error = (velocity.float() - (picture - noise)).square().mean(dim=1)
    weight = importance(batch.boxes, picture.shape[-2:])
    missed: Tensor = (whereabouts(caption).float() - batch.place).square().sum(dim=-1)
    owned = batch.owned.float()
    lost = (missed * owned).sum() / owned.sum().clamp(min=1)
    return (error * weight).mean() / weight.mean() + lost


def sample_times(count: int, device: torch.device) -> Tensor:
    """Times of training: leaning towards noise, with a share of their own next to it."""
    u = torch.rand(count, device=device)
    leaning = u / (u + 2.0 * (1 - u))
    near = torch.rand(count, device=device) < _NEAR_NOISE_SHARE
    return torch.where(near, _NEAR_NOISE * u, leaning)


def importance(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Loss weights (B, h, w) from boxes (B, M, 2, 4): more on figures, most on faces."""
    y, x = ((torch.arange(side, device=boxes.device) + 0.5) / side for side in size)
    x0, y0, x1, y1 = boxes.unbind(-1)
    inside_x = (x >= x0[..., None]) & (x < x1[..., None])
    inside_y = (y >= y0[..., None]) & (y < y1[..., None])
    inside = (inside_y[..., :, None] & inside_x[..., None, :]).any(dim=1).float()
    return 1 + _FIGURE_WEIGHT * inside[:, 0] + _FACE_WEIGHT * inside[:, 1]
