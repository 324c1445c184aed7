"""The smallest specs that tell every layout and shape apart."""

from __future__ import annotations

from dataclasses import replace

from sakuga.model.spec import (
    LUMINA_2,
    NEWBIE_3_5B,
    GemmaSpec,
    JinaSpec,
    ModelSpec,
    NextDiTSpec,
    VAESpec,
)

TINY = ModelSpec(
    name="tiny",
    transformer=NextDiTSpec(
        dim=48,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=4,
        n_kv_heads=2,
        axes_dims=(4, 4, 4),
        cap_feat_dim=32,
        clip_text_dim=24,
        multiple_of=16,
        in_channels=4,
    ),
    gemma=GemmaSpec(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        query_pre_attn_scalar=12,
        sliding_window=4,
        full_attention_layers=(1,),
        max_position_embeddings=128,
    ),
    jina=JinaSpec(
        vocab_size=64,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
    ),
    vae=VAESpec(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4
    ),
    drawing=NEWBIE_3_5B.drawing,
)

# Lumina-Image 2.0 as small: no pooled branch, Gemma 2, whose bound is felt.
TINY_KIN = ModelSpec(
    name="tiny-kin",
    transformer=replace(TINY.transformer, clip_text_dim=0, qk_norm_eps=1e-5),
    gemma=replace(
        TINY.gemma, qk_norm=False, attn_softcap=1.5, rope_theta=5e3, rope_local_theta=5e3,
        rope_linear_factor=1.0, trained_tokens=256,
    ),
    jina=None,
    vae=TINY.vae,
    drawing=LUMINA_2.drawing,
)  # fmt: skip
