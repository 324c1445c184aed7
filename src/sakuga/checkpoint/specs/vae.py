"""What a FLUX autoencoder is: the config of diffusers' AutoencoderKL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sakuga.checkpoint.specs.family import Family
from sakuga.checkpoint.specs.values import (
    Config,
    Facts,
    Shapes,
    floats,
    int_lists,
    ints,
    members,
    refuse,
    size,
    texts,
    without_gaps,
)
from sakuga.model.spec import VAESpec


def _stated(config: Config, source: str) -> Facts:
    down, up = config.get("down_block_types"), config.get("up_block_types")
    kinds = {"down": set(texts(down)), "up": set(texts(up))}
    refuse(
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
    facts = ints(config, source, "layers_per_block norm_num_groups latent_channels in_channels")
    facts |= floats(config, source, "scaling_factor shift_factor")
    if "shift_factor" in config:
        facts.setdefault("shift_factor", 0.0)  # null, as diffusers writes for no shift
    return facts | int_lists(config, source, "block_out_channels")


def _measured(shapes: Shapes, stated: Facts) -> Facts:
    del stated
    widths = tuple(
        size(shapes, f"encoder.down_blocks.{n}.resnets.0.conv1.weight", 0) or 0
        for n in range(members(shapes, "encoder.down_blocks") or 0)
    )
    return without_gaps(
        {
            "block_out_channels": widths or None,
            "layers_per_block": members(shapes, "encoder.down_blocks.0.resnets"),
            "latent_channels": size(shapes, "decoder.conv_in.weight", 1),
            "in_channels": size(shapes, "encoder.conv_in.weight", 1),
        }
    )


def _assumed(known: Facts, config: bool) -> Facts:
    del known, config
    return {"norm_num_groups": 32}


def _rules(spec: VAESpec) -> Iterable[tuple[str, bool]]:
    groups = spec.norm_num_groups
    yield "there are one to eight resolutions", 1 <= len(spec.block_out_channels) <= 8
    yield (
        "norm_num_groups divides every width",
        not any(w % groups for w in spec.block_out_channels),
    )
    yield "scaling_factor is above 0", spec.scaling_factor > 0


def _config(spec: VAESpec) -> dict[str, Any]:
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


VAE = Family(VAESpec, _stated, _measured, _assumed, _rules, _config)
