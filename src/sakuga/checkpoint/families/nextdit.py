"""The transformer in files: configs and names of the original NextDiT and of diffusers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sakuga.checkpoint.families.family import (
    Config,
    Facts,
    Family,
    floats,
    int_lists,
    ints,
    members,
    nested,
    refuse_values,
    size_of,
    without_gaps,
)
from sakuga.checkpoint.families.layout import (
    ALL_IN_ONE,
    Drop,
    KeyLayout,
    Rule,
    renamed,
    same,
    wrapped,
)
from sakuga.model.inventory import Shapes
from sakuga.model.spec import OURS, NextDiTSpec

NEXTDIT_ORIGINAL = KeyLayout(
    name="NextDiT, original names",
    component="transformer",
    marks=(
        "x_embedder.weight",
        "cap_embedder.1.weight",
        "noise_refiner.0.attention.k_norm.weight",
        "layers.0.attention.qkv.weight",
    ),
    prefixes=wrapped("", *ALL_IN_ONE["transformer"], "diffusion_model."),
    rules=same(
        "x_embedder.{p}",
        "cap_embedder.{n}.{p}",
        "t_embedder.mlp.{n}.{p}",
        "clip_text_pooled_proj.{n}.{p}",
        "time_text_embed.1.{p}",
        "{stack}.{n}.attention.qkv.weight",
        "{stack}.{n}.attention.out.weight",
        "{stack}.{n}.attention.q_norm.weight",
        "{stack}.{n}.attention.k_norm.weight",
        "{stack}.{n}.attention_norm{m}.weight",
        "{stack}.{n}.ffn_norm{m}.weight",
        "{stack}.{n}.feed_forward.{w}.weight",
        "{refined}.{n}.adaLN_modulation.1.{p}",
        "norm_final.weight",
        "final_layer.linear.{p}",
        "final_layer.adaLN_modulation.1.{p}",
    ),
    drops=(Drop("norm_final.weight", "stored by the original, read by nothing", spare=True),),
)

NEXTDIT_DIFFUSERS = KeyLayout(
    name="NextDiT, diffusers names",
    component="transformer",
    marks=(
        "x_embedder.weight",
        "time_caption_embed.caption_embedder.1.weight",
        "noise_refiner.0.attn.norm_k.weight",
        "layers.0.attn.to_q.weight",
    ),
    prefixes=wrapped("", "transformer."),
    rules=(
        Rule(
            (
                "{stack}.{n}.attn.to_q.weight",
                "{stack}.{n}.attn.to_k.weight",
                "{stack}.{n}.attn.to_v.weight",
            ),
            ("{stack}.{n}.attention.qkv.weight",),
        ),
        *renamed(
            {
                "{stack}.{n}.attn.to_out.0.weight": "{stack}.{n}.attention.out.weight",
                "{stack}.{n}.attn.norm_q.weight": "{stack}.{n}.attention.q_norm.weight",
                "{stack}.{n}.attn.norm_k.weight": "{stack}.{n}.attention.k_norm.weight",
                "{stack}.{n}.feed_forward.linear_{m}.weight": (
                    "{stack}.{n}.feed_forward.w{m}.weight"
                ),
                "{refined}.{n}.norm1.norm.weight": "{refined}.{n}.attention_norm1.weight",
                "{refined}.{n}.norm1.linear.{p}": "{refined}.{n}.adaLN_modulation.1.{p}",
                "context_refiner.{n}.norm1.weight": "context_refiner.{n}.attention_norm1.weight",
                "{stack}.{n}.norm2.weight": "{stack}.{n}.attention_norm2.weight",
                "time_caption_embed.timestep_embedder.linear_1.{p}": "t_embedder.mlp.0.{p}",
                "time_caption_embed.timestep_embedder.linear_2.{p}": "t_embedder.mlp.2.{p}",
                "time_caption_embed.caption_embedder.{n}.{p}": "cap_embedder.{n}.{p}",
                "norm_out.linear_1.{p}": "final_layer.adaLN_modulation.1.{p}",
                "norm_out.linear_2.{p}": "final_layer.linear.{p}",
            }
        ),
        *same(
            "x_embedder.{p}",
            "{stack}.{n}.ffn_norm{m}.weight",
            "clip_text_pooled_proj.{n}.{p}",
            "time_text_embed.1.{p}",
        ),
    ),
    provisional=(
        "clip_text_pooled_proj.0.weight",
        "clip_text_pooled_proj.1.weight",
        "clip_text_pooled_proj.1.bias",
        "time_text_embed.1.weight",
        "time_text_embed.1.bias",
    ),
)


# What diffusers calls these in the config of its Lumina2Transformer2DModel.
LUMINA2 = {
    "hidden_size": "dim",
    "num_layers": "n_layers",
    "num_refiner_layers": "n_refiner_layers",
    "num_attention_heads": "n_heads",
    "num_kv_heads": "n_kv_heads",
    "axes_dim_rope": "axes_dims",
    "pooled_projection_dim": "clip_text_dim",
}
LUMINA2_LACKS = ("model_type", "qk_norm", "rope_theta", "qk_norm_eps")
RELEASED_EPS = (
    1e-5  # of the norms of queries and keys in diffusers' class, which has no pooled text
)


def _stated(config: Config, source: str) -> Facts:
    refuse_values(config, source, {"qk_norm": (True,)})
    if "hidden_size" in config:
        config = {LUMINA2.get(name, name): value for name, value in config.items()}
        if not config.get("clip_text_dim"):
            config.setdefault("qk_norm_eps", RELEASED_EPS)
        config |= nested(config, source, OURS, {})
    facts = ints(
        config,
        source,
        "dim n_layers n_refiner_layers n_heads n_kv_heads cap_feat_dim clip_text_dim "
        "multiple_of in_channels patch_size",
    )
    facts |= floats(config, source, "norm_eps rope_theta qk_norm_eps")
    return facts | int_lists(config, source, "axes_dims")


def _measured(shapes: Shapes, stated: Facts) -> Facts:
    dim = size_of(shapes, "x_embedder.weight", 0)
    features = size_of(shapes, "x_embedder.weight", 1)
    head = size_of(shapes, "layers.0.attention.q_norm.weight", 0)
    rows = size_of(shapes, "layers.0.attention.qkv.weight", 0)
    heads = dim // head if dim and head else None
    patch = max(1, stated.get("patch_size", 2))
    return without_gaps(
        {
            "dim": dim,
            "n_layers": members(shapes, "layers"),
            "n_refiner_layers": members(shapes, "noise_refiner"),
            "n_heads": heads,
            "n_kv_heads": (rows // head - heads) // 2 if rows and head and heads else None,
            "cap_feat_dim": size_of(shapes, "cap_embedder.1.weight", 1),
            "clip_text_dim": (size_of(shapes, "clip_text_pooled_proj.1.weight", 1) or 0)
            if dim
            else None,
            "in_channels": features // patch**2 if features else None,
            "ffn_dim": size_of(shapes, "layers.0.feed_forward.w1.weight", 0),
        }
    )


def _assumed(known: Facts, config: bool) -> Facts:
    del config
    facts: Facts = {"multiple_of": 256}
    dim, ffn = known.get("dim", 0), known.get("ffn_dim", 0)
    if ffn and -(-4 * dim // 256) * 256 != ffn:
        facts["multiple_of"] = ffn
    axis, rest = divmod(dim // max(1, known.get("n_heads", 1)), 3)
    if rest == 0 and axis % 2 == 0:
        facts["axes_dims"] = (axis, axis, axis)
    return facts


def _rules(spec: NextDiTSpec) -> Iterable[tuple[str, bool]]:
    yield "dim is a multiple of n_heads", spec.dim % spec.n_heads == 0
    yield "n_heads is a multiple of n_kv_heads", spec.n_heads % spec.n_kv_heads == 0
    yield (
        "axes_dims are three even sizes",
        len(spec.axes_dims) == 3 and not any(axis % 2 for axis in spec.axes_dims),
    )
    yield "axes_dims add up to dim / n_heads", sum(spec.axes_dims) == spec.head_dim
    yield "rope_theta is above 1", spec.rope_theta > 1
    yield "norms have an epsilon above 0", min(spec.norm_eps, spec.qk_norm_eps) > 0


def _config(spec: NextDiTSpec) -> dict[str, Any]:
    return {
        "_class_name": "NextDiT_CLIP" if spec.clip_text_dim else "NextDiT",
        "model_type": "nextdit_clip" if spec.clip_text_dim else "nextdit",
        "dim": spec.dim,
        "n_layers": spec.n_layers,
        "n_refiner_layers": spec.n_refiner_layers,
        "n_heads": spec.n_heads,
        "n_kv_heads": spec.n_kv_heads,
        "axes_dims": list(spec.axes_dims),
        "axes_lens": [1024, 512, 512],  # the original's tables; we compute, and need none
        "cap_feat_dim": spec.cap_feat_dim,
        "clip_text_dim": spec.clip_text_dim,
        "multiple_of": spec.multiple_of,
        "in_channels": spec.in_channels,
        "patch_size": spec.patch_size,
        "norm_eps": spec.norm_eps,
        "qk_norm": True,
        "qk_norm_eps": spec.qk_norm_eps,
        "rope_theta": spec.rope_theta,
    }


def lumina2_config(spec: NextDiTSpec) -> dict[str, Any]:
    """The config.json of a transformer under diffusers names.

    Its class computes rotary positions with a base of 10,000, and norms queries and keys with
    an epsilon of its own, whatever the config says, so ours are kept apart.
    """
    config = _config(spec)
    named = {ours: theirs for theirs, ours in LUMINA2.items()}
    lacks = LUMINA2_LACKS if spec.clip_text_dim else (*LUMINA2_LACKS, "clip_text_dim")
    theirs = {named.get(name, name): config[name] for name in config if name not in lacks}
    ours = {"rope_theta": spec.rope_theta, "qk_norm_eps": spec.qk_norm_eps}
    return {**theirs, "_class_name": "Lumina2Transformer2DModel", OURS: ours}


TRANSFORMER = Family(
    NextDiTSpec,
    _stated,
    _measured,
    _assumed,
    _rules,
    _config,
)
