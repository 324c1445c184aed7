#!/bin/sh
# diffusers 0.42.1, Lumina2Pipeline with a scheduler that says `use_dynamic_shifting`: a good engineer
# would guess that the shift of the time grid grows with the picture, as it does for Flux, whose
# formula it is. The pipeline asks for the length of `latents.shape[1]`; its latents are pictures,
# not tokens, so that is their channels, 16. Every size is drawn with one and the same shift,
# e^0.46 = 1.583, weaker than what the formula gives for the smallest picture (e^0.5 at 256 tokens).
#
# Seen: the sigmas of 128x128 and of 512x512 are equal; the second of four is 0.8261, where the
# 1,024 tokens of 512x512 ask for 0.8492.
#
# So sakuga takes such a scheduler's shift to be that one number, to draw as diffusers does.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 \
    diffusers==0.42.1 transformers==5.24.0
cat > "$folder/seen.py" <<'PY'
import math
import sys

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
)

torch.manual_seed(0)
pipe = Lumina2Pipeline(
    transformer=Lumina2Transformer2DModel(
        sample_size=16, in_channels=16, hidden_size=48, num_layers=1, num_refiner_layers=1,
        num_attention_heads=4, num_kv_heads=2, axes_dim_rope=(4, 4, 4), axes_lens=(64, 64, 64),
        cap_feat_dim=32, multiple_of=16,
    ),
    scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    vae=AutoencoderKL(
        latent_channels=16, block_out_channels=(8, 8, 8, 8), norm_num_groups=4,
        layers_per_block=1, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    ),
    text_encoder=None,
    tokenizer=None,
)
pipe.set_progress_bar_config(disable=True)


def sigmas(side: int) -> list[float]:
    """The grid with which a square picture is drawn."""
    pipe(
        prompt_embeds=torch.randn(1, 8, 32), prompt_attention_mask=torch.ones(1, 8, dtype=torch.long),
        height=side, width=side, num_inference_steps=4, guidance_scale=1.0, output_type="latent",
    )
    return [round(sigma, 4) for sigma in pipe.scheduler.sigmas.tolist()]


def shifted(length: int, sigma: float) -> float:
    """What the formula, by its own defaults, makes of a time of a picture of so many tokens."""
    mu = 0.5 + (1.15 - 0.5) * (length - 256) / (4096 - 256)
    return math.exp(mu) / (math.exp(mu) + 1 / sigma - 1)


small, large = sigmas(128), sigmas(512)
print("128x128", small)
print("512x512", large, "by its tokens", round(shifted(32 * 32, 0.75), 4))
if not (small == large and abs(large[1] - shifted(16, 0.75)) < 1e-3):
    sys.exit("The shift depends on the size now: the finding no longer holds.")
PY
"$folder/v/bin/python" -W ignore "$folder/seen.py"
echo "As described."
