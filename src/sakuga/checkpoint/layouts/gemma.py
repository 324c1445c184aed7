"""The layouts of Gemma 3: the names of transformers, and those of llama.cpp in GGUF files."""

from __future__ import annotations

from sakuga.checkpoint.layouts.layout import Drop, KeyLayout, Rule, renamed, same, wrapped

GEMMA_UNRUN = (
    Drop("layers.{beyond}.*", "conditioning is the state before the last layer", spare=True),
    Drop("norm.weight", "the final norm follows the last layer, which is not run", spare=True),
)

GEMMA = KeyLayout(
    name="Gemma 3, transformers names",
    component="text_encoder",
    marks=(
        "embed_tokens.weight",
        "layers.0.self_attn.q_norm.weight",
        "layers.0.pre_feedforward_layernorm.weight",
    ),
    prefixes=wrapped(
        "language_model.model.", "model.language_model.", "language_model.", "model.", ""
    ),
    rules=same(
        "embed_tokens.weight",
        "norm.weight",
        "layers.{n}.self_attn.q_proj.weight",
        "layers.{n}.self_attn.k_proj.weight",
        "layers.{n}.self_attn.v_proj.weight",
        "layers.{n}.self_attn.o_proj.weight",
        "layers.{n}.self_attn.q_norm.weight",
        "layers.{n}.self_attn.k_norm.weight",
        "layers.{n}.mlp.gate_proj.weight",
        "layers.{n}.mlp.up_proj.weight",
        "layers.{n}.mlp.down_proj.weight",
        "layers.{n}.input_layernorm.weight",
        "layers.{n}.post_attention_layernorm.weight",
        "layers.{n}.pre_feedforward_layernorm.weight",
        "layers.{n}.post_feedforward_layernorm.weight",
    ),
    drops=(
        *(
            Drop(pattern, "prompts are text; pictures are never read")
            for pattern in (
                "*vision_tower.*",
                "*vision_model.*",
                "*multi_modal_projector.*",
            )
        ),
        Drop("*lm_head.weight", "nothing is generated"),
        Drop("*rotary_emb.*inv_freq", "rotary frequencies are computed"),
        Drop("*spiece_model", "it is the tokenizer, no weight"),
        *GEMMA_UNRUN,
    ),
)

GEMMA_GGUF = KeyLayout(
    name="Gemma 3, llama.cpp names",
    component="text_encoder",
    marks=(
        "token_embd.weight",
        "blk.0.attn_q_norm.weight",
        "blk.0.post_ffw_norm.weight",
    ),
    rules=(
        *renamed(
            {
                "token_embd.weight": "embed_tokens.weight",
                "blk.{n}.attn_q.weight": "layers.{n}.self_attn.q_proj.weight",
                "blk.{n}.attn_k.weight": "layers.{n}.self_attn.k_proj.weight",
                "blk.{n}.attn_v.weight": "layers.{n}.self_attn.v_proj.weight",
                "blk.{n}.attn_output.weight": "layers.{n}.self_attn.o_proj.weight",
                "blk.{n}.ffn_gate.weight": "layers.{n}.mlp.gate_proj.weight",
                "blk.{n}.ffn_up.weight": "layers.{n}.mlp.up_proj.weight",
                "blk.{n}.ffn_down.weight": "layers.{n}.mlp.down_proj.weight",
            }
        ),
        # Gemma scales by 1 + weight; llama.cpp stores the sum, so that it may scale by it.
        *(
            Rule((theirs,), (ours,), shift=-1.0)
            for theirs, ours in {
                "output_norm.weight": "norm.weight",
                "blk.{n}.attn_q_norm.weight": "layers.{n}.self_attn.q_norm.weight",
                "blk.{n}.attn_k_norm.weight": "layers.{n}.self_attn.k_norm.weight",
                "blk.{n}.attn_norm.weight": "layers.{n}.input_layernorm.weight",
                "blk.{n}.post_attention_norm.weight": "layers.{n}.post_attention_layernorm.weight",
                "blk.{n}.ffn_norm.weight": "layers.{n}.pre_feedforward_layernorm.weight",
                "blk.{n}.post_ffw_norm.weight": "layers.{n}.post_feedforward_layernorm.weight",
            }.items()
        ),
    ),
    drops=(
        Drop("output.weight", "nothing is generated"),
        Drop("rope_freqs.weight", "rotary frequencies are computed"),
        *GEMMA_UNRUN,
    ),
)
