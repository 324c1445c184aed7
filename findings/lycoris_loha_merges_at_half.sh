#!/bin/sh
# LyCORIS 4.1.3 scales a LoHa by alpha / rank while it is applied, as it was in training. A good
# engineer would guess that `merge_to` writes the same into the weights. It scales a second time: at
# the usual alpha of half the rank, the merged model has half of what was trained, with no error and
# no warning. A LoRA of the same network, rank and alpha is merged right.
#
# Seen: LoRA merged / applied 1.0; LoHa merged / applied 0.5 (alpha 2, rank 4).
#
# So sakuga reads LoHa itself, scaled once, and does not send anybody to that merge.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 \
    einops==0.8.2 toml==0.10.2 tqdm==4.70.1 safetensors==0.8.0
"$folder/v/bin/pip" install --quiet --disable-pip-version-check --no-deps lycoris_lora==4.1.3
"$folder/v/bin/python" -W ignore - <<'PY'
import logging
import sys

import torch

logging.disable(logging.CRITICAL)
from lycoris import LycorisNetwork, create_lycoris  # noqa: E402


def merged_over_applied(algorithm: str) -> float:
    """How much of what an applied network changes is there once it is merged."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(16, 24, bias=False))
    base = layers[0].weight.detach().clone()
    LycorisNetwork.apply_preset({"target_module": ["Linear"], "target_name": [".*"]})
    network = create_lycoris(layers, 1.0, linear_dim=4, linear_alpha=2.0, algo=algorithm)
    network.apply_to()
    with torch.no_grad():
        for factor in network.parameters():
            factor.copy_(0.3 * torch.randn_like(factor))
        applied = layers(torch.eye(16)).T - base
        network.restore()
        network.merge_to(1.0)
        merged = layers(torch.eye(16)).T - base
    return (merged.norm() / applied.norm()).item()


lora, loha = merged_over_applied("lora"), merged_over_applied("loha")
print(f"merged / applied: LoRA {lora:.3f}, LoHa {loha:.3f}")
if not (abs(lora - 1) < 1e-3 and abs(loha - 0.5) < 1e-3):
    sys.exit("A LoHa is merged otherwise now: the finding no longer holds.")
PY
echo "As described."
