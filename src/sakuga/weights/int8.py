"""The int8-row storage format, to and from: one float32 scale per row, zero at zero.

value = int8 * scale, with scale = max|row| / 127, so no value of a row is off by more
than half its scale. Rows are the first dimension: output features of a Linear, output
channels of a convolution, words of an embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor


def quantise(values: Tensor) -> tuple[Tensor, Tensor]:
    """Store (R, ...) values as int8 of the same shape and scales (R,) in float32."""
    rows = values.float().flatten(1)
    scale = rows.abs().amax(dim=1) / 127 if rows.shape[1] else rows.new_zeros(len(rows))
    divisor = torch.where(scale > 0, scale, torch.ones_like(scale))
    quantised = (rows / divisor.unsqueeze(1)).round().clamp(-127, 127).to(torch.int8)
    return quantised.view(values.shape), scale


def dequantise(quantised: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Give back (R, ...) values in `dtype` from int8 and their scales (R,); rounded once."""
    rows = scale.view(-1, *(1,) * (quantised.dim() - 1))
    return (quantised.float() * rows).to(dtype)
