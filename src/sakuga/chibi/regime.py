"""How much the embedded model is trained: pictures, minutes, batch sizes of each stage."""

from __future__ import annotations

from dataclasses import dataclass

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


REAL = Regime(
    texts=40_000,
    pictures=120_000,
    sizes=(
        Sized((256, 256), 0.56),
        Sized((192, 192), 0.03),
        Sized((320, 320), 0.03),
        Sized((384, 384), 0.05),
        Sized((512, 512), 0.05),
        Sized((192, 256), 0.02),
        Sized((256, 192), 0.02),
        Sized((256, 320), 0.02),
        Sized((320, 256), 0.02),
        Sized((256, 384), 0.04),
        Sized((384, 256), 0.05),
        Sized((256, 512), 0.03),
        Sized((512, 256), 0.04),
        Sized((384, 512), 0.02),
        Sized((512, 384), 0.02),
    ),
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
