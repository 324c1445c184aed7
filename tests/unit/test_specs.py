"""Specs are read from configs in the wild, from shapes, and never from wishes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import Gemma2Config, Gemma3Config, Gemma3TextConfig, JinaEmbeddingsV3Config

from sakuga.checkpoint.families.detect import detect
from sakuga.checkpoint.families.family import read_spec
from sakuga.checkpoint.families.gemma import GEMMA
from sakuga.checkpoint.families.jina import JINA, baked_adapter
from sakuga.checkpoint.families.match import BakedAdapter, rewrite
from sakuga.checkpoint.families.nextdit import TRANSFORMER, lumina2_config
from sakuga.checkpoint.families.tables import FAMILIES, config_of
from sakuga.checkpoint.families.vae import VAE
from sakuga.errors import SpecMismatch
from sakuga.model.spec import CHIBI, LUMINA_2, NEWBIE_3_5B, ModelSpec

INVENTORY = Path(__file__).parents[1] / "golden" / "inventory"
REAL = {
    "nextdit_original": ("transformer", NEWBIE_3_5B.transformer),
    "gemma_3_4b_it": ("text_encoder", NEWBIE_3_5B.gemma),
    "gemma_2_2b": ("text_encoder", LUMINA_2.gemma),
    "jina_text_comfyui": ("text_encoder_2", NEWBIE_3_5B.jina),
    "flux_ae_diffusers": ("vae", NEWBIE_3_5B.vae),
}
PRESETS = {"chibi": CHIBI, "newbie": NEWBIE_3_5B, "lumina": LUMINA_2}

# google/gemma-3-4b-it as published, which leaves to transformers what it would assume
GEMMA_4B_V4 = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "eos_token_id": [1, 106],
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
    "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27},
}

# the release's transformer/config.json, which leaves out the refiners and the caption width
NEWBIE_RELEASE = {
    "_class_name": "NextDiT_CLIP",
    "model_type": "nextdit_clip",
    "patch_size": 2,
    "dim": 2304,
    "n_layers": 36,
    "n_heads": 24,
    "n_kv_heads": 8,
    "in_channels": 16,
    "axes_dims": [32, 32, 32],
    "axes_lens": [1024, 512, 512],
    "clip_text_dim": 1024,
    "clip_img_dim": 1024,
}


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    """The real file's shapes, under our names."""
    tensors = json.loads((INVENTORY / f"{name}.json").read_text())["tensors"]
    found = {key: tuple(shape) for key, shape in tensors.items()}
    return {piece.target: piece.shape for piece in rewrite(detect(found), found)[0]}


@pytest.mark.parametrize("name", REAL)
def test_shapes_alone_tell_the_real_model(name: str) -> None:
    component, spec = REAL[name]
    assert read_spec(FAMILIES[component], None, "no config", shapes(name), name) == spec


@pytest.mark.parametrize("name", REAL)
def test_its_own_config_agrees_with_its_shapes(name: str) -> None:
    component, spec = REAL[name]
    data = json.loads((INVENTORY / f"{name}.json").read_text())
    config = data.get("config", data.get("text_config"))
    assert read_spec(FAMILIES[component], config, "config.json", shapes(name), name) == spec
    assert read_spec(FAMILIES[component], config_of(spec), "ours", shapes(name), name) == spec


@pytest.mark.parametrize("model", PRESETS)
def test_written_configs_read_back(model: str) -> None:
    spec: ModelSpec = PRESETS[model]
    parts = (spec.transformer, spec.gemma, spec.jina, spec.vae)
    for family, part in zip(FAMILIES.values(), parts, strict=True):
        if part is None:
            continue
        config = json.loads(json.dumps(config_of(part)))
        assert read_spec(family, config, "config.json", {}, "nothing") == part


def test_published_gemma_configs_of_both_transformers() -> None:
    keys = shapes("gemma_3_4b_it")
    for config in (GEMMA_4B_V4, Gemma3Config(**GEMMA_4B_V4).to_dict(), GEMMA_4B_V4["text_config"]):
        assert read_spec(GEMMA, config, "config.json", keys, "file") == NEWBIE_3_5B.gemma


def test_transformers_reads_the_gemma_config_we_write() -> None:
    for spec in (CHIBI.gemma, NEWBIE_3_5B.gemma):
        theirs = Gemma3TextConfig(**config_of(spec)).to_dict()
        assert read_spec(GEMMA, theirs, "theirs", {}, "nothing") == spec


def test_transformers_reads_the_gemma_2_config_we_write() -> None:
    for spec in (LUMINA_2.gemma, replace(LUMINA_2.gemma, attn_softcap=0.0, rope_theta=5e4,
                                         rope_local_theta=5e4)):  # fmt: skip
        theirs = Gemma2Config(**config_of(spec)).to_dict()
        assert read_spec(GEMMA, theirs, "theirs", {}, "nothing") == spec


