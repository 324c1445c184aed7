"""A small Gemma 3 and 2 as GGUF: rows of whole blocks, the names and values of llama.cpp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf_file import write_gguf
from torch import nn

from sakuga.checkpoint.families.gemma import GEMMA_GGUF
from sakuga.checkpoint.families.match import Match, rewrite
from sakuga.model.spec import GemmaSpec
from sakuga.model.text import GemmaEncoder

# Rows of whole blocks in every matrix, and what GGUF cannot say left as llama.cpp has it.
GEMMA = GemmaSpec(
    vocab_size=40,
    hidden_size=256,
    intermediate_size=512,
    num_hidden_layers=3,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=128,
    query_pre_attn_scalar=128,
    sliding_window=7,
    full_attention_layers=(1,),
    max_position_embeddings=99,
    rope_theta=500_000.0,
    rope_local_theta=20_000.0,
    rope_linear_factor=4.0,
    rms_norm_eps=1e-5,
)
VALUES: dict[str, Any] = {
    "general.architecture": "gemma3",
    "general.name": "tiny",
    "gemma3.context_length": 99,
    "gemma3.embedding_length": 256,
    "gemma3.block_count": 3,
    "gemma3.feed_forward_length": 512,
    "gemma3.attention.head_count": 2,
    "gemma3.attention.head_count_kv": 1,
    "gemma3.attention.key_length": 128,
    "gemma3.attention.layer_norm_rms_epsilon": 1e-5,
    "gemma3.attention.sliding_window": 7,
    "gemma3.attention.sliding_window_pattern": 2,
    "gemma3.rope.freq_base": 500_000.0,
    "gemma3.rope.freq_base_swa": 20_000.0,
    "gemma3.rope.scaling.type": "linear",
    "gemma3.rope.scaling.factor": 4.0,
    "tokenizer.ggml.tokens": ["<pad>", "é"],
}


GEMMA_2 = replace(
    GEMMA, qk_norm=False, attn_softcap=30.0, rope_local_theta=500_000.0, rope_linear_factor=1.0,
    trained_tokens=256,
)  # fmt: skip
VALUES_2: dict[str, Any] = {
    "general.architecture": "gemma2",
    **{key.replace("gemma3", "gemma2"): value for key, value in VALUES.items()
       if key.startswith("gemma3.") and "_swa" not in key and "scaling" not in key
       and "pattern" not in key},
    "gemma2.attn_logit_softcapping": 30.0,
    "gemma2.final_logit_softcapping": 30.0,
}  # fmt: skip


def drawn(build: Callable[[], nn.Module]) -> nn.Module:
    module = build().eval()
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in module.parameters():
            value.copy_(torch.randn(value.shape, generator=draw) * 0.2)
    return module


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build().eval()


def gemma_file(
    file: Path, kind: str = "F32", values: dict[str, Any] = VALUES, spec: GemmaSpec = GEMMA
) -> Path:
    """Gemma as llama.cpp writes it: other names, norms plus one, and the last layer too."""
    whole = replace(spec, num_hidden_layers=spec.num_hidden_layers + 1)
    state = drawn(lambda: GemmaEncoder(whole).model).state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    pieces, left = rewrite(Match(GEMMA_GGUF.inverse), shapes)
    assert left == ()
    tensors = {}
    for piece in pieces:
        (source,) = piece.sources
        plus = 1.0 if piece.target.endswith("norm.weight") else 0.0
        tensors[piece.target] = ("F32" if plus else kind, (state[source] + plus).numpy())
    tensors["output_norm.weight"] = ("F32", np.ones(256, np.float32))
    tensors["rope_freqs.weight"] = ("F32", np.ones(64, np.float32))
    return write_gguf(file, values, tensors)


def gemma_state(spec: GemmaSpec = GEMMA) -> dict[str, torch.Tensor]:
    whole = replace(spec, num_hidden_layers=spec.num_hidden_layers + 1)
    state = drawn(lambda: GemmaEncoder(whole).model).state_dict()
    return {key: value for key, value in state.items() if not key.startswith("layers.2.")}
