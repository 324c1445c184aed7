"""Every layout that is read, the table in which a file's layout is looked up."""

from __future__ import annotations

from sakuga.checkpoint.layouts.gemma import GEMMA, GEMMA_GGUF
from sakuga.checkpoint.layouts.jina import JINA_OFFICIAL, JINA_SINGLE_FILE, JINA_TRANSFORMERS
from sakuga.checkpoint.layouts.nextdit import NEXTDIT_DIFFUSERS, NEXTDIT_ORIGINAL
from sakuga.checkpoint.layouts.vae import VAE_BFL, VAE_DIFFUSERS

LAYOUTS = (
    NEXTDIT_ORIGINAL,
    NEXTDIT_DIFFUSERS,
    GEMMA,
    GEMMA_GGUF,
    JINA_TRANSFORMERS,
    JINA_SINGLE_FILE,
    JINA_OFFICIAL,
    VAE_DIFFUSERS,
    VAE_BFL,
)
