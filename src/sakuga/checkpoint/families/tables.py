"""Every layout and every family, in the tables where they are looked up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sakuga.checkpoint.families.gemma import GEMMA, GEMMA_GGUF, GEMMA_TRANSFORMERS
from sakuga.checkpoint.families.jina import JINA, JINA_OFFICIAL, JINA_SINGLE_FILE, JINA_TRANSFORMERS
from sakuga.checkpoint.families.nextdit import NEXTDIT_DIFFUSERS, NEXTDIT_ORIGINAL, TRANSFORMER
from sakuga.checkpoint.families.vae import VAE, VAE_BFL, VAE_DIFFUSERS
from sakuga.model.spec import GemmaSpec, JinaSpec, NextDiTSpec, VAESpec

LAYOUTS = (
    NEXTDIT_ORIGINAL,
    NEXTDIT_DIFFUSERS,
    GEMMA_TRANSFORMERS,
    GEMMA_GGUF,
    JINA_TRANSFORMERS,
    JINA_SINGLE_FILE,
    JINA_OFFICIAL,
    VAE_DIFFUSERS,
    VAE_BFL,
)


FAMILIES: Mapping[str, Any] = {
    "transformer": TRANSFORMER,
    "text_encoder": GEMMA,
    "text_encoder_2": JINA,
    "vae": VAE,
}


def config_of(spec: NextDiTSpec | GemmaSpec | JinaSpec | VAESpec) -> dict[str, Any]:
    """The config.json of a component, as the library of its names would read it."""
    family: Any = next(each for each in FAMILIES.values() if each.spec is type(spec))
    written: dict[str, Any] = family.config(spec)
    return written
