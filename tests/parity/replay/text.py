"""The text encoders, fed one unpadded text at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from replay.case import (
    Case,
    CaseError,
    Sheet,
    bind_layout,
    lengths_of,
    mask_of,
    pick,
    right_padded,
)
from sakuga.checkpoint.families.jina import JINA_SINGLE_FILE
from sakuga.checkpoint.families.match import BakedAdapter, Match, rewrite
from sakuga.model.spec import GemmaSpec, JinaSpec
from sakuga.model.text import GemmaEncoder, JinaEncoder

GEMMA_FIELDS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "head_dim", "query_pre_attn_scalar",
    "sliding_window", "max_position_embeddings", "rms_norm_eps",
)  # fmt: skip
GEMMA_FIXED = {
    "attention_bias": False, "hidden_activation": "gelu_pytorch_tanh",
    "attn_logit_softcapping": None, "final_logit_softcapping": None,
    "use_bidirectional_attention": False, "attention_dropout": 0.0, "model_type": "gemma3_text",
    "tie_word_embeddings": ..., "initializer_range": ..., "use_cache": ...,
    "bos_token_id": ..., "eos_token_id": ..., "pad_token_id": ...,
}  # fmt: skip
JINA_FIELDS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "rotary_emb_base", "layer_norm_eps", "type_vocab_size",
    "pad_token_id",
)  # fmt: skip
JINA_FIXED = {
    "hidden_act": "gelu", "attention_probs_dropout_prob": ..., "hidden_dropout_prob": ...,
    "max_position_embeddings": ..., "bos_token_id": ..., "eos_token_id": ...,
}  # fmt: skip
COMFY_NAMES = {
    "emb_ln": "embeddings.LayerNorm",
    "encoder.layers": "layers",
    "norm1": "post_attention_layernorm",
    "norm2": "post_mlp_layernorm",
    "mixer.out_proj": "self_attn.o_proj",
}


def gemma(case: Case, sheet: Sheet) -> None:
    """Replay Gemma's hidden states up to the last but one."""
    spec = gemma_spec(case.about["config"])
    with torch.device("meta"):
        encoder = GemmaEncoder(spec)
    cut = (f"layers.{spec.num_hidden_layers - 1}.", "norm.")
    case.fill(encoder.model, case.named("weights/"), dropped=cut)
    stages: list[Tensor] = []
    for module in (encoder.model.embed_tokens, *encoder.model.layers):
        module.register_forward_hook(lambda _module, _args, result: stages.append(result[0]))
    texts = texts_of(case)
    rows = []
    for ids in texts:
        stages.clear()
        result = encoder(ids[None])[0]
        rows.append((*stages, result))
    real = mask_of([len(ids) for ids in texts], case.input("input_ids").shape[1])
    like = torch.empty(*real.shape, spec.hidden_size)
    *hidden, last = [right_padded(states, like) for states in zip(*rows, strict=True)]
    sheet.compare("embeddings", hidden[0], real)
    for place, states in enumerate(hidden):
        sheet.compare(f"hidden_states_{place}", states, real)
    sheet.compare("hidden_states_m2", last, real)
    sheet.compare("all_hidden_states", torch.stack(hidden), real.expand(len(hidden), -1, -1))
    sheet.excuse("last_hidden_state", "excepted: the last layer is never loaded")


