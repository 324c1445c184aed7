"""The four families of components, by name, and the config.json that each is written with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sakuga.checkpoint.specs.gemma import GEMMA
from sakuga.checkpoint.specs.jina import JINA
from sakuga.checkpoint.specs.nextdit import TRANSFORMER
from sakuga.checkpoint.specs.vae import VAE
from sakuga.model.spec import GemmaSpec, JinaSpec, NextDiTSpec, VAESpec

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
