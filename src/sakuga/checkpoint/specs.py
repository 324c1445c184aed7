"""What model a component is: its config, its file's metadata and its key shapes, compared.

Each source states the fields it knows, in the names of `model.spec`. The config (of
config.json, else of the metadata) is taken at its word, shapes fill in what it leaves
unsaid, the family's defaults the rest; where config and shapes both know, they must agree.
Configs are those of transformers 4 and 5, of diffusers and of the original NextDiT. Keys
without a meaning here are left alone; values that our classes cannot run are refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Generic, TypeVar

from sakuga.checkpoint.layouts import Adapter
from sakuga.errors import SpecMismatch
from sakuga.model.spec import GemmaSpec, JinaSpec, NextDiTSpec, VAESpec

Shapes = Mapping[str, tuple[int, ...]]
Config = Mapping[str, Any]
Facts = dict[str, Any]
S = TypeVar("S", NextDiTSpec, GemmaSpec, JinaSpec, VAESpec)

OURS = "sakuga"  # the part of a config that no other program reads
MAY_BE_ZERO = frozenset({"pad_token_id", "bos_token_id", "eos_token_id"})


@dataclass(frozen=True, slots=True)
class Family(Generic[S]):
    """One kind of component: how its sources are read and its config is written.

    stated: fields a config gives. measured: fields, or properties, that key shapes give,
    knowing the stated ones. assumed: fields that may go unsaid, from the known ones and
    whether there is a config. rules: what must hold, each with whether it does.
    """

    spec: type[S]
    stated: Callable[[Config, str], Facts]
    measured: Callable[[Shapes, Facts], Facts]
    assumed: Callable[[Facts, bool], Facts]
    rules: Callable[[S], Iterable[tuple[str, bool]]]
    config: Callable[[S], dict[str, Any]]


def read_spec(
    family: Family[S], config: Config | None, source: str, shapes: Shapes, file: str
) -> S:
    """The spec of a component, from a config, if there is one, and key shapes.

    source, file: where config and shapes come from, for messages. shapes: by our names.
    Raises SpecMismatch where the two differ (naming both sources with both values), where
    neither says enough, or where a value breaks a rule.
    """
    stated = family.stated(config, source) if config is not None else {}
    measured = family.measured(shapes, stated)
    known = {**measured, **stated}
    known = {**family.assumed(known, config is not None), **known}
    lacking = [
        field.name
        for field in fields(family.spec)
        if field.name not in known and field.default is MISSING
    ]
    if lacking:
        raise SpecMismatch(
            "a config or the key shapes say what a model is",
            f"nothing about {', '.join(lacking)} in {source} and {file}",
            "Put the config.json of these weights beside them",
        )
    names = {field.name for field in fields(family.spec)}
    spec = family.spec(**{name: value for name, value in known.items() if name in names})
    check(family, spec, source if config is not None else file)
    for name, value in measured.items():
        if getattr(spec, name) != value:
            raise SpecMismatch(
                "config and key shapes describe one model",
                f"{name} {getattr(spec, name)!r} by {source}, {value!r} by the keys of {file}",
                "Use the config that belongs to these weights",
            )
    return spec


def compare(family: Family[S], spec: S, source: str, config: Config, other: str) -> None:
    """Refuse a second config that describes another model, with SpecMismatch.

    source: where the spec comes from. config, other: the second one, and where it does.
    """
    for name, value in family.stated(config, other).items():
        # What is no field, such as a pattern of layers, was turned into fields on reading.
        if getattr(spec, name, value) != value:
            raise SpecMismatch(
                "two configs of one component describe one model",
                f"{name} {getattr(spec, name)!r} by {source}, {value!r} by {other}",
                "Remove the config that does not belong to these weights",
            )


def check(family: Family[S], spec: S, source: str) -> None:
    """Refuse a spec that no model can have, with SpecMismatch."""
    for field in fields(family.spec):
        value = getattr(spec, field.name)
        numbers = value if isinstance(value, tuple) and field.name != FULL else (value,)
        low = 0 if field.name in MAY_BE_ZERO else 1
        for number in numbers:
            if isinstance(number, int) and not low <= number < 2**31:
                raise _impossible(f"{field.name} is a whole number from {low}", value, source)
            if isinstance(number, float) and not math.isfinite(number):
                raise _impossible(f"{field.name} is a finite number", value, source)
    for rule, holds in family.rules(spec):
        if not holds:
            raise _impossible(rule, spec, source)


def config_of(spec: NextDiTSpec | GemmaSpec | JinaSpec | VAESpec) -> dict[str, Any]:
    """The config.json of a component, as the library of its names would read it."""
    family: Any = next(each for each in FAMILIES.values() if each.spec is type(spec))
    written: dict[str, Any] = family.config(spec)
    return written


# NextDiT


# What diffusers calls these in the config of its Lumina2Transformer2DModel.
LUMINA2 = {
    "hidden_size": "dim",
    "num_layers": "n_layers",
    "num_refiner_layers": "n_refiner_layers",
    "num_attention_heads": "n_heads",
    "num_kv_heads": "n_kv_heads",
    "axes_dim_rope": "axes_dims",
    "pooled_projection_dim": "clip_text_dim",
}
LUMINA2_LACKS = ("model_type", "qk_norm", "rope_theta")


def _nextdit_stated(config: Config, source: str) -> Facts:
    _refuse(config, source, {"qk_norm": (True,)})
    if "hidden_size" in config:
        config = {LUMINA2.get(name, name): value for name, value in config.items()}
        config |= _nested(config, source, OURS, {})
    facts = _ints(
        config,
        source,
        "dim n_layers n_refiner_layers n_heads n_kv_heads cap_feat_dim clip_text_dim "
        "multiple_of in_channels patch_size",
    )
    facts |= _floats(config, source, "norm_eps rope_theta")
    return facts | _int_lists(config, source, "axes_dims")


def _nextdit_measured(shapes: Shapes, stated: Facts) -> Facts:
    dim = _size(shapes, "x_embedder.weight", 0)
    features = _size(shapes, "x_embedder.weight", 1)
    head = _size(shapes, "layers.0.attention.q_norm.weight", 0)
    rows = _size(shapes, "layers.0.attention.qkv.weight", 0)
    heads = dim // head if dim and head else None
    patch = max(1, stated.get("patch_size", 2))
    return _known(
        {
            "dim": dim,
            "n_layers": _count(shapes, "layers"),
            "n_refiner_layers": _count(shapes, "noise_refiner"),
            "n_heads": heads,
            "n_kv_heads": (rows // head - heads) // 2 if rows and head and heads else None,
            "cap_feat_dim": _size(shapes, "cap_embedder.1.weight", 1),
            "clip_text_dim": _size(shapes, "clip_text_pooled_proj.1.weight", 1),
            "in_channels": features // patch**2 if features else None,
            "ffn_dim": _size(shapes, "layers.0.feed_forward.w1.weight", 0),
        }
    )


def _nextdit_assumed(known: Facts, config: bool) -> Facts:
    del config
    facts: Facts = {"multiple_of": 256}
    dim, ffn = known.get("dim", 0), known.get("ffn_dim", 0)
    if ffn and -(-4 * dim // 256) * 256 != ffn:
        facts["multiple_of"] = ffn
    axis, rest = divmod(dim // max(1, known.get("n_heads", 1)), 3)
    if rest == 0 and axis % 2 == 0:
        facts["axes_dims"] = (axis, axis, axis)
    return facts


def _nextdit_rules(spec: NextDiTSpec) -> Iterable[tuple[str, bool]]:
    yield "dim is a multiple of n_heads", spec.dim % spec.n_heads == 0
    yield "n_heads is a multiple of n_kv_heads", spec.n_heads % spec.n_kv_heads == 0
    yield (
        "axes_dims are three even sizes",
        len(spec.axes_dims) == 3 and not any(axis % 2 for axis in spec.axes_dims),
    )
    yield "axes_dims add up to dim / n_heads", sum(spec.axes_dims) == spec.head_dim
    yield "rope_theta is above 1", spec.rope_theta > 1
    yield "norm_eps is above 0", spec.norm_eps > 0


def _nextdit_config(spec: NextDiTSpec) -> dict[str, Any]:
    return {
        "_class_name": "NextDiT_CLIP",
        "model_type": "nextdit_clip",
        "dim": spec.dim,
        "n_layers": spec.n_layers,
        "n_refiner_layers": spec.n_refiner_layers,
        "n_heads": spec.n_heads,
        "n_kv_heads": spec.n_kv_heads,
        "axes_dims": list(spec.axes_dims),
        "axes_lens": [1024, 512, 512],  # the original's tables; we compute, and need none
        "cap_feat_dim": spec.cap_feat_dim,
        "clip_text_dim": spec.clip_text_dim,
        "multiple_of": spec.multiple_of,
        "in_channels": spec.in_channels,
        "patch_size": spec.patch_size,
        "norm_eps": spec.norm_eps,
        "qk_norm": True,
        "rope_theta": spec.rope_theta,
    }


def lumina2_config(spec: NextDiTSpec) -> dict[str, Any]:
    """The config.json of a transformer under diffusers names.

    Its class computes rotary positions with a base of 10,000 whatever the config says, so
    ours is kept apart, as is all else that it has no word for.
    """
    config = _nextdit_config(spec)
    named = {ours: theirs for theirs, ours in LUMINA2.items()}
    theirs = {named.get(name, name): config[name] for name in config if name not in LUMINA2_LACKS}
    ours = {"rope_theta": spec.rope_theta}
    return {**theirs, "_class_name": "Lumina2Transformer2DModel", OURS: ours}


# Gemma 3

FULL = "full_attention_layers"
PATTERN = "sliding_window_pattern"


def _gemma_stated(config: Config, source: str) -> Facts:
    config = _nested(config, source, "text_config")
    _refuse(
        config,
        source,
        {
            "hidden_activation": ("gelu_pytorch_tanh",),
            "attention_bias": (False,),
            "attn_logit_softcapping": (),
            "use_bidirectional_attention": (False,),
        },
    )
    facts = _ints(
        config,
        source,
        "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
        "num_key_value_heads head_dim query_pre_attn_scalar sliding_window "
        "max_position_embeddings pad_token_id bos_token_id eos_token_id",
    )
    facts |= _floats(config, source, "rms_norm_eps")
    facts |= _gemma_rope(config, source)
    facts |= _ints(_nested(config, source, OURS, {}), source, "trained_tokens")
    kinds = config.get("layer_types")
    if kinds is not None:
        known = ("full_attention", "sliding_attention")
        if not isinstance(kinds, list) or not all(kind in known for kind in kinds):
            raise _impossible(f"layer_types are of {' and '.join(known)}", kinds, source)
        if len(kinds) != facts.setdefault("num_hidden_layers", len(kinds)):
            count = facts["num_hidden_layers"]
            raise _impossible(f"layer_types are {count}, one per layer", len(kinds), source)
        facts[FULL] = tuple(n for n, kind in enumerate(kinds) if kind == known[0])
    else:
        private = {PATTERN: config.get(PATTERN, config.get("_" + PATTERN))}
        facts |= _ints(private, source, PATTERN)
    return facts


def _gemma_rope(config: Config, source: str) -> Facts:
    """Bases and factor, in the form of transformers 5 (per kind of layer) or of 4."""
    parameters = _nested(config, source, "rope_parameters", {})
    if parameters:
        full = scaling = _nested(parameters, source, "full_attention", {})
        local = _nested(parameters, source, "sliding_attention", {})
    else:
        full, scaling = config, _nested(config, source, "rope_scaling", {})
        local = {"rope_theta": config.get("rope_local_base_freq")}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    _refuse({"rope_type": kind}, source, {"rope_type": ("default", "linear")})
    _refuse(local, source, {"rope_type": ("default",)})
    facts = {
        **_floats(full, source, "rope_theta"),
        **_renamed(_floats(local, source, "rope_theta"), "rope_theta", "rope_local_theta"),
    }
    if kind == "linear":
        facts |= _renamed(_floats(scaling, source, "factor"), "factor", "rope_linear_factor")
    elif parameters:
        facts["rope_linear_factor"] = 1.0
    return facts


def _gemma_measured(shapes: Shapes, stated: Facts) -> Facts:
    head = _size(shapes, "layers.0.self_attn.q_norm.weight", 0)
    query = _size(shapes, "layers.0.self_attn.q_proj.weight", 0)
    key = _size(shapes, "layers.0.self_attn.k_proj.weight", 0)
    layers = _count(shapes, "layers")
    # The last layer and the final norm are never run, so a file may go without them.
    if layers and "norm.weight" not in shapes and stated.get("num_hidden_layers") != layers:
        layers += 1
    return _known(
        {
            "vocab_size": _size(shapes, "embed_tokens.weight", 0),
            "hidden_size": _size(shapes, "embed_tokens.weight", 1),
            "intermediate_size": _size(shapes, "layers.0.mlp.gate_proj.weight", 0),
            "num_hidden_layers": layers,
            "num_attention_heads": query // head if query and head else None,
            "num_key_value_heads": key // head if key and head else None,
            "head_dim": head,
        }
    )


def _gemma_assumed(known: Facts, config: bool) -> Facts:
    """What transformers' Gemma3TextConfig assumes; without any config, what the 4B model is."""
    pattern = max(1, known.get(PATTERN, 6))
    layers = range(min(known.get("num_hidden_layers", 0), 10_000))
    return {
        "head_dim": 256,
        "query_pre_attn_scalar": 256 if config else known.get("head_dim", 256),
        "sliding_window": 4096 if config else 1024,
        "rope_linear_factor": 1.0 if config else 8.0,
        "max_position_embeddings": 131_072,
        FULL: tuple(n for n in layers if (n + 1) % pattern == 0),
    }


