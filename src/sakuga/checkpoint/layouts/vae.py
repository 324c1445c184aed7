"""The layouts of the FLUX autoencoder: the names of diffusers, and the original's."""

from __future__ import annotations

from sakuga.checkpoint.layouts.layout import KeyLayout, renamed, same, wrapped

VAE_DIFFUSERS = KeyLayout(
    name="FLUX autoencoder, diffusers names",
    component="vae",
    marks=(
        "encoder.conv_in.weight",
        "decoder.conv_in.weight",
        "decoder.mid_block.attentions.0.to_q.weight",
        "decoder.up_blocks.0.resnets.0.conv1.weight",
    ),
    prefixes=wrapped("", "vae."),
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
    prefixes=wrapped("", "first_stage_model.", "vae."),
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
