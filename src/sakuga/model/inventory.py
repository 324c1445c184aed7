"""The weights of a model by name and shape, and where each is kept while the model draws.

Names and shapes are computed from a spec; no file is read. `checkpoint.folder` adds the
format that each weight has in its file, which only the headers of an opened checkpoint tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from sakuga.model.spec import GemmaSpec, JinaSpec, ModelSpec, NextDiTSpec, VAESpec
from sakuga.weights.formats import BFLOAT16, Shape, StorageFormat

Shapes = Mapping[str, Shape]
Formats = Mapping[str, StorageFormat]
TIME_WAVES = 256  # sines and cosines of a time, which the transformer embeds


@dataclass(frozen=True, slots=True)
class Weight:
    """One tensor: its name in our state dict, its shape, and its format in the file."""

    key: str
    shape: Shape
    stored: StorageFormat


Weights = tuple[Weight, ...]


@dataclass(frozen=True, slots=True)
class NetworkWeights:
    """The weights of one network, by where they are while it runs; each is in one place only.

    `blocks`: its blocks in the order they run; each stays on the card, or is copied there at
    every evaluation. `rest`: on the card as long as the network runs. `passing`: groups that
    are on the card once, one after the other. `host`: embedding tables, which stay in the
    host's memory. `idle`: never used while drawing. `again`: numbers per token that adapters
    hold beside two hidden maps where a linear of a block computes a second time: while it does,
    and while they compute alone; zeros if none does.
    """

    blocks: tuple[Weights, ...]
    rest: Weights = ()
    passing: tuple[Weights, ...] = ()
    host: Weights = ()
    idle: Weights = ()
    again: tuple[int, int] = (0, 0)

    def __hash__(self) -> int:
        """A quick one: what is asked for again and again is found by identity."""
        return hash((len(self.blocks), len(self.rest), len(self.idle)))

    def __iter__(self) -> Iterator[Weight]:
        """All weights: blocks, passing, rest, host, idle."""
        for group in (*self.blocks, *self.passing):
            yield from group
        yield from (*self.rest, *self.host, *self.idle)


@dataclass(frozen=True, slots=True)
class Inventory:
    """A model's weights, network by network; a model without pooled text has no `jina`."""

    spec: ModelSpec
    gemma: NetworkWeights
    jina: NetworkWeights | None
    transformer: NetworkWeights
    vae: NetworkWeights


def inventory_of(spec: ModelSpec, stored: Mapping[str, Formats] | None = None) -> Inventory:
    """The inventory of a model, computed from its spec.

    stored: for each component (transformer, text_encoder ...) the format of its tensors by
    name; a tensor that is not named is taken to be in bfloat16.
    """
    formats = stored or {}
    return Inventory(
        spec,
        _gemma_weights(spec.gemma, formats.get("text_encoder", {})),
        _jina_weights(spec.jina, formats.get("text_encoder_2", {})) if spec.jina else None,
        _transformer_weights(spec.transformer, formats.get("transformer", {})),
        _vae_weights(spec.vae, formats.get("vae", {})),
    )


def weights_of(spec: NextDiTSpec | GemmaSpec | JinaSpec | VAESpec) -> NetworkWeights:
    """The weights of one network; its file is taken to be in bfloat16."""
    match spec:
        case NextDiTSpec():
            return _transformer_weights(spec, {})
        case GemmaSpec():
            return _gemma_weights(spec, {})
        case JinaSpec():
            return _jina_weights(spec, {})
        case VAESpec():
            return _vae_weights(spec, {})


def _weights(shapes: Shapes, stored: Formats) -> Weights:
    return tuple(Weight(key, shape, stored.get(key, BFLOAT16)) for key, shape in shapes.items())


def _gemma_weights(spec: GemmaSpec, stored: Formats) -> NetworkWeights:
    """Without the last layer and the final norm: features are taken before them."""
    layers = range(spec.num_hidden_layers - 1)
    return NetworkWeights(
        blocks=tuple(_weights(gemma_layer(spec, layer), stored) for layer in layers),
        host=_weights({"embed_tokens.weight": (spec.vocab_size, spec.hidden_size)}, stored),
    )


