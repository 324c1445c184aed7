"""The layouts of Jina: the names of transformers, of single files, and of the original release."""

from __future__ import annotations

from dataclasses import replace

from sakuga.checkpoint.layouts.layout import Drop, KeyLayout, Rule, renamed, same, wrapped

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
    prefixes=wrapped("model.", ""),
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