def _gemma_rules(spec: GemmaSpec) -> Iterable[tuple[str, bool]]:
    heads = spec.num_attention_heads
    yield "there are two layers or more, the last of which is not run", spec.num_hidden_layers > 1
    yield "hidden_size is a multiple of num_attention_heads", spec.hidden_size % heads == 0
    yield "query heads are a multiple of key heads", heads % spec.num_key_value_heads == 0
    yield "head_dim is even", spec.head_dim % 2 == 0
    yield (
        f"{FULL} are layers",
        all(0 <= n < spec.num_hidden_layers for n in spec.full_attention_layers),
    )
    yield "rope bases are above 1", min(spec.rope_theta, spec.rope_local_theta) > 1
    yield "the rope factor is above 0", spec.rope_linear_factor > 0
    yield "rms_norm_eps is above 0", spec.rms_norm_eps > 0
    yield from _token_rules(spec)


def _gemma_config(spec: GemmaSpec) -> dict[str, Any]:
    linear = {"rope_type": "linear", "factor": spec.rope_linear_factor}
    plain = {"rope_type": "default"}
    scaling = linear if spec.rope_linear_factor != 1 else plain
    kinds = [
        "full_attention" if n in spec.full_attention_layers else "sliding_attention"
        for n in range(spec.num_hidden_layers)
    ]
    return {
        "architectures": ["Gemma3TextModel"],
        "model_type": "gemma3_text",
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.intermediate_size,
        "num_hidden_layers": spec.num_hidden_layers,
        "num_attention_heads": spec.num_attention_heads,
        "num_key_value_heads": spec.num_key_value_heads,
        "head_dim": spec.head_dim,
        "query_pre_attn_scalar": spec.query_pre_attn_scalar,
        "sliding_window": spec.sliding_window,
        "layer_types": kinds,
        "max_position_embeddings": spec.max_position_embeddings,
        "rope_parameters": {
            "full_attention": {**scaling, "rope_theta": spec.rope_theta},
            "sliding_attention": {**plain, "rope_theta": spec.rope_local_theta},
        },
        "rms_norm_eps": spec.rms_norm_eps,
        "hidden_activation": "gelu_pytorch_tanh",
        "pad_token_id": spec.pad_token_id,
        "bos_token_id": spec.bos_token_id,
        "eos_token_id": spec.eos_token_id,
        OURS: {"trained_tokens": spec.trained_tokens},
    }