def gemma_layer(spec: GemmaSpec, layer: int) -> dict[str, Shape]:
    """Names and shapes of one layer of Gemma."""
    width, inner = spec.hidden_size, spec.intermediate_size
    queries = spec.num_attention_heads * spec.head_dim
    keys = spec.num_key_value_heads * spec.head_dim
    shapes: dict[str, Shape] = {
        "self_attn.q_proj.weight": (queries, width),
        "self_attn.k_proj.weight": (keys, width),
        "self_attn.v_proj.weight": (keys, width),
        "self_attn.o_proj.weight": (width, queries),
        "mlp.gate_proj.weight": (inner, width),
        "mlp.up_proj.weight": (inner, width),
        "mlp.down_proj.weight": (width, inner),
        "input_layernorm.weight": (width,),
        "post_attention_layernorm.weight": (width,),
        "pre_feedforward_layernorm.weight": (width,),
        "post_feedforward_layernorm.weight": (width,),
    }
    if spec.qk_norm:
        shapes |= {f"self_attn.{one}_norm.weight": (spec.head_dim,) for one in "qk"}
    return {f"layers.{layer}.{key}": shape for key, shape in shapes.items()}


def _jina_weights(spec: JinaSpec, stored: Formats) -> NetworkWeights:
    width, inner = spec.hidden_size, spec.intermediate_size
    layer = {
        **{f"self_attn.{one}_proj": (width, width) for one in "qkvo"},
        "mlp.fc1": (inner, width),
        "mlp.fc2": (width, inner),
    }
    shapes: dict[str, Shape] = {}
    for name, shape in layer.items():
        shapes |= _affine(name, shape)
    for norm in ("post_attention_layernorm", "post_mlp_layernorm"):
        shapes |= _affine(norm, (width,))
    first = "embeddings."
    return NetworkWeights(
        blocks=tuple(
            _weights({f"layers.{number}.{key}": shape for key, shape in shapes.items()}, stored)
            for number in range(spec.num_hidden_layers)
        ),
        rest=_weights(
            {
                first + "token_type_embeddings.weight": (spec.type_vocab_size, width),
                **_affine(first + "LayerNorm", (width,)),
            },
            stored,
        ),
        host=_weights({first + "word_embeddings.weight": (spec.vocab_size, width)}, stored),
    )


def _transformer_weights(spec: NextDiTSpec, stored: Formats) -> NetworkWeights:
    refiners = range(spec.n_refiner_layers)
    names = [f"noise_refiner.{i}" for i in refiners] + [f"layers.{i}" for i in range(spec.n_layers)]
    block, width, cond = transformer_block(spec), spec.dim, spec.cond_dim
    modulations = dict.fromkeys(names, 4 * width) | {"final_layer": width}
    patch = spec.patch_size**2 * spec.in_channels
    rest = {
        **_affine("x_embedder", (width, patch)),
        **_affine("final_layer.linear", (patch, width)),
    }
    once = {
        **_affine("t_embedder.mlp.0", (cond, TIME_WAVES)),
        **_affine("t_embedder.mlp.2", (cond, cond)),
        **_pooled_branch(spec),
        "cap_embedder.0.weight": (spec.cap_feat_dim,),
        **_affine("cap_embedder.1", (width, spec.cap_feat_dim)),
    }

    def group(name: str) -> Weights:
        return _weights({f"{name}.{key}": shape for key, shape in block.items()}, stored)

    return NetworkWeights(
        blocks=tuple(map(group, names)),
        rest=_weights(rest | once, stored),
        passing=(
            *(group(f"context_refiner.{i}") for i in refiners),
            *(
                _weights(_affine(f"{name}.adaLN_modulation.1", (rows, cond)), stored)
                for name, rows in modulations.items()
            ),
        ),
    )


