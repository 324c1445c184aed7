#!/bin/sh
# PEFT 0.21.2 turns the inputs of an OFT layer by R = (I + Q)(I - Q)^-1, which it computes exactly, or
# by a series where `use_cayley_neumann` is on, as it is by default. A good engineer would guess that
# the series comes ever nearer to the exact one as its terms grow, so that the flag trades accuracy
# for speed. It does not: the series approaches the transpose of what the exact way gives, the turn
# the other way round. An adapter trained with one setting and read with the other undoes itself.
#
# Seen, for one random Q: series of 9 terms against exact 0.30; against its transpose 1e-8.
#
# So sakuga reads the flag from adapter_config.json and turns as PEFT would, either way.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 \
    peft==0.21.2 transformers==5.24.0 accelerate==1.15.0
"$folder/v/bin/python" -W ignore - <<'PY'
import sys

import torch
from peft import OFTConfig, get_peft_model


def turn(**how) -> torch.Tensor:
    """What a layer of the identity becomes: the turn alone, (8, 8) in blocks of 4."""
    model = torch.nn.Sequential(torch.nn.Linear(8, 8, bias=False))
    model[0].weight.data.copy_(torch.eye(8))
    config = OFTConfig(target_modules=["0"], r=0, oft_block_size=4, **how)
    adapted = get_peft_model(model, config).double()
    triangles = adapted.base_model.model[0].oft_R["default"].weight
    torch.manual_seed(1)
    triangles.data.copy_(0.05 * torch.randn(triangles.shape, dtype=torch.float64))
    with torch.no_grad():
        return adapted(torch.eye(8, dtype=torch.float64)).T


exact = turn(use_cayley_neumann=False)
series = turn(use_cayley_neumann=True, num_cayley_neumann_terms=9)
same = (series - exact).abs().max().item()
other = (series - exact.T).abs().max().item()
print(f"series against exact {same:.2g}, against its transpose {other:.2g}")
if not (same > 0.1 and other < 1e-6):
    sys.exit("The two ways turn alike now: the finding no longer holds.")
PY
echo "As described."
