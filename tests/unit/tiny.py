"""The smallest specs that tell every layout and shape apart."""

from __future__ import annotations

from sakuga.model.spec import NEWBIE_3_5B, GemmaSpec, JinaSpec, ModelSpec, NextDiTSpec, VAESpec

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
