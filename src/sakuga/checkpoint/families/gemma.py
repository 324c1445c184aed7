"""Gemma 2 and 3 in files: their configs, and their names in transformers and in llama.cpp."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sakuga.checkpoint.families.family import (
    Config,
    Facts,
    Family,
    floats,
    impossible,
    ints,
    members,
    nested,
    refuse_values,
    size_of,
    token_rules,
    under_name,
    without_gaps,
)
from sakuga.checkpoint.families.layout import (
    ALL_IN_ONE,
    Drop,
    KeyLayout,
    Rule,
    renamed,
    same,
    wrapped,
)
from sakuga.model.inventory import Shapes
from sakuga.model.spec import OURS, GemmaSpec

GEMMA_UNRUN = (
    Drop("layers.{beyond}.*", "conditioning is the state before the last layer", spare=True),
    Drop("norm.weight", "the final norm follows the last layer, which is not run", spare=True),
)

GEMMA_TRANSFORMERS = KeyLayout(
    name="Gemma, transformers names",
    component="text_encoder",
    marks=(
        "embed_tokens.weight",
        "layers.0.self_attn.q_proj.weight",
        "layers.0.pre_feedforward_layernorm.weight",
    ),
    prefixes=wrapped(
        "language_model.model.",
        "model.language_model.",
        "language_model.",
        "model.",
        "",
        *ALL_IN_ONE["text_encoder"],
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
        Drop("*.logit_scale", "texts are not compared with pictures"),
        Drop("*spiece_model", "it is the tokenizer, no weight"),
        *GEMMA_UNRUN,
    ),
)

GEMMA_GGUF = KeyLayout(
    name="Gemma, llama.cpp names",
    component="text_encoder",
    marks=(
        "token_embd.weight",
        "blk.0.attn_q.weight",
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


FULL = "full_attention_layers"
PATTERN = "sliding_window_pattern"
HEAD = 256  # the width of a head where nothing says it, as in every size but the largest


@dataclass(frozen=True, slots=True)
class Generation:
    """What tells the generations of Gemma apart, beside numbers that every file states.

    kinds: what transformers calls it in `model_type`. architecture: its class there. capped:
    what it assumes of `attn_logit_softcapping`. pattern: every so many layers one sees all.
    rotary: the bases of layers that see all and of the others, if they differ; a config then
    has a set of rotary parameters for each. trained_tokens: of the texts of the models that read
    it. window, factor: where there is no config, what layers that do not see all see, and what
    the positions of the others are divided by.
    """

    kinds: tuple[str, ...]
    architecture: str
    capped: float
    pattern: int
    rotary: tuple[float, ...]
    max_positions: int
    trained_tokens: int
    window: int
    factor: float


# By whether queries and keys are normed.
GENERATIONS: Mapping[bool, Generation] = {
    False: Generation(("gemma2",), "Gemma2Model", 50.0, 2, (10_000.0,), 8192, 256, 4096, 1.0),
    True: Generation(
        ("gemma3_text", "gemma3"), "Gemma3TextModel", 0.0, 6, (1_000_000.0, 10_000.0), 131_072,
        512, 1024, 8.0,
    ),
}  # fmt: skip


def _stated(config: Config, source: str) -> Facts:
    config = nested(config, source, "text_config")
    refuse_values(
        config,
        source,
        {
            "hidden_activation": ("gelu_pytorch_tanh",),
            "attention_bias": (False,),
            "use_bidirectional_attention": (False,),
        },
    )
    facts = ints(
        config,
        source,
        "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
        "num_key_value_heads head_dim query_pre_attn_scalar sliding_window "
        "max_position_embeddings pad_token_id bos_token_id eos_token_id",
    )
    facts |= floats(config, source, "rms_norm_eps")
    facts |= _generation(config, source)
    facts |= _rope(config, source)
    facts |= ints(nested(config, source, OURS, {}), source, "trained_tokens")
    kinds = config.get("layer_types")
    if kinds is not None:
        known = ("full_attention", "sliding_attention")
        if not isinstance(kinds, list) or not all(kind in known for kind in kinds):
            raise impossible(f"layer_types are of {' and '.join(known)}", kinds, source)
        if len(kinds) != facts.setdefault("num_hidden_layers", len(kinds)):
            count = facts["num_hidden_layers"]
            raise impossible(f"layer_types are {count}, one per layer", len(kinds), source)
        facts[FULL] = tuple(n for n, kind in enumerate(kinds) if kind == known[0])
    else:
        private = {PATTERN: config.get(PATTERN, config.get("_" + PATTERN))}
        facts |= ints(private, source, PATTERN)
    return facts


def _generation(config: Config, source: str) -> Facts:
    """Whether queries are normed, if a config names its kind, and the bound of the scores."""
    facts: Facts = {}
    kind = config.get("model_type")
    if kind is not None:
        known = {name: normed for normed, one in GENERATIONS.items() for name in one.kinds}
        refuse_values(config, source, {"model_type": tuple(known)})
        facts["qk_norm"] = known[kind]
    name = "attn_logit_softcapping"
    if name in config:
        capped = {name: config[name] if config[name] is not None else 0.0}
        facts |= under_name(floats(capped, source, name), name, "attn_softcap")
    return facts


def _rope(config: Config, source: str) -> Facts:
    """Bases and factor, in the form of transformers 5 (per kind of layer, if they differ) or 4."""
    parameters = nested(config, source, "rope_parameters", {})
    if "rope_theta" in parameters:
        full = scaling = local = parameters
    elif parameters:
        full = scaling = nested(parameters, source, "full_attention", {})
        local = nested(parameters, source, "sliding_attention", {})
    else:
        full, scaling = config, nested(config, source, "rope_scaling", {})
        local = {"rope_theta": config.get("rope_local_base_freq")}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    refuse_values({"rope_type": kind}, source, {"rope_type": ("default", "linear")})
    refuse_values(local, source, {"rope_type": ("default",)})
    facts = {
        **floats(full, source, "rope_theta"),
        **under_name(floats(local, source, "rope_theta"), "rope_theta", "rope_local_theta"),
    }
    if kind == "linear":
        facts |= under_name(floats(scaling, source, "factor"), "factor", "rope_linear_factor")
    elif parameters:
        facts["rope_linear_factor"] = 1.0
    return facts


def _measured(shapes: Shapes, stated: Facts) -> Facts:
    normed = size_of(shapes, "layers.0.self_attn.q_norm.weight", 0)
    head = normed or stated.get("head_dim", HEAD)
    query = size_of(shapes, "layers.0.self_attn.q_proj.weight", 0)
    key = size_of(shapes, "layers.0.self_attn.k_proj.weight", 0)
    layers = members(shapes, "layers")
    # The last layer and the final norm are never run, so a file may go without them.
    if layers and "norm.weight" not in shapes and stated.get("num_hidden_layers") != layers:
        layers += 1
    return without_gaps(
        {
            "vocab_size": size_of(shapes, "embed_tokens.weight", 0),
            "hidden_size": size_of(shapes, "embed_tokens.weight", 1),
            "intermediate_size": size_of(shapes, "layers.0.mlp.gate_proj.weight", 0),
            "num_hidden_layers": layers,
            "num_attention_heads": query // head if query and head else None,
            "num_key_value_heads": key // head if key and head else None,
            "head_dim": normed,
            "qk_norm": normed is not None if layers else None,
        }
    )


def _assumed(known: Facts, config: bool) -> Facts:
    """What transformers assumes; without a config, what the usual size of the generation is."""
    usual = GENERATIONS[known.get("qk_norm", True)]
    pattern = max(1, known.get(PATTERN, usual.pattern))
    layers = range(min(known.get("num_hidden_layers", 0), 10_000))
    theta = known.get("rope_theta", usual.rotary[0])
    return {
        "head_dim": HEAD,
        "query_pre_attn_scalar": HEAD if config else known.get("head_dim", HEAD),
        "sliding_window": 4096 if config else usual.window,
        "rope_theta": theta,
        "rope_local_theta": usual.rotary[1] if len(usual.rotary) > 1 else theta,
        "rope_linear_factor": 1.0 if config else usual.factor,
        "attn_softcap": usual.capped,
        "max_position_embeddings": usual.max_positions,
        "trained_tokens": usual.trained_tokens,
        FULL: tuple(n for n in layers if (n + 1) % pattern == 0),
    }


def _rules(spec: GemmaSpec) -> Iterable[tuple[str, bool]]:
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
    same = spec.qk_norm or (spec.rope_theta, 1.0) == (
        spec.rope_local_theta,
        spec.rope_linear_factor,
    )
    yield "all layers of Gemma 2 turn alike, by plain positions", same
    bounded = spec.attn_softcap > 0 and not spec.qk_norm
    yield "scores are bounded in Gemma 2 alone, by more than 0", bounded or spec.attn_softcap == 0
    yield "rms_norm_eps is above 0", spec.rms_norm_eps > 0
    yield from token_rules(spec)


def _config(spec: GemmaSpec) -> dict[str, Any]:
    generation = GENERATIONS[spec.qk_norm]
    kinds = [
        "full_attention" if n in spec.full_attention_layers else "sliding_attention"
        for n in range(spec.num_hidden_layers)
    ]
    return {
        "architectures": [generation.architecture],
        "model_type": generation.kinds[0],
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
        **_written_rope(spec, generation),
        **({"attn_logit_softcapping": spec.attn_softcap or None} if generation.capped else {}),
        "rms_norm_eps": spec.rms_norm_eps,
        "hidden_activation": "gelu_pytorch_tanh",
        "pad_token_id": spec.pad_token_id,
        "bos_token_id": spec.bos_token_id,
        "eos_token_id": spec.eos_token_id,
        OURS: {"trained_tokens": spec.trained_tokens},
    }


def _written_rope(spec: GemmaSpec, generation: Generation) -> dict[str, Any]:
    """Rotary parameters in the form of transformers 5, for each kind of layer if they differ."""
    linear = {"rope_type": "linear", "factor": spec.rope_linear_factor}
    plain = {"rope_type": "default"}
    if len(generation.rotary) == 1:
        return {"rope_parameters": {**plain, "rope_theta": spec.rope_theta}}
    scaling = linear if spec.rope_linear_factor != 1 else plain
    return {
        "rope_parameters": {
            "full_attention": {**scaling, "rope_theta": spec.rope_theta},
            "sliding_attention": {**plain, "rope_theta": spec.rope_local_theta},
        }
    }


GEMMA = Family(GemmaSpec, _stated, _measured, _assumed, _rules, _config)
