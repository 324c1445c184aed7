"""What a model is made of: frozen numbers, the small preset beside the real one.

Shape alphabet, used in every docstring and trailing comment of the project:

    B images   S segments (one per image and guidance branch)   T packed tokens
    N image tokens   L text tokens   D width   H heads   K kv heads   E head dim
    C latent channels   h w latent size
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

OURS = "sakuga"  # the part of a config or an index that no other program reads


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


@dataclass(frozen=True, slots=True)
class NextDiTSpec:
    """The transformer. `multiple_of` rounds the feed-forward width 4·dim up.

    `clip_text_dim`: of the pooled text vector; 0 for a transformer that takes none.
    """

    dim: int
    n_layers: int
    n_refiner_layers: int
    n_heads: int
    n_kv_heads: int
    axes_dims: tuple[int, int, int]
    cap_feat_dim: int
    clip_text_dim: int = 0
    multiple_of: int = 256
    in_channels: int = 16
    patch_size: int = 2
    norm_eps: float = 1e-5
    qk_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0

    @property
    def head_dim(self) -> int:
        """E."""
        return self.dim // self.n_heads

    @property
    def ffn_dim(self) -> int:
        """Width of the SwiGLU."""
        return -(-4 * self.dim // self.multiple_of) * self.multiple_of

    @property
    def cond_dim(self) -> int:
        """Width of the vector that modulates every block."""
        return min(self.dim, 1024)


@dataclass(frozen=True, slots=True)
class GemmaSpec:
    """The text model of Gemma 2 or 3. Layers not in `full_attention_layers` see a sliding window.

    `qk_norm`: queries and keys are normed, as in Gemma 3. `attn_softcap`: scores s become
    c·tanh(s / c), as in Gemma 2; 0 leaves them as they are.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    query_pre_attn_scalar: int
    sliding_window: int
    full_attention_layers: tuple[int, ...]
    max_position_embeddings: int
    rope_theta: float = 1_000_000.0
    rope_local_theta: float = 10_000.0
    rope_linear_factor: float = 8.0
    rms_norm_eps: float = 1e-6
    qk_norm: bool = True
    attn_softcap: float = 0.0
    pad_token_id: int = 0
    eos_token_id: int = 1
    bos_token_id: int = 2
    trained_tokens: int = 512


@dataclass(frozen=True, slots=True)
class JinaSpec:
    """The text tower of Jina CLIP v2."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int = 8194
    rotary_emb_base: float = 20_000.0
    layer_norm_eps: float = 1e-5
    type_vocab_size: int = 1
    bos_token_id: int = 0
    pad_token_id: int = 1
    eos_token_id: int = 2


@dataclass(frozen=True, slots=True)
class VAESpec:
    """A FLUX-style autoencoder. Latents are (raw - shift_factor) * scaling_factor."""

    block_out_channels: tuple[int, ...]
    layers_per_block: int
    norm_num_groups: int
    latent_channels: int = 16
    in_channels: int = 3
    scaling_factor: float = 0.3611
    shift_factor: float = 0.1159

    @property
    def downscale(self) -> int:
        """Pixels per latent along one side."""
        return 1 << (len(self.block_out_channels) - 1)


@dataclass(frozen=True, slots=True)
class DrawingSpec:
    """What a model draws when nobody says otherwise, and what it can be asked for.

    `system_xml`, `system_text`: what Gemma reads before an XML or a plain prompt;
    `system_negative`: before a negative, None for the same as before a prompt of its kind.
    `normalisation`, `weighting`, `as_xml`: see `api.request.Request`. `trained_sizes`: those of
    the pictures of training, as `256x256 384x256`; empty if not known.
    """

    steps: int
    solver: str
    shift: float
    guidance: float
    width: int
    height: int
    min_side: int
    max_side: int
    max_pixels: int
    system_xml: str
    system_text: str
    system_negative: str | None = None
    schedule: str = "shifted"
    normalisation: str = "off"
    weighting: str = "off"
    size_multiple: int = 16
    trained_sizes: str = ""
    as_xml: bool = False


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A whole model: its parts and its drawing defaults.

    `jina`: None where the transformer takes no pooled vector. `known_as`: words in the names of
    folders and files, without spaces and signs, by which this preset's defaults are theirs.
    """

    name: str
    transformer: NextDiTSpec
    gemma: GemmaSpec
    jina: JinaSpec | None
    vae: VAESpec
    drawing: DrawingSpec
    known_as: tuple[str, ...] = ()


CHIBI = ModelSpec(
    name="chibi",
    transformer=NextDiTSpec(
        dim=320,
        n_layers=8,
        n_refiner_layers=2,
        n_heads=8,
        n_kv_heads=4,
        axes_dims=(8, 16, 16),
        cap_feat_dim=256,
        clip_text_dim=192,
        multiple_of=64,
    ),
    gemma=GemmaSpec(
        vocab_size=1900,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        query_pre_attn_scalar=64,
        sliding_window=64,
        full_attention_layers=(2,),
        max_position_embeddings=2048,
    ),
    jina=JinaSpec(
        vocab_size=1900,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=3,
        max_position_embeddings=2048,
    ),
    vae=VAESpec(
        block_out_channels=(32, 64, 128, 128),
        layers_per_block=1,
        norm_num_groups=16,
        scaling_factor=0.7187087894764259,
        shift_factor=0.03783581778407097,
    ),
    drawing=DrawingSpec(
        steps=10,
        solver="euler",
        shift=3.0,
        guidance=3.0,
        width=256,
        height=256,
        min_side=128,
        max_side=512,
        max_pixels=512 * 512,
        system_xml="",
        system_text="",
        trained_sizes=(
            "256x256 192x192 320x320 384x384 512x512 192x256 256x192 256x320 320x256 256x384 "
            "384x256 256x512 512x256 384x512 512x384"
        ),
    ),
)

