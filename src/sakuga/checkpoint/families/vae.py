"""The FLUX autoencoder in files: the config of diffusers, its names and the original's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sakuga.checkpoint.families.family import (
    Config,
    Facts,
    Family,
    floats,
    int_lists,
    ints,
    members,
    refuse_values,
    size_of,
    texts,
    without_gaps,
)
from sakuga.checkpoint.families.layout import ALL_IN_ONE, KeyLayout, renamed, same, wrapped
from sakuga.model.inventory import Shapes
from sakuga.model.spec import VAESpec

VAE_DIFFUSERS = KeyLayout(
    name="FLUX autoencoder, diffusers names",
    component="vae",
    marks=(
        "encoder.conv_in.weight",
        "decoder.conv_in.weight",
        "decoder.mid_block.attentions.0.to_q.weight",
        "decoder.up_blocks.0.resnets.0.conv1.weight",
    ),
    prefixes=wrapped("", *ALL_IN_ONE["vae"]),
    rules=same(
        "{side}.{end}.{p}",
        "{side}.{blocks}.{n}.resnets.{m}.{resnet}.{p}",
        "{side}.{blocks}.{n}.{scale}.0.conv.{p}",
        "{side}.mid_block.resnets.{n}.{resnet}.{p}",
        "{side}.mid_block.attentions.0.{attn}.{p}",
    ),
)

VAE_BFL = KeyLayout(
    name="FLUX autoencoder, original names",
    component="vae",
    marks=(
        "encoder.conv_in.weight",
        "decoder.conv_in.weight",
        "decoder.mid.attn_1.q.weight",
        "decoder.up.0.block.0.conv1.weight",
    ),
    prefixes=wrapped("", *ALL_IN_ONE["vae"]),
    rules=(
        *same("{side}.conv_in.{p}", "{side}.conv_out.{p}"),
        *renamed(
            {
                "{side}.norm_out.{p}": "{side}.conv_norm_out.{p}",
                "encoder.down.{n}.block.{m}.{inner}.{p}": (
                    "encoder.down_blocks.{n}.resnets.{m}.{inner}.{p}"
                ),
                "encoder.down.{n}.block.{m}.nin_shortcut.{p}": (
                    "encoder.down_blocks.{n}.resnets.{m}.conv_shortcut.{p}"
                ),
                "encoder.down.{n}.downsample.conv.{p}": (
                    "encoder.down_blocks.{n}.downsamplers.0.conv.{p}"
                ),
                "decoder.up.{up}.block.{m}.{inner}.{p}": (
                    "decoder.up_blocks.{up}.resnets.{m}.{inner}.{p}"
                ),
                "decoder.up.{up}.block.{m}.nin_shortcut.{p}": (
                    "decoder.up_blocks.{up}.resnets.{m}.conv_shortcut.{p}"
                ),
                "decoder.up.{up}.upsample.conv.{p}": (
                    "decoder.up_blocks.{up}.upsamplers.0.conv.{p}"
                ),
                "{side}.mid.block_1.{inner}.{p}": "{side}.mid_block.resnets.0.{inner}.{p}",
                "{side}.mid.block_2.{inner}.{p}": "{side}.mid_block.resnets.1.{inner}.{p}",
                "{side}.mid.attn_1.norm.{p}": "{side}.mid_block.attentions.0.group_norm.{p}",
                "{side}.mid.attn_1.{qkv}.bias": "{side}.mid_block.attentions.0.to_{qkv}.bias",
                "{side}.mid.attn_1.proj_out.bias": "{side}.mid_block.attentions.0.to_out.0.bias",
            }
        ),
        *renamed(
            {
                "{side}.mid.attn_1.{qkv}.weight": "{side}.mid_block.attentions.0.to_{qkv}.weight",
                "{side}.mid.attn_1.proj_out.weight": (
                    "{side}.mid_block.attentions.0.to_out.0.weight"
                ),
            },
            ones=2,
        ),
    ),
)


def _stated(config: Config, source: str) -> Facts:
    down, up = config.get("down_block_types"), config.get("up_block_types")
    kinds = {"down": set(texts(down)), "up": set(texts(up))}
    refuse_values(
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
        size_of(shapes, f"encoder.down_blocks.{n}.resnets.0.conv1.weight", 0) or 0
        for n in range(members(shapes, "encoder.down_blocks") or 0)
    )
    return without_gaps(
        {
            "block_out_channels": widths or None,
            "layers_per_block": members(shapes, "encoder.down_blocks.0.resnets"),
            "latent_channels": size_of(shapes, "decoder.conv_in.weight", 1),
            "in_channels": size_of(shapes, "encoder.conv_in.weight", 1),
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
