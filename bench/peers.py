"""The other side of the memory bench: diffusers and transformers at the shapes of the real model.

diffusers has no transformer of exactly this kind. Its Lumina 2 has the same blocks, without the
pooled text; it is run as its pipeline runs it, one pass for each side of the guidance.
"""

from __future__ import annotations

import torch
from measured import Scale, Sheet, Values, clean, measured, randomise
from torch import Tensor, nn

from sakuga.checkpoint.families.tables import config_of


def measure_peers(sheet: Sheet, scale: Scale) -> None:
    """Transformer resident and offloaded, autoencoder whole and tiled, Gemma resident."""
    for side in scale.sides:
        sheet.row(f"diffusers denoise {side}", lambda s=side: denoise(scale, s, offload=False))
        if scale.on_card:
            name = f"diffusers denoise {side} group offload, leaf, stream"
            sheet.row(name, lambda s=side: denoise(scale, s, offload=True))
    for side in scale.sides:
        sheet.row(f"diffusers decode {side} whole", lambda s=side: decode(scale, s, None))
        for tile in (*scale.sides[:1], scale.sides[0] // 2):
            name = f"diffusers decode {side} in tiles of {tile}"
            sheet.row(name, lambda s=side, t=tile: decode(scale, s, t))
    sheet.row("transformers gemma resident", lambda: encode(scale))


@torch.inference_mode()
def denoise(scale: Scale, side: int, offload: bool) -> Values:
    """One evaluation of both sides of the guidance."""
    model = lumina(scale)
    if offload:
        model.to("cpu")
        clean()
        model.enable_group_offload(
            onload_device=scale.device, offload_type="leaf_level", use_stream=True
        )
    edge = side // scale.spec.vae.downscale
    latents = torch.randn(1, 16, edge, edge, device=scale.device, dtype=scale.dtype)
    sides = [caption(scale, length) for length in scale.texts]
    times = torch.full((1,), 0.5, device=scale.device)

    def pair() -> list[Tensor]:
        return [model(latents, times, text, mask, return_dict=False)[0] for text, mask in sides]

    values = measured(pair, scale)
    values["finite"] = all(bool(v.isfinite().all()) for v in pair())
    return values


def lumina(scale: Scale) -> nn.Module:
    """Lumina 2 in the shape of our transformer."""
    from diffusers import Lumina2Transformer2DModel  # noqa: PLC0415  # a peer need not be there

    spec = scale.spec.transformer
    torch.set_default_dtype(scale.dtype)
    try:
        with scale.device:
            model = Lumina2Transformer2DModel(
                patch_size=spec.patch_size, in_channels=spec.in_channels, hidden_size=spec.dim,
                num_layers=spec.n_layers, num_refiner_layers=spec.n_refiner_layers,
                num_attention_heads=spec.n_heads, num_kv_heads=spec.n_kv_heads,
                multiple_of=spec.multiple_of, axes_dim_rope=spec.axes_dims,
                axes_lens=(1024, 512, 512), cap_feat_dim=spec.cap_feat_dim,
            )  # fmt: skip
    finally:
        torch.set_default_dtype(torch.float32)
    return randomise(model)


def caption(scale: Scale, length: int) -> tuple[Tensor, Tensor]:
    """Features of one text, and the mask over them."""
    width = scale.spec.transformer.cap_feat_dim
    features = torch.randn(1, length, width, device=scale.device, dtype=scale.dtype)
    return features, torch.ones(1, length, dtype=torch.bool, device=scale.device)


@torch.inference_mode()
def decode(scale: Scale, side: int, tile: int | None) -> Values:
    """One picture from its latents, whole or in blended tiles of `tile` pixels."""
    from diffusers import AutoencoderKL  # noqa: PLC0415

    spec = scale.spec.vae
    count = len(spec.block_out_channels)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * count,
        up_block_types=("UpDecoderBlock2D",) * count,
        block_out_channels=spec.block_out_channels, layers_per_block=spec.layers_per_block,
        latent_channels=spec.latent_channels, norm_num_groups=spec.norm_num_groups,
        sample_size=tile or side, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    # Only the decoder, as on our side: an encoder of half its size would count for nothing.
    vae.encoder = nn.Identity()
    randomise(vae.to(scale.device, scale.dtype))
    if tile:
        vae.enable_tiling()
    edge = side // spec.downscale
    shape = (1, spec.latent_channels, edge, edge)
    latents = torch.randn(shape, device=scale.device, dtype=scale.dtype)
    return measured(lambda: vae.decode(latents, return_dict=False)[0], scale)


@torch.inference_mode()
def encode(scale: Scale) -> Values:
    """Two texts, one after the other, through Gemma with its table of words on the card."""
    from transformers import Gemma3TextConfig, Gemma3TextModel  # noqa: PLC0415

    config = Gemma3TextConfig(**config_of(scale.spec.gemma))
    torch.set_default_dtype(scale.dtype)
    try:
        with scale.device:
            model = randomise(Gemma3TextModel(config))
    finally:
        torch.set_default_dtype(torch.float32)
    ids = [
        torch.randint(3, config.vocab_size, (1, length), device=scale.device)
        for length in scale.texts
    ]
    return measured(lambda: [model(input_ids=one, use_cache=False) for one in ids], scale)