NEWBIE_3_5B = ModelSpec(
    name="newbie-3.5b",
    transformer=NextDiTSpec(
        dim=2304,
        n_layers=36,
        n_refiner_layers=2,
        n_heads=24,
        n_kv_heads=8,
        axes_dims=(32, 32, 32),
        cap_feat_dim=2560,
        clip_text_dim=1024,
    ),
    gemma=GemmaSpec(
        vocab_size=262_208,
        hidden_size=2560,
        intermediate_size=10_240,
        num_hidden_layers=34,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=256,
        query_pre_attn_scalar=256,
        sliding_window=1024,
        full_attention_layers=(5, 11, 17, 23, 29),
        max_position_embeddings=131_072,
    ),
    jina=JinaSpec(
        vocab_size=250_002,
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
    ),
    vae=VAESpec(
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        norm_num_groups=32,
    ),
    drawing=DrawingSpec(
        steps=28,
        solver="euler",
        shift=6.0,
        guidance=4.5,
        width=1024,
        height=1024,
        min_side=256,
        max_side=4096,
        max_pixels=4_200_000,
        system_xml=(
            "You are an assistant designed to generate high-quality anime images "
            "based on xml format prompts. <Prompt Start> "
        ),
        system_text=(
            "You are an assistant designed to generate high-quality anime images with the "
            "highest degree of image-text alignment based on textual prompts. <Prompt Start> "
        ),
    ),
    known_as=("newbie",),
)


_SUPERIOR = (
    "You are an assistant designed to generate superior images with the superior degree of "
    "image-text alignment based on textual prompts or user prompts. <Prompt Start> "
)
_ANIME = (
    "You are an assistant designed to generate anime images based on textual prompts. "
    "<Prompt Start> "
)
_FINE_ANIME = (
    "You are an assistant designed to generate high quality anime images based on textual "
    "prompts. <Prompt Start> "
)
_POOR = (
    "You are an assistant designed to generate low-quality images based on textual prompts "
    "<Prompt Start> "
)

# What NewBie grew from: its transformer with fewer layers and no pooled branch, and Gemma 2 2B.
# Defaults: those of diffusers' Lumina2Pipeline.
LUMINA_2 = ModelSpec(
    name="lumina-image-2.0",
    transformer=replace(NEWBIE_3_5B.transformer, n_layers=26, cap_feat_dim=2304, clip_text_dim=0),
    gemma=GemmaSpec(
        vocab_size=256_000,
        hidden_size=2304,
        intermediate_size=9216,
        num_hidden_layers=26,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=256,
        query_pre_attn_scalar=256,
        sliding_window=4096,
        full_attention_layers=tuple(range(1, 26, 2)),
        max_position_embeddings=8192,
        rope_theta=10_000.0,
        rope_linear_factor=1.0,
        qk_norm=False,
        attn_softcap=50.0,
        trained_tokens=256,
    ),
    jina=None,
    vae=NEWBIE_3_5B.vae,
    drawing=replace(
        NEWBIE_3_5B.drawing,
        steps=30,
        guidance=4.0,
        normalisation="rows",
        weighting="interpolate",
        system_xml=_SUPERIOR,
        system_text=_SUPERIOR,
        system_negative="",
    ),
    known_as=("lumina",),
)

# Its fine-tunes for anime: the same networks. Defaults: of each one's card and workflows.
NETA_LUMINA = replace(
    LUMINA_2,
    name="neta-lumina",
    drawing=replace(
        LUMINA_2.drawing,
        solver="res_multistep",
        schedule="linear_quadratic",
        guidance=4.5,
        normalisation="off",
        system_xml=_ANIME,
        system_text=_ANIME,
        system_negative=_POOR,
    ),
    known_as=("neta",),
)
SAKIKO_LUMINA = replace(NETA_LUMINA, name="sakiko-lumina", known_as=("sakiko",))
NETAYUME_LUMINA = replace(
    NETA_LUMINA,
    name="netayume-lumina",
    drawing=replace(
        NETA_LUMINA.drawing,
        schedule="shifted",
        shift=4.0,
        guidance=4.0,
        system_xml=_FINE_ANIME,
        system_text=_FINE_ANIME,
    ),
    known_as=("yume",),
)

PRESETS = {
    spec.name: spec
    for spec in (CHIBI, NEWBIE_3_5B, LUMINA_2, NETA_LUMINA, SAKIKO_LUMINA, NETAYUME_LUMINA)
}


def preset_of(names: str, pooled: bool) -> ModelSpec:
    """The preset whose defaults a model has that says nothing of its own.

    names: of its folder and files, as they are. pooled: whether its transformer takes a pooled
    vector. Of several that they fit, the last in the table, where fine-tunes follow what they
    were made of; else the first of its kind.
    """
    plain = re.sub(r"[^a-z0-9]", "", names.lower())
    kin = [one for one in PRESETS.values() if one.known_as and (one.jina is not None) == pooled]
    named = [one for one in kin if any(word in plain for word in one.known_as)]
    return (named or kin[:1])[-1]