def _pooled_branch(spec: NextDiTSpec) -> dict[str, Shape]:
    """Names and shapes of what takes the pooled text; none where nothing does."""
    pooled, cond = spec.clip_text_dim, spec.cond_dim
    if not pooled:
        return {}
    return {
        "clip_text_pooled_proj.0.weight": (pooled,),
        **_affine("clip_text_pooled_proj.1", (pooled, pooled)),
        **_affine("time_text_embed.1", (cond, cond + pooled)),
    }


def transformer_block(spec: NextDiTSpec) -> dict[str, Shape]:
    """Names and shapes of one block of the transformer, its modulation apart."""
    width, inner = spec.dim, spec.ffn_dim
    rows = (spec.n_heads + 2 * spec.n_kv_heads) * spec.head_dim
    return {
        "attention.qkv.weight": (rows, width),
        "attention.out.weight": (width, width),
        "attention.q_norm.weight": (spec.head_dim,),
        "attention.k_norm.weight": (spec.head_dim,),
        "feed_forward.w1.weight": (inner, width),
        "feed_forward.w2.weight": (width, inner),
        "feed_forward.w3.weight": (inner, width),
        "attention_norm1.weight": (width,),
        "attention_norm2.weight": (width,),
        "ffn_norm1.weight": (width,),
        "ffn_norm2.weight": (width,),
    }


def _vae_weights(spec: VAESpec, stored: Formats) -> NetworkWeights:
    return NetworkWeights(
        blocks=(),
        rest=_weights(_coder("decoder", spec), stored),
        idle=_weights(_coder("encoder", spec), stored),
    )


def _coder(side: str, spec: VAESpec) -> dict[str, Shape]:
    """Names and shapes of the decoder or the encoder: mirror images but for the ends."""
    encoder = side == "encoder"
    widths = spec.block_out_channels if encoder else spec.block_out_channels[::-1]
    depth = spec.layers_per_block + (not encoder)
    blocks, scale = ("down_blocks", "downsamplers") if encoder else ("up_blocks", "upsamplers")
    first, last = spec.in_channels, 2 * spec.latent_channels
    if not encoder:
        first, last = spec.latent_channels, spec.in_channels
    middle = spec.block_out_channels[-1]
    shapes = _affine("conv_in", (widths[0], first, 3, 3)) | _middle(middle)
    for place, (before, width) in enumerate(pairwise((widths[0], *widths))):
        for number in range(depth):
            name = f"{blocks}.{place}.resnets.{number}"
            shapes |= _resnet(name, before if number == 0 else width, width)
        if place + 1 < len(widths):
            shapes |= _affine(f"{blocks}.{place}.{scale}.0.conv", (width, width, 3, 3))
    shapes |= _affine("conv_norm_out", (widths[-1],))
    shapes |= _affine("conv_out", (last, widths[-1], 3, 3))
    return {f"{side}.{key}": shape for key, shape in shapes.items()}


def _middle(width: int) -> dict[str, Shape]:
    shapes = _resnet("mid_block.resnets.0", width, width)
    shapes |= _resnet("mid_block.resnets.1", width, width)
    attention = "mid_block.attentions.0."
    for name in ("to_q", "to_k", "to_v", "to_out.0"):
        shapes |= _affine(attention + name, (width, width))
    return shapes | _affine(attention + "group_norm", (width,))


def _resnet(name: str, before: int, width: int) -> dict[str, Shape]:
    shapes = {
        **_affine(f"{name}.norm1", (before,)),
        **_affine(f"{name}.conv1", (width, before, 3, 3)),
        **_affine(f"{name}.norm2", (width,)),
        **_affine(f"{name}.conv2", (width, width, 3, 3)),
    }
    if before != width:
        shapes |= _affine(f"{name}.conv_shortcut", (width, before, 1, 1))
    return shapes


def _affine(name: str, shape: Shape) -> dict[str, Shape]:
    """A weight and its bias, one value per row."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
