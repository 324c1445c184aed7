"""The autoencoder, both ways."""

from __future__ import annotations

import torch

from replay.case import Case, CaseError, Sheet, bind_layout, pick
from sakuga.checkpoint.families.vae import VAE_BFL
from sakuga.model.spec import VAESpec
from sakuga.model.vae import VAE

FIELDS = (
    "block_out_channels", "layers_per_block", "norm_num_groups", "latent_channels",
    "in_channels", "scaling_factor", "shift_factor",
)  # fmt: skip


ORIGINAL = (
    "ch", "ch_mult", "num_res_blocks", "z_channels", "in_channels", "scale_factor", "shift_factor",
)  # fmt: skip
GROUPS = 32  # what the original's norms have, whatever their width


def original(case: Case, sheet: Sheet) -> None:
    """Replay decoding and encoding of a file under the original names."""
    config = case.about["config"]
    fixed = {"out_ch": config["in_channels"], "resolution": ...}
    fields = pick(config, ORIGINAL, fixed, "config")
    spec = VAESpec(
        block_out_channels=tuple(fields["ch"] * times for times in fields["ch_mult"]),
        layers_per_block=fields["num_res_blocks"],
        norm_num_groups=GROUPS,
        latent_channels=fields["z_channels"],
        in_channels=fields["in_channels"],
        scaling_factor=fields["scale_factor"],
        shift_factor=fields["shift_factor"],
    )
    with torch.device("meta"):
        vae = VAE(spec)
    if (name := bind_layout(vae, case.named("weights/"))) != VAE_BFL.name:
        raise CaseError(f"the weights are in the layout {name!r}")
    compare(vae, case, sheet)


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
    compare(vae, case, sheet)


def compare(vae: VAE, case: Case, sheet: Sheet) -> None:
    """Hold both ways against what was recorded."""
    mean, logvar = vae.moments(case.input("image"))
    sheet.compare("image", vae.decode(case.input("latents")))
    sheet.compare("latent_mean", mean)
    sheet.compare("latent_logvar", logvar)
    sheet.compare("latents", vae.encode(case.input("image")))
