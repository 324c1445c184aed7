"""The four networks of a model, and every name that each of them goes by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ComponentKind:
    """One network: `name` as diffusers' folders have it, `field` as ours, in a spec or a flag.

    `folders`: where a model's folder keeps it, the usual one first. `tokenizer`: what its
    tokenizer is called, None for networks that read no text, and `tokenizer_folders`, where
    that lies.
    """

    name: str
    field: str
    folders: tuple[str, ...]
    tokenizer: str | None = None
    tokenizer_folders: tuple[str, ...] = ()


TEXT_ENCODER = ComponentKind(
    "text_encoder", "gemma", ("text_encoder",), "tokenizer", ("tokenizer", "text_encoder")
)
TEXT_ENCODER_2 = ComponentKind(
    "text_encoder_2", "jina", ("text_encoder_2", "clip_model"), "tokenizer_2",
    ("tokenizer_2", "clip_tokenizer", "text_encoder_2", "clip_model"),
)  # fmt: skip
TRANSFORMER = ComponentKind("transformer", "transformer", ("transformer",))
AUTOENCODER = ComponentKind("vae", "vae", ("vae",))

# In the order a drawing uses them.
COMPONENTS: Mapping[str, ComponentKind] = {
    one.name: one for one in (TEXT_ENCODER, TEXT_ENCODER_2, TRANSFORMER, AUTOENCODER)
}
