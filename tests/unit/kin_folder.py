"""A folder of Lumina-Image 2.0's kin as its makers publish one, of a few thousand weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from trained import gemma_json, gemma_model

from sakuga.commands.convert import convert
from sakuga.model.nextdit import NextDiT
from sakuga.model.spec import LUMINA_2, GemmaSpec, ModelSpec, NextDiTSpec, VAESpec
from sakuga.model.text import GemmaEncoder
from sakuga.model.vae import VAE

# Shapes that tell every field apart, and numbers that are felt at this size.
KIN = ModelSpec(
    name="Lumina-Image-2.0",
    transformer=NextDiTSpec(
        dim=48, n_layers=3, n_refiner_layers=2, n_heads=4, n_kv_heads=2, axes_dims=(4, 4, 4),
        cap_feat_dim=24, multiple_of=16, qk_norm_eps=1e-5,
    ),
    gemma=GemmaSpec(
        vocab_size=512, hidden_size=24, intermediate_size=48, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, head_dim=12, query_pre_attn_scalar=10,
        sliding_window=16, full_attention_layers=(1, 3), max_position_embeddings=1024,
        rope_theta=10_000.0, rope_linear_factor=1.0, qk_norm=False, attn_softcap=3.0,
        trained_tokens=256,
    ),
    jina=None,
    vae=VAESpec(block_out_channels=(4, 8, 8, 8), layers_per_block=1, norm_num_groups=2),
    drawing=replace(LUMINA_2.drawing, shift=6.0),
)  # fmt: skip
CLASSES = {
    "_class_name": "Lumina2Pipeline",
    "_diffusers_version": "0.33.0.dev0",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "Gemma2Model"],
    "tokenizer": ["transformers", "GemmaTokenizerFast"],
    "transformer": ["diffusers", "Lumina2Transformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
SCHEDULER = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "_diffusers_version": "0.33.0.dev0",
    "base_image_seq_len": 256,
    "base_shift": 0.5,
    "invert_sigmas": False,
    "max_image_seq_len": 4096,
    "max_shift": 1.15,
    "num_train_timesteps": 1000,
    "shift": 6.0,
    "shift_terminal": None,
    "use_beta_sigmas": False,
    "use_dynamic_shifting": False,
    "use_exponential_sigmas": False,
    "use_karras_sigmas": False,
}


def write_kin(folder: Path, seed: int = 0, spec: ModelSpec = KIN) -> Path:
    """Write a model: every file that Alpha-VLLM/Lumina-Image-2.0 has, under its name there."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "model_index.json", CLASSES)
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    write_json(folder / "transformer" / "config.json", transformer_config(spec.transformer))
    _write_shards(folder / "transformer", "diffusion_pytorch_model", published(spec, seed), 2)
    write_json(folder / "text_encoder" / "config.json", gemma_config(spec.gemma))
    _write_shards(folder / "text_encoder", "model", gemma_state(spec.gemma, seed), 3)
    write_json(folder / "vae" / "config.json", vae_config(spec.vae))
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    save_file(drawn(VAE(spec.vae), seed).state_dict(), file, {"format": "pt"})
    _write_tokenizer(folder / "tokenizer")
    return folder