# Jina CLIP v2, text tower


def _jina_stated(config: Config, source: str) -> Facts:
    config = _nested(config, source, "text_config")
    _refuse(config, source, {"hidden_act": ("gelu",), "position_embedding_type": ("rotary",)})
    facts = _ints(
        config,
        source,
        "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
        "max_position_embeddings type_vocab_size bos_token_id pad_token_id eos_token_id",
    )
    facts |= _floats(config, source, "layer_norm_eps rotary_emb_base")
    rope = _nested(config, source, "rope_parameters", {})
    _refuse(rope, source, {"rope_type": ("default",)})
    theta = _floats(rope or config, source, "rope_theta")
    return facts | _renamed(theta, "rope_theta", "rotary_emb_base")


def _jina_measured(shapes: Shapes, stated: Facts) -> Facts:
    del stated
    return _known(
        {
            "vocab_size": _size(shapes, "embeddings.word_embeddings.weight", 0),
            "hidden_size": _size(shapes, "embeddings.word_embeddings.weight", 1),
            "intermediate_size": _size(shapes, "layers.0.mlp.fc1.weight", 0),
            "num_hidden_layers": _count(shapes, "layers"),
            "type_vocab_size": _size(shapes, "embeddings.token_type_embeddings.weight", 0),
        }
    )