# google/gemma-2-2b as published: the form of transformers 4
GEMMA_2B_V4 = {
    "architectures": ["Gemma2Model"],
    "attention_bias": False,
    "attn_logit_softcapping": 50.0,
    "cache_implementation": "hybrid",
    "final_logit_softcapping": 30.0,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "max_position_embeddings": 8192,
    "model_type": "gemma2",
    "num_attention_heads": 8,
    "num_hidden_layers": 26,
    "num_key_value_heads": 4,
    "query_pre_attn_scalar": 256,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "vocab_size": 256000,
}


def test_a_published_gemma_2_config_and_one_that_leaves_most_unsaid() -> None:
    keys = shapes("gemma_2_2b")
    assert read_spec(GEMMA, GEMMA_2B_V4, "config.json", keys, "file") == LUMINA_2.gemma
    few = {"model_type": "gemma2"}
    assert read_spec(GEMMA, few, "config.json", keys, "file") == LUMINA_2.gemma


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"model_type": "gemma3_text", "attn_logit_softcapping": None},
            "qk_norm True by c.json, False by the keys",
        ),
        ({"model_type": "gemma"}, "model_type is 'gemma2' or 'gemma3_text'"),
        ({"rope_scaling": {"type": "linear", "factor": 1.5}}, "by plain positions"),
        ({"attn_logit_softcapping": -1.0}, "bounded in Gemma 2 alone, by more than 0"),
        ({"attn_logit_softcapping": "50"}, "attn_logit_softcapping is a number"),
        ({"attn_logit_softcapping": float("inf")}, "attn_softcap is a finite number"),
        ({"head_dim": 128}, "num_attention_heads 8 by c.json, 16 by the keys"),
    ],
    ids=str,
)
def test_what_gemma_2_cannot_be(change: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecMismatch, match=told):
        read_spec(GEMMA, {**GEMMA_2B_V4, **change}, "c.json", shapes("gemma_2_2b"), "file")


def test_diffusers_class_of_lumina_2_has_an_epsilon_of_its_own() -> None:
    keys = shapes("lumina2_diffusers")
    config = json.loads((INVENTORY / "lumina2_diffusers.json").read_text())["config"]
    found = read_spec(TRANSFORMER, config, "config.json", keys, "file")
    assert found == replace(LUMINA_2.transformer, qk_norm_eps=1e-5)
    assert read_spec(TRANSFORMER, None, "none", keys, "file") == LUMINA_2.transformer
    for spec in (found, LUMINA_2.transformer, NEWBIE_3_5B.transformer):
        written = lumina2_config(spec)
        assert ("pooled_projection_dim" in written) == bool(spec.clip_text_dim)
        assert read_spec(TRANSFORMER, written, "config.json", {}, "nothing") == spec


def test_transformers_reads_the_jina_config_we_write() -> None:
    for spec in (CHIBI.jina, NEWBIE_3_5B.jina):
        theirs = JinaEmbeddingsV3Config(**config_of(spec)).to_dict()
        assert read_spec(JINA, theirs, "theirs", {}, "nothing") == spec


def test_a_gemma_config_in_the_older_form() -> None:
    config = {
        **{key: getattr(CHIBI.gemma, key) for key in ("vocab_size", "hidden_size")},
        "intermediate_size": 768,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rope_theta": 5e5,
        "rope_local_base_freq": 2e4,
        "rope_scaling": None,
        "sliding_window_pattern": 2,
        "eos_token_id": [1, 106],
    }
    spec = read_spec(GEMMA, config, "config.json", {}, "nothing")
    assert spec.full_attention_layers == (1, 3, 5)
    assert (spec.rope_theta, spec.rope_local_theta, spec.rope_linear_factor) == (5e5, 2e4, 1.0)
    assert (spec.head_dim, spec.query_pre_attn_scalar, spec.sliding_window) == (256, 256, 4096)
    assert spec.eos_token_id == 1


def test_a_gemma_cut_before_its_last_layer_is_the_same_model() -> None:
    keys = shapes("gemma_3_4b_it")
    cut = {k: s for k, s in keys.items() if not k.startswith(("layers.33.", "norm."))}
    assert read_spec(GEMMA, GEMMA_4B_V4, "config.json", cut, "file") == NEWBIE_3_5B.gemma
    assert read_spec(GEMMA, None, "none", cut, "file") == NEWBIE_3_5B.gemma
    shorter = {k: s for k, s in cut.items() if not k.startswith("layers.32.")}
    with pytest.raises(SpecMismatch, match="num_hidden_layers 34"):
        read_spec(GEMMA, GEMMA_4B_V4, "config.json", shorter, "file")