def drawn(module: nn.Module, seed: int) -> nn.Module:
    """A module with random weights: matrices that keep the size of what passes, norms near 1."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            noise = torch.randn(value.shape, generator=draw)
            if value.dim() > 1:
                value.copy_(noise / value[0].numel() ** 0.5)
            else:
                one = 1.0 if "norm" in name and "layernorm" not in name else 0.0
                value.copy_(one * name.endswith("weight") + 0.1 * noise)
    return module.eval()


def gemma_state(spec: GemmaSpec, seed: int) -> dict[str, Tensor]:
    """All layers, of which the last is never run, and the final norm."""
    more = replace(spec, num_hidden_layers=spec.num_hidden_layers + 1)
    state = drawn(GemmaEncoder(more).model, seed).state_dict()
    return state | {"norm.weight": torch.full((spec.hidden_size,), 0.5)}


def published(spec: ModelSpec, seed: int) -> dict[str, Tensor]:
    """The transformer under the names of diffusers."""
    with TemporaryDirectory() as name:
        place = Path(name)
        state = original(spec, seed)
        save_file(state, place / "in.safetensors", {"format": "pt"})
        write_json(place / "config.json", {"axes_dims": list(spec.transformer.axes_dims)})
        convert(place / "in.safetensors", place / "out.safetensors", "diffusers")
        return load_file(place / "out.safetensors")


def original(spec: ModelSpec, seed: int) -> dict[str, Tensor]:
    """The transformer under its original names, with the norm that nothing reads."""
    one = spec.transformer
    state = drawn(NextDiT(one), seed).state_dict()
    for name, value in state.items():
        if name.endswith("qkv.weight"):  # queries and keys so small that their epsilon is felt
            value[: (one.n_heads + one.n_kv_heads) * one.head_dim] *= 0.02
    return state | {"norm_final.weight": torch.ones(spec.transformer.dim)}


def transformer_config(spec: NextDiTSpec) -> dict[str, Any]:
    """The config.json as diffusers writes it; patches and norms as the class has them."""
    return {
        "_class_name": "Lumina2Transformer2DModel",
        "_diffusers_version": "0.33.0.dev0",
        "axes_dim_rope": list(spec.axes_dims),
        "axes_lens": [300, 512, 512],
        "cap_feat_dim": spec.cap_feat_dim,
        "ffn_dim_multiplier": None,
        "hidden_size": spec.dim,
        "in_channels": spec.in_channels,
        "multiple_of": spec.multiple_of,
        "norm_eps": spec.norm_eps,
        "num_attention_heads": spec.n_heads,
        "num_kv_heads": spec.n_kv_heads,
        "num_layers": spec.n_layers,
        "num_refiner_layers": spec.n_refiner_layers,
        "out_channels": None,
        "patch_size": spec.patch_size,
        "sample_size": 128,
        "scaling_factor": 1.0,
    }


def gemma_config(spec: GemmaSpec) -> dict[str, Any]:
    """The config.json as transformers 4 writes it."""
    return {
        "_name_or_path": "google/gemma-2-2b",
        "architectures": ["Gemma2Model"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_logit_softcapping": spec.attn_softcap,
        "bos_token_id": 2,
        "cache_implementation": "hybrid",
        "eos_token_id": 1,
        "final_logit_softcapping": 30.0,
        "head_dim": spec.head_dim,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": spec.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": spec.intermediate_size,
        "max_position_embeddings": spec.max_position_embeddings,
        "model_type": "gemma2",
        "num_attention_heads": spec.num_attention_heads,
        "num_hidden_layers": spec.num_hidden_layers,
        "num_key_value_heads": spec.num_key_value_heads,
        "pad_token_id": 0,
        "query_pre_attn_scalar": spec.query_pre_attn_scalar,
        "rms_norm_eps": spec.rms_norm_eps,
        "rope_theta": spec.rope_theta,
        "sliding_window": spec.sliding_window,
        "torch_dtype": "float32",
        "transformers_version": "4.44.2",
        "use_cache": True,
        "vocab_size": spec.vocab_size,
    }


def vae_config(spec: VAESpec) -> dict[str, Any]:
    """The config.json of FLUX.1's autoencoder as diffusers writes it."""
    blocks = len(spec.block_out_channels)
    return {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": "0.33.0.dev0",
        "act_fn": "silu",
        "block_out_channels": list(spec.block_out_channels),
        "down_block_types": ["DownEncoderBlock2D"] * blocks,
        "force_upcast": True,
        "in_channels": 3,
        "latent_channels": spec.latent_channels,
        "latents_mean": None,
        "latents_std": None,
        "layers_per_block": spec.layers_per_block,
        "mid_block_add_attention": True,
        "norm_num_groups": spec.norm_num_groups,
        "out_channels": 3,
        "sample_size": 1024,
        "scaling_factor": spec.scaling_factor,
        "shift_factor": spec.shift_factor,
        "up_block_types": ["UpDecoderBlock2D"] * blocks,
        "use_post_quant_conv": False,
        "use_quant_conv": False,
    }


def write_json(file: Path, value: object) -> None:
    """JSON, with the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _write_shards(folder: Path, stem: str, state: dict[str, Tensor], count: int) -> None:
    names = sorted(state)
    files = {}
    for number in range(count):
        file = f"{stem}-{number + 1:05}-of-{count:05}.safetensors"
        part = names[number * len(names) // count : (number + 1) * len(names) // count]
        save_file(
            {name: state[name].contiguous() for name in part}, folder / file, {"format": "pt"}
        )
        files |= dict.fromkeys(part, file)
    total = sum(value.numel() * value.element_size() for value in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": files}
    write_json(folder / f"{stem}.safetensors.index.json", index)


def _write_tokenizer(folder: Path) -> None:
    folder.mkdir()
    gemma_json(folder / "tokenizer.json")
    (folder / "tokenizer.model").write_bytes(gemma_model())
    names = ("bos", "eos", "pad", "unk")
    tokens = {f"{name}_token": f"<{name}>" for name in names}
    write_json(folder / "special_tokens_map.json", tokens)
    settings = {"add_bos_token": True, "add_eos_token": False, "tokenizer_class": "GemmaTokenizer"}
    write_json(folder / "tokenizer_config.json", settings | tokens)
