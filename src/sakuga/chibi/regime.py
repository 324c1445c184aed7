"""How much the embedded model is trained: pictures, minutes, batch sizes of each stage."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Regime:
    """How much of everything: pictures in the pool, minutes and batch sizes of each stage.

    `texts`: prompts that the tokenizers learn from. `workers`: processes that draw pictures,
    then write prompts; 0 for none beside this one.
    """

    texts: int
    pictures: int
    size: int
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
    size=256,
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
    size=128,
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
