"""The layouts of the transformer: the original's names, and those of diffusers."""

from __future__ import annotations

from sakuga.checkpoint.layouts.layout import Drop, KeyLayout, Rule, renamed, same, wrapped

NEXTDIT_ORIGINAL = KeyLayout(
    name="NextDiT, original names",
    component="transformer",
    marks=(
        "x_embedder.weight",
        "cap_embedder.1.weight",
        "noise_refiner.0.attention.k_norm.weight",
        "layers.0.attention.qkv.weight",
        "clip_text_pooled_proj.0.weight",  # without the pooled branch it is Lumina 2
    ),
    prefixes=wrapped("", "model.diffusion_model.", "diffusion_model."),
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