def gemma_spec(config: Mapping[str, Any]) -> GemmaSpec:
    """Read a transformers Gemma 3 text config."""
    wanted = (*GEMMA_FIELDS, "layer_types", "rope_parameters")
    fields = pick(config, wanted, GEMMA_FIXED, "config")
    kinds, rope = fields.pop("layer_types"), fields.pop("rope_parameters")
    if len(kinds) != fields["num_hidden_layers"] or not set(kinds) <= rope.keys():
        raise CaseError(f"layer_types {kinds} do not fit the config")
    rope = pick(rope, ("full_attention", "sliding_attention"), {}, "rope_parameters")
    local = pick(rope["sliding_attention"], ("rope_theta",), {"rope_type": "default"}, "local rope")
    far = dict(rope["full_attention"])
    if far.get("rope_type") == "default":
        far |= {"rope_type": "linear", "factor": 1.0}
    far = pick(far, ("rope_theta", "factor"), {"rope_type": "linear"}, "global rope")
    return GemmaSpec(
        **fields,
        full_attention_layers=tuple(i for i, kind in enumerate(kinds) if kind == "full_attention"),
        rope_theta=far["rope_theta"],
        rope_linear_factor=far["factor"],
        rope_local_theta=local["rope_theta"],
    )


def jina(case: Case, sheet: Sheet) -> None:
    """Replay Jina's last layer and its mean over each text."""
    spec = JinaSpec(**pick(case.about["config"], JINA_FIELDS, JINA_FIXED, "config"))
    with torch.device("meta"):
        encoder = JinaEncoder(spec)
    case.fill(encoder.model, from_comfy(case.named("weights/model.")))
    compare(encoder, case, sheet, "")


def official(case: Case, sheet: Sheet) -> None:
    """Replay Jina under its official names, without its adapter and with it."""
    about = case.about
    spec = JinaSpec(**pick(about["config"], JINA_FIELDS, JINA_FIXED, "config"))
    adapter = BakedAdapter(0, about["lora_alpha"] / about["lora_rank"])
    weights = case.named("weights/")
    plain = {key: value for key, value in weights.items() if "lora_" not in key}
    for name, tensors in (("no_adapter/", plain), ("adapter0/", weights)):
        with torch.device("meta"):
            encoder = JinaEncoder(spec)
        bind_layout(encoder.model, tensors, adapter)
        compare(encoder, case, sheet, name)
    ours = encoder.model.state_dict()
    pieces, _ = rewrite(Match(JINA_SINGLE_FILE.inverse), {k: v.shape for k, v in ours.items()})
    for piece in pieces:
        merged = torch.cat([ours[key] for key in piece.sources])
        sheet.compare(f"merged/model.{piece.target}", merged)


def last_layer(encoder: JinaEncoder, ids: Tensor) -> Tensor:
    """What the last layer makes of ids (B, L), before pooling: (B, L, W)."""
    seen: list[Tensor] = []
    layer = encoder.model.layers[-1]
    hook = layer.register_forward_hook(lambda module, given, made: seen.append(made))
    encoder(ids)
    hook.remove()
    return seen[0]


def compare(encoder: JinaEncoder, case: Case, sheet: Sheet, name: str) -> None:
    """Hold the last layer and its mean over each text against outputs under `name`."""
    texts = texts_of(case)
    real = mask_of([len(ids) for ids in texts], case.input("input_ids").shape[1])
    rows = [last_layer(encoder, ids[None])[0] for ids in texts]
    like = torch.empty(*real.shape, encoder.spec.hidden_size)
    sheet.compare(f"{name}sequence", right_padded(rows, like), real)
    sheet.compare(f"{name}pooled", torch.cat([encoder(ids[None]) for ids in texts]))


def from_comfy(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Respell ComfyUI's names of the tower as transformers does, qkv taken apart."""
    ours: dict[str, Tensor] = {}
    for key, value in weights.items():
        name = key
        for old, new in COMFY_NAMES.items():
            name = name.replace(old, new)
        if "mixer.Wqkv" in name:
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                ours[name.replace("mixer.Wqkv", f"self_attn.{letter}_proj")] = part
        else:
            ours[name] = value
    return ours


def texts_of(case: Case) -> list[Tensor]:
    """The ids of each text, without its padding."""
    lengths = lengths_of(case.input("attention_mask"))
    if list(lengths) != case.about["lens"]:
        raise CaseError(f"attention_mask counts {lengths}, lens says {case.about['lens']}")
    return [ids[:n] for ids, n in zip(case.input("input_ids"), lengths, strict=True)]
