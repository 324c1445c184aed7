"""How much the embedded model is trained: pictures, minutes, batch sizes of each stage."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

Size = tuple[int, int]  # width and height of a picture in pixels


@dataclass(frozen=True, slots=True)
class Sized:
    """A size of training pictures, and the share of all that have it."""

    size: Size
    share: float


@dataclass(frozen=True, slots=True)
class Regime:
    """How much of everything: pictures in the pool, minutes and batch sizes of each stage.

    `texts`: prompts that the tokenizers learn from. `workers`: processes that draw pictures,
    then write prompts; 0 for none beside this one. The autoencoder learns from the first of
    `sizes` alone.
    """

    texts: int
    pictures: int
    sizes: tuple[Sized, ...]
    workers: int
    vae_minutes: float
    judge_minutes: float
    transformer_minutes: float
    vae_batch: int
    judge_batch: int
    prompt_batch: int
    lr: float  # of the transformer
    compiled: bool
    measured: int  # drawings per character count at each check of the accuracy


_SIDES = (192, 256, 320, 384, 448, 512)
_USUAL, _USUAL_SHARE = (256, 256), 0.5


def _every_size() -> tuple[Sized, ...]:
    """The usual size, then every pair of sides; all others as often as each other."""
    others = [pair for pair in product(_SIDES, _SIDES) if pair != _USUAL]
    share = (1 - _USUAL_SHARE) / len(others)
    return (Sized(_USUAL, _USUAL_SHARE), *(Sized(pair, share) for pair in others))


REAL = Regime(
    texts=40_000,
    pictures=120_000,
    sizes=_every_size(),
    workers=15,
    vae_minutes=6.0,
    judge_minutes=0.6,
    transformer_minutes=13.0,
    vae_batch=64,
    judge_batch=128,
    prompt_batch=512,
    lr=3e-3,
    compiled=True,
    measured=16,
)
SMOKE = Regime(
    texts=4_000,
    pictures=64,
    sizes=(Sized((128, 128), 0.75), Sized((192, 128), 0.25)),
    workers=0,
    vae_minutes=0.1,
    judge_minutes=0.05,
    transformer_minutes=0.1,
    vae_batch=2,
    judge_batch=4,
    prompt_batch=2,
    lr=4e-3,
    compiled=False,
    measured=1,
)