def test_the_release_config_leaves_the_rest_to_the_shapes() -> None:
    spec = read_spec(TRANSFORMER, NEWBIE_RELEASE, "c", shapes("nextdit_original"), "file")
    assert spec == NEWBIE_3_5B.transformer


def test_a_width_that_256_does_not_round_to() -> None:
    keys = shapes("nextdit_original") | {"layers.0.feed_forward.w1.weight": (9300, 2304)}
    spec = read_spec(TRANSFORMER, None, "none", keys, "file")
    assert spec.ffn_dim == 9300


def test_an_autoencoder_without_shift() -> None:
    config = {**config_of(NEWBIE_3_5B.vae), "shift_factor": None}
    assert read_spec(VAE, config, "config.json", {}, "nothing").shift_factor == 0.0


DISAGREEMENTS = [
    ("nextdit_original", "n_layers", 35),
    ("nextdit_original", "dim", 2400),
    ("nextdit_original", "n_kv_heads", 4),
    ("nextdit_original", "in_channels", 4),
    ("nextdit_original", "cap_feat_dim", 2304),
    ("nextdit_original", "n_refiner_layers", 1),
    ("gemma_3_4b_it", "vocab_size", 262_144),
    ("gemma_3_4b_it", "num_attention_heads", 16),
    ("jina_text_comfyui", "num_hidden_layers", 23),
    ("jina_text_comfyui", "type_vocab_size", 2),
    ("flux_ae_diffusers", "layers_per_block", 1),
    ("flux_ae_diffusers", "latent_channels", 4),
]


@pytest.mark.parametrize(("name", "field", "value"), DISAGREEMENTS)
def test_config_and_shapes_must_agree(name: str, field: str, value: int) -> None:
    component, spec = REAL[name]
    config = {**config_of(spec), field: value}
    if field == "dim":
        config["axes_dims"] = [32, 32, 36]
    with pytest.raises(SpecMismatch) as caught:
        read_spec(FAMILIES[component], config, "the config", shapes(name), "the file")
    text = caught.value.got
    assert str(value) in text
    assert str(getattr(spec, field)) in text
    assert "the config" in text
    assert "the file" in text


def test_the_feed_forward_width_is_compared_too() -> None:
    config = {**NEWBIE_RELEASE, "multiple_of": 1000}
    with pytest.raises(SpecMismatch, match=r"ffn_dim 10000 .* 9216"):
        read_spec(TRANSFORMER, config, "c", shapes("nextdit_original"), "file")


IMPOSSIBLE: list[tuple[str, str, Any]] = [
    ("transformer", "dim", 0),
    ("transformer", "dim", -2304),
    ("transformer", "dim", "2304"),
    ("transformer", "dim", True),
    ("transformer", "dim", 2**40),
    ("transformer", "n_heads", 23),
    ("transformer", "n_kv_heads", 7),
    ("transformer", "axes_dims", [32, 32, 30]),
    ("transformer", "axes_dims", [96]),
    ("transformer", "axes_dims", [31, 32, 33]),
    ("transformer", "axes_dims", 96),
    ("transformer", "norm_eps", float("nan")),
    ("transformer", "norm_eps", -1e-5),
    ("transformer", "qk_norm", False),
    ("transformer", "rope_theta", 0),
    ("text_encoder", "num_hidden_layers", 1),
    ("text_encoder", "num_hidden_layers", 10**9),
    ("text_encoder", "layer_types", ["full_attention"]),
    ("text_encoder", "layer_types", ["linear_attention"] * 34),
    ("text_encoder", "hidden_activation", "relu"),
    ("text_encoder", "attention_bias", True),
    ("text_encoder", "attn_logit_softcapping", 50.0),
    ("text_encoder", "use_bidirectional_attention", True),
    ("text_encoder", "rope_parameters", {"full_attention": {"rope_type": "yarn"}}),
    ("text_encoder", "rope_parameters", [1]),
    ("text_encoder", "sliding_window", 0),
    ("text_encoder", "pad_token_id", 10**6),
    ("text_encoder", "pad_token_id", -1),
    ("text_encoder", "text_config", "hidden"),
    ("text_encoder_2", "num_attention_heads", 15),
    ("text_encoder_2", "hidden_act", "relu"),
    ("text_encoder_2", "position_embedding_type", "absolute"),
    ("text_encoder_2", "rope_parameters", {"rope_type": "yarn", "rope_theta": 2e4}),
    ("vae", "norm_num_groups", 48),
    ("vae", "block_out_channels", []),
    ("vae", "block_out_channels", [64, 0]),
    ("vae", "use_quant_conv", True),
    ("vae", "act_fn", "relu"),
    ("vae", "down_block_types", ["AttnDownEncoderBlock2D"]),
    ("vae", "scaling_factor", 0),
    ("vae", "out_channels", 4),
]