def _jina_assumed(known: Facts, config: bool) -> Facts:
    """Heads of 64, as in every XLM-RoBERTa."""
    del config
    width = known.get("hidden_size", 0)
    return {"num_attention_heads": width // 64} if width and width % 64 == 0 else {}


def _jina_rules(spec: JinaSpec) -> Iterable[tuple[str, bool]]:
    width, heads = spec.hidden_size, spec.num_attention_heads
    yield "hidden_size is a multiple of num_attention_heads", width % heads == 0
    yield "hidden_size / num_attention_heads is even", width // heads % 2 == 0
    yield "the rope base is above 1", spec.rotary_emb_base > 1
    yield "layer_norm_eps is above 0", spec.layer_norm_eps > 0
    yield from _token_rules(spec)


def _jina_config(spec: JinaSpec) -> dict[str, Any]:
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


def read_adapter(config: Config, source: str) -> Adapter:
    """Which adapter the official Jina applies to a text, and its scale, from its config.

    It is that of `default_lora_task`, which jina-clip-v2 sets to retrieval.query; what the
    config leaves unsaid is as `Adapter` assumes. Raises SpecMismatch on impossible values.
    """
    text = _nested(config, source, "text_config", {})
    inner = _nested(text, source, "hf_model_config_kwargs", {})
    stated = {**config, **text, **inner}
    names = _listed(stated.get("lora_adaptations"))
    task = stated.get("default_lora_task") or "retrieval.query"
    if names and task not in names:
        raise _impossible(f"lora_adaptations name {task!r}", names, source)
    facts = _floats(stated, source, "lora_alpha lora_rank")
    if min(facts.values(), default=1.0) <= 0 or not all(map(math.isfinite, facts.values())):
        raise _impossible("lora_alpha and lora_rank are above 0", facts, source)
    whole = len(facts) == 2
    return Adapter(
        index=names.index(task) if names else 0,
        scale=facts["lora_alpha"] / facts["lora_rank"] if whole else 1.0,
    )


# FLUX autoencoder


def _vae_stated(config: Config, source: str) -> Facts:
    down, up = config.get("down_block_types"), config.get("up_block_types")
    kinds = {"down": set(_listed(down)), "up": set(_listed(up))}
    _refuse(
        {
            **config,
            "down_block_types": kinds["down"] or None,
            "up_block_types": kinds["up"] or None,
        },
        source,
        {
            "act_fn": ("silu",),
            "use_quant_conv": (False,),
            "use_post_quant_conv": (False,),
            "mid_block_add_attention": (True,),
            "down_block_types": ({"DownEncoderBlock2D"},),
            "up_block_types": ({"UpDecoderBlock2D"},),
            "out_channels": (config.get("in_channels", 3),),
        },
    )
    facts = _ints(config, source, "layers_per_block norm_num_groups latent_channels in_channels")
    facts |= _floats(config, source, "scaling_factor shift_factor")
    if "shift_factor" in config:
        facts.setdefault("shift_factor", 0.0)  # null, as diffusers writes for no shift
    return facts | _int_lists(config, source, "block_out_channels")


def _vae_measured(shapes: Shapes, stated: Facts) -> Facts:
    del stated
    widths = tuple(
        _size(shapes, f"encoder.down_blocks.{n}.resnets.0.conv1.weight", 0) or 0
        for n in range(_count(shapes, "encoder.down_blocks") or 0)
    )
    return _known(
        {
            "block_out_channels": widths or None,
            "layers_per_block": _count(shapes, "encoder.down_blocks.0.resnets"),
            "latent_channels": _size(shapes, "decoder.conv_in.weight", 1),
            "in_channels": _size(shapes, "encoder.conv_in.weight", 1),
        }
    )


def _vae_assumed(known: Facts, config: bool) -> Facts:
    del known, config
    return {"norm_num_groups": 32}


def _vae_rules(spec: VAESpec) -> Iterable[tuple[str, bool]]:
    groups = spec.norm_num_groups
    yield "there are one to eight resolutions", 1 <= len(spec.block_out_channels) <= 8
    yield (
        "norm_num_groups divides every width",
        not any(w % groups for w in spec.block_out_channels),
    )
    yield "scaling_factor is above 0", spec.scaling_factor > 0


def _vae_config(spec: VAESpec) -> dict[str, Any]:
    resolutions = len(spec.block_out_channels)
    return {
        "_class_name": "AutoencoderKL",
        "in_channels": spec.in_channels,
        "out_channels": spec.in_channels,
        "latent_channels": spec.latent_channels,
        "block_out_channels": list(spec.block_out_channels),
        "layers_per_block": spec.layers_per_block,
        "norm_num_groups": spec.norm_num_groups,
        "act_fn": "silu",
        "down_block_types": ["DownEncoderBlock2D"] * resolutions,
        "up_block_types": ["UpDecoderBlock2D"] * resolutions,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "mid_block_add_attention": True,
        "scaling_factor": spec.scaling_factor,
        "shift_factor": spec.shift_factor,
    }


TRANSFORMER = Family(
    NextDiTSpec,
    _nextdit_stated,
    _nextdit_measured,
    _nextdit_assumed,
    _nextdit_rules,
    _nextdit_config,
)
GEMMA = Family(
    GemmaSpec, _gemma_stated, _gemma_measured, _gemma_assumed, _gemma_rules, _gemma_config
)
JINA = Family(JinaSpec, _jina_stated, _jina_measured, _jina_assumed, _jina_rules, _jina_config)
VAE = Family(VAESpec, _vae_stated, _vae_measured, _vae_assumed, _vae_rules, _vae_config)

FAMILIES: Mapping[str, Any] = {
    "transformer": TRANSFORMER,
    "text_encoder": GEMMA,
    "text_encoder_2": JINA,
    "vae": VAE,
}


# Reading untrusted values


def _ints(config: Config, source: str, names: str) -> Facts:
    """The whole numbers among these names; of a list (several ends of text) the first."""
    facts = {}
    for name in names.split():
        value = config.get(name)
        if isinstance(value, list) and name.endswith("_token_id") and value:
            value = value[0]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is not None:
            if type(value) is not int:
                raise _impossible(f"{name} is a whole number", value, source)
            facts[name] = value
    return facts


def _floats(config: Config, source: str, names: str) -> Facts:
    facts = {}
    for name in names.split():
        value = config.get(name)
        if value is not None:
            if type(value) not in (int, float):
                raise _impossible(f"{name} is a number", value, source)
            facts[name] = float(value)
    return facts


def _int_lists(config: Config, source: str, names: str) -> Facts:
    facts = {}
    for name in names.split():
        value = config.get(name)
        if value is not None:
            if not isinstance(value, list) or not all(type(n) is int for n in value):
                raise _impossible(f"{name} is a list of whole numbers", value, source)
            facts[name] = tuple(value)
    return facts


def _nested(config: Config, source: str, name: str, otherwise: Config | None = None) -> Config:
    """The part of a config under `name`; where there is none, `otherwise` or the config."""
    value = config.get(name)
    if value is None:
        return config if otherwise is None else otherwise
    if not isinstance(value, dict):
        raise _impossible(f"{name} is a set of named values", value, source)
    return value


def _refuse(config: Config, source: str, allowed: Mapping[str, Collection[Any]]) -> None:
    """Refuse what our classes cannot run; a name that is absent or null is fine."""
    for name, values in allowed.items():
        value = config.get(name)
        if value is not None and value not in values:
            what = " or ".join(repr(each) for each in values) or "not set"
            raise _impossible(f"{name} is {what} in the models that sakuga runs", value, source)


def _listed(value: Any) -> list[Any]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _renamed(facts: Facts, name: str, new: str) -> Facts:
    return {new if key == name else key: value for key, value in facts.items()}


def _size(shapes: Shapes, key: str, axis: int) -> int | None:
    shape = shapes.get(key, ())
    return shape[axis] if axis < len(shape) else None


def _count(shapes: Shapes, stack: str) -> int | None:
    """How many numbered members a stack has."""
    start = stack + "."
    numbers = {key[len(start) :].split(".")[0] for key in shapes if key.startswith(start)}
    return len(numbers) or None


def _known(facts: Facts) -> Facts:
    return {name: value for name, value in facts.items() if value is not None}


def _token_rules(spec: GemmaSpec | JinaSpec) -> Iterable[tuple[str, bool]]:
    ids = (spec.pad_token_id, spec.bos_token_id, spec.eos_token_id)
    yield "special tokens are in the vocabulary", max(ids) < spec.vocab_size


def _impossible(rule: str, value: object, source: str) -> SpecMismatch:
    text = repr(value)
    return SpecMismatch(
        rule,
        f"{text if len(text) <= 400 else text[:397] + '...'} in {source}",
        "Use the config that belongs to these weights",
    )
