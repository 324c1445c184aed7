"""The text tower of Jina CLIP v2 in files: its configs, its adapters, its names."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sakuga.checkpoint.families.family import (
    Config,
    Facts,
    Family,
    floats,
    impossible,
    ints,
    members,
    nested,
    refuse_values,
    size_of,
    texts,
    token_rules,
    under_name,
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
from sakuga.checkpoint.families.match import BakedAdapter
from sakuga.model.inventory import Shapes
from sakuga.model.spec import JinaSpec

JINA_DROPS = (
    Drop("*lm_head.*", "nothing is generated"),
    Drop("*vision_model.*", "prompts are text; pictures are never read"),
    Drop("*logit_scale", "no picture is compared with a text"),
    Drop("*rotary_emb.*inv_freq", "rotary frequencies are computed"),
    Drop("*embeddings.position_ids", "positions are counted"),
    Drop("*spiece_model", "it is the tokenizer, no weight"),
    Drop("pooler.dense.{p}", "the pooled vector is the mean over tokens", spare=True),
)

JINA_TRANSFORMERS = KeyLayout(
    name="Jina, transformers names",
    component="text_encoder_2",
    marks=(
        "embeddings.word_embeddings.weight",
        "embeddings.LayerNorm.weight",
        "layers.0.self_attn.q_proj.weight",
        "layers.0.post_mlp_layernorm.weight",
    ),
    prefixes=wrapped("", "roberta."),
    rules=same(
        "embeddings.word_embeddings.weight",
        "embeddings.token_type_embeddings.weight",
        "embeddings.LayerNorm.{p}",
        "layers.{n}.self_attn.q_proj.{p}",
        "layers.{n}.self_attn.k_proj.{p}",
        "layers.{n}.self_attn.v_proj.{p}",
        "layers.{n}.self_attn.o_proj.{p}",
        "layers.{n}.post_attention_layernorm.{p}",
        "layers.{n}.mlp.fc1.{p}",
        "layers.{n}.mlp.fc2.{p}",
        "layers.{n}.post_mlp_layernorm.{p}",
        "pooler.dense.{p}",
    ),
    drops=JINA_DROPS,
)

JINA_SINGLE_FILE = KeyLayout(
    name="Jina, single-file names",
    component="text_encoder_2",
    marks=(
        "embeddings.word_embeddings.weight",
        "emb_ln.weight",
        "encoder.layers.0.mixer.Wqkv.weight",
    ),
    prefixes=wrapped("model.", "", *ALL_IN_ONE["text_encoder_2"]),
    rules=(
        Rule(
            ("encoder.layers.{n}.mixer.Wqkv.{p}",),
            (
                "layers.{n}.self_attn.q_proj.{p}",
                "layers.{n}.self_attn.k_proj.{p}",
                "layers.{n}.self_attn.v_proj.{p}",
            ),
        ),
        *same(
            "embeddings.word_embeddings.weight",
            "embeddings.token_type_embeddings.weight",
            "pooler.dense.{p}",
        ),
        *renamed(
            {
                "emb_ln.{p}": "embeddings.LayerNorm.{p}",
                "encoder.layers.{n}.mixer.out_proj.{p}": "layers.{n}.self_attn.o_proj.{p}",
                "encoder.layers.{n}.norm1.{p}": "layers.{n}.post_attention_layernorm.{p}",
                "encoder.layers.{n}.mlp.fc1.{p}": "layers.{n}.mlp.fc1.{p}",
                "encoder.layers.{n}.mlp.fc2.{p}": "layers.{n}.mlp.fc2.{p}",
                "encoder.layers.{n}.norm2.{p}": "layers.{n}.post_mlp_layernorm.{p}",
            }
        ),
    ),
    drops=JINA_DROPS,
)

JINA_OFFICIAL = replace(
    JINA_SINGLE_FILE,
    name="Jina, official names",
    marks=("emb_ln.weight", "encoder.layers.0.norm1.weight", "encoder.layers.0.mixer.Wqkv.bias"),
    prefixes=wrapped("text_model.transformer.roberta.", "text_model.transformer.", "roberta."),
    baked=True,
)


def _stated(config: Config, source: str) -> Facts:
    config = nested(config, source, "text_config")
    refuse_values(config, source, {"hidden_act": ("gelu",), "position_embedding_type": ("rotary",)})
    facts = ints(
        config,
        source,
        "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
        "max_position_embeddings type_vocab_size bos_token_id pad_token_id eos_token_id",
    )
    facts |= floats(config, source, "layer_norm_eps rotary_emb_base")
    rope = nested(config, source, "rope_parameters", {})
    refuse_values(rope, source, {"rope_type": ("default",)})
    theta = floats(rope or config, source, "rope_theta")
    return facts | under_name(theta, "rope_theta", "rotary_emb_base")


def _measured(shapes: Shapes, stated: Facts) -> Facts:
    del stated
    return without_gaps(
        {
            "vocab_size": size_of(shapes, "embeddings.word_embeddings.weight", 0),
            "hidden_size": size_of(shapes, "embeddings.word_embeddings.weight", 1),
            "intermediate_size": size_of(shapes, "layers.0.mlp.fc1.weight", 0),
            "num_hidden_layers": members(shapes, "layers"),
            "type_vocab_size": size_of(shapes, "embeddings.token_type_embeddings.weight", 0),
        }
    )


def _assumed(known: Facts, config: bool) -> Facts:
    """Heads of 64, as in every XLM-RoBERTa."""
    del config
    width = known.get("hidden_size", 0)
    return {"num_attention_heads": width // 64} if width and width % 64 == 0 else {}


def _rules(spec: JinaSpec) -> Iterable[tuple[str, bool]]:
    width, heads = spec.hidden_size, spec.num_attention_heads
    yield "hidden_size is a multiple of num_attention_heads", width % heads == 0
    yield "hidden_size / num_attention_heads is even", width // heads % 2 == 0
    yield "the rope base is above 1", spec.rotary_emb_base > 1
    yield "layer_norm_eps is above 0", spec.layer_norm_eps > 0
    yield from token_rules(spec)


def _config(spec: JinaSpec) -> dict[str, Any]:
    return {
        "architectures": ["JinaEmbeddingsV3Model"],
        "model_type": "jina_embeddings_v3",
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.intermediate_size,
        "num_hidden_layers": spec.num_hidden_layers,
        "num_attention_heads": spec.num_attention_heads,
        "max_position_embeddings": spec.max_position_embeddings,
        "rope_parameters": {"rope_type": "default", "rope_theta": spec.rotary_emb_base},
        "layer_norm_eps": spec.layer_norm_eps,
        "type_vocab_size": spec.type_vocab_size,
        "hidden_act": "gelu",
        "bos_token_id": spec.bos_token_id,
        "pad_token_id": spec.pad_token_id,
        "eos_token_id": spec.eos_token_id,
    }


def baked_adapter(config: Config, source: str) -> BakedAdapter:
    """Which adapter the official Jina applies to a text, and its scale, from its config.

    It is that of `default_lora_task`, which jina-clip-v2 sets to retrieval.query; what the
    config leaves unsaid is as `BakedAdapter` assumes. Raises SpecMismatch on impossible values.
    """
    text = nested(config, source, "text_config", {})
    inner = nested(text, source, "hf_model_config_kwargs", {})
    stated = {**config, **text, **inner}
    names = texts(stated.get("lora_adaptations"))
    task = stated.get("default_lora_task") or "retrieval.query"
    if names and task not in names:
        raise impossible(f"lora_adaptations name {task!r}", names, source)
    facts = floats(stated, source, "lora_alpha lora_rank")
    if min(facts.values(), default=1.0) <= 0 or not all(map(math.isfinite, facts.values())):
        raise impossible("lora_alpha and lora_rank are above 0", facts, source)
    whole = len(facts) == 2
    return BakedAdapter(
        index=names.index(task) if names else 0,
        scale=facts["lora_alpha"] / facts["lora_rank"] if whole else 1.0,
    )


JINA = Family(JinaSpec, _stated, _measured, _assumed, _rules, _config)