@pytest.mark.parametrize(("component", "field", "value"), IMPOSSIBLE)
def test_impossible_values_are_refused(component: str, field: str, value: Any) -> None:
    spec = next(part for name, part in REAL.values() if name == component)
    with pytest.raises(SpecMismatch) as caught:
        read_spec(FAMILIES[component], {**config_of(spec), field: value}, "c.json", {}, "file")
    assert "c.json" in caught.value.got
    assert caught.value.fix


def test_unknown_keys_do_no_harm() -> None:
    config = {**config_of(NEWBIE_3_5B.vae), "auto_map": {"AutoModel": "evil.Model"}, "zzz": [1]}
    assert read_spec(VAE, config, "config.json", {}, "nothing") == NEWBIE_3_5B.vae


def test_what_nobody_says_is_asked_for() -> None:
    keys = shapes("nextdit_original") | {"layers.0.attention.q_norm.weight": (64,)}
    with pytest.raises(SpecMismatch, match="axes_dims"):
        read_spec(TRANSFORMER, None, "config.json (which is not there)", keys, "file")


def test_the_diffusers_config_of_a_transformer_reads_back() -> None:
    spec = replace(NEWBIE_3_5B.transformer, rope_theta=5000.0, axes_dims=(16, 40, 40))
    config = json.loads(json.dumps(lumina2_config(spec)))
    assert config["_class_name"] == "Lumina2Transformer2DModel"
    assert "rope_theta" not in config
    assert read_spec(FAMILIES["transformer"], config, "config.json", {}, "nothing") == spec


def test_a_diffusers_config_as_others_write_it() -> None:
    config = {
        "_class_name": "Lumina2Transformer2DModel", "_diffusers_version": "0.36.0",
        "axes_dim_rope": [32, 32, 32], "axes_lens": [1024, 512, 512], "cap_feat_dim": 2560,
        "ffn_dim_multiplier": None, "hidden_size": 2304, "in_channels": 16, "multiple_of": 256,
        "norm_eps": 1e-05, "num_attention_heads": 24, "num_kv_heads": 8, "num_layers": 36,
        "num_refiner_layers": 2, "out_channels": None, "patch_size": 2,
        "pooled_projection_dim": 1024, "sample_size": 128, "scaling_factor": 1.0,
    }  # fmt: skip
    family = FAMILIES["transformer"]
    assert read_spec(family, config, "config.json", {}, "nothing") == NEWBIE_3_5B.transformer
    shapes = {f"layers.{n}.x": () for n in range(36)}
    with pytest.raises(SpecMismatch, match="n_layers 35"):
        read_spec(family, config | {"num_layers": 35}, "config.json", shapes, "file")


@pytest.mark.parametrize(
    ("config", "adapter"),
    [
        ({}, BakedAdapter(0, 1.0)),
        ({"lora_alpha": 1, "lora_rank": 4}, BakedAdapter(0, 0.25)),
        ({"lora_alpha": 1}, BakedAdapter(0, 1.0)),
        ({"lora_adaptations": ["retrieval.query", "separation"]}, BakedAdapter(0, 1.0)),
        (
            {"text_config": {
                "default_lora_task": "separation",
                "hf_model_config_kwargs": {
                    "lora_adaptations": ["retrieval.query", "separation"],
                    "lora_alpha": 6.0, "lora_rank": 4,
                },
            }},
            BakedAdapter(1, 1.5),
        ),
    ],
)  # fmt: skip
def test_which_adapter_jina_applies(config: dict[str, Any], adapter: BakedAdapter) -> None:
    assert baked_adapter(config, "config.json") == adapter


def test_without_a_config_gemma_scales_queries_by_its_heads() -> None:
    shapes = {
        "embed_tokens.weight": (64, 16), "norm.weight": (16,),
        **{f"layers.{n}.self_attn.q_norm.weight": (8,) for n in range(7)},
        "layers.0.self_attn.q_proj.weight": (16, 16), "layers.0.self_attn.k_proj.weight": (8, 16),
        "layers.0.mlp.gate_proj.weight": (20, 16),
    }  # fmt: skip
    spec = read_spec(FAMILIES["text_encoder"], None, "no config", shapes, "file")
    assert (spec.query_pre_attn_scalar, spec.sliding_window) == (8, 1024)
    assert spec.full_attention_layers == (5,)
