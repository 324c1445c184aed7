"""The autoencoder, both ways."""

from __future__ import annotations

import torch

from replay.case import Case, Sheet, pick
from sakuga.model.spec import VAESpec
from sakuga.model.vae import VAE

FIELDS = (
    "block_out_channels", "layers_per_block", "norm_num_groups", "latent_channels",
    "in_channels", "scaling_factor", "shift_factor",
)  # fmt: skip


def autoencoder(case: Case, sheet: Sheet) -> None:
    """Replay decoding and encoding."""
    config = case.about["config"]
    scales = len(config["block_out_channels"])
    fixed = {
        "act_fn": "silu",
        "down_block_types": ["DownEncoderBlock2D"] * scales,
        "up_block_types": ["UpDecoderBlock2D"] * scales,
        "mid_block_add_attention": True,
        "out_channels": config["in_channels"],
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "latents_mean": None,
        "latents_std": None,
        "force_upcast": ...,
        "sample_size": ...,
    }
    fields = pick(config, FIELDS, fixed, "config")
    fields["block_out_channels"] = tuple(fields["block_out_channels"])
    with torch.device("meta"):
        vae = VAE(VAESpec(**fields))
    case.fill(vae, case.named("weights/"))
    mean, logvar = vae.moments(case.input("image"))
    sheet.compare("image", vae.decode(case.input("latents")))
    sheet.compare("latent_mean", mean)
    sheet.compare("latent_logvar", logvar)
    sheet.compare("latents", vae.encode(case.input("image")))
