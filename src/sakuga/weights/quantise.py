"""Tensors to the formats of `weights.formats`, and back.

    int8         value = q * scale, q from -127 to 127, scale = max|row| / 127
    float8_e4m3  value = q * scale, q an 8-bit float of at most 448, scale = max|row| / 448
    int4         value = q * scale, q from -8 to 7, scale = the largest of a group / -8

Rows are the first dimension: output features of a Linear, output channels of a convolution,
words of an embedding. Values are divided by their scale and rounded to the nearest q, a tie
to the even one. So a value is off by at most half a scale in int8; by 1/16 of itself in
float8_e4m3, or 1/1024 of the scale near zero; by half a scale in int4, and by one where a
value opposes a group's largest. Rows of zeros have scale zero and come back as zeros.

The scale of int4 has the sign that takes the largest value of a group to -8, so that all 16
steps are used; so does llama.cpp's Q4_0 (ggml, quantize_row_q4_0).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from sakuga.weights.formats import TORCH_NAMES, StorageFormat, rows_and_width

# By the names that safetensors gives them.
TORCH_DTYPES: Mapping[str, torch.dtype] = {
    name: getattr(torch, word) for name, word in TORCH_NAMES.items()
}
LARGEST = {"I8": 127.0, "F8_E4M3": 448.0}
CHUNK = 2**19  # values at once: a few megabytes of float32 stay in a cache, which is 3-8x faster


def quantise(values: Tensor, form: StorageFormat) -> tuple[Tensor, Tensor | None]:
    """Store (R, ...) values: what `form` keeps, and its scales (None where it has none).

    Shapes and dtypes are those that the format states; a float format casts.
    """
    if not form.quantised:
        return values.to(TORCH_DTYPES[form.dtype]), None
    shape = tuple(values.shape)
    count, width = rows_and_width(shape)
    kernel = _quantise_groups if form.packed else _quantise_rows
    chunks = torch.split(values.reshape(count, width), max(1, CHUNK // max(1, width)))
    stored, scale = zip(*(kernel(chunk.float(), form) for chunk in chunks), strict=True)
    return torch.cat(stored).view(form.stored_shape(shape)), torch.cat(scale)


def dequantise(
    stored: Tensor,
    scale: Tensor | None,
    form: StorageFormat,
    shape: tuple[int, ...],
    dtype: torch.dtype,
) -> Tensor:
    """Give back values of `shape` in `dtype`, each rounded once: the products are float32.

    Nothing but the result is allocated in full width. A float format casts, and gives
    `stored` itself where there is nothing to cast.
    """
    if scale is None:
        return stored.to(dtype)
    if form.packed:
        return _dequantise_groups(stored, scale, form, rows_and_width(shape)[1], dtype).reshape(
            shape
        )
    # Every step of int8 and float8_e4m3 is exact in the dtypes we compute in.
    rows = scale.view(-1, *(1,) * (len(shape) - 1))
    return stored.to(dtype).mul_(rows)


def rows_on_host(stored: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """The same as `dequantise` gives of rows (R, W) of 8 bits, a few at a time and so faster."""
    values = torch.empty(stored.shape, dtype=dtype)
    step = max(1, CHUNK // max(1, stored.shape[1]))
    parts = (torch.split(each, step) for each in (values, stored, scale[:, None]))
    for into, some, factors in zip(*parts, strict=True):
        into.copy_(floats(some).mul_(factors))
    return values


def floats(values: Tensor) -> Tensor:
    """Values on the host as float32 of their own; those of float8_e4m3fn two at a time.

    torch casts them one by one, which takes five times as long as to look up pairs of them.
    """
    odd = values.numel() % 2 or values.data_ptr() % 2 or values.storage_offset() % 2
    if values.dtype != torch.float8_e4m3fn or odd:
        return values.to(torch.float32, copy=True)
    pairs = values.contiguous().view(-1).view(torch.uint16).to(torch.int32)
    return _float8_pairs().index_select(0, pairs).view(torch.float32).view(values.shape)


@cache
def _float8_pairs() -> Tensor:
    """What each pair of bytes is as two values of float8_e4m3fn, moved as one float64."""
    one = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    pairs = torch.cartesian_prod(one, one).flip(1)  # the first is the low byte
    return pairs.contiguous().view(torch.float64).flatten()


def all_finite(values: Tensor) -> bool:
    """Whether no float is NaN or infinity: most sums say so, and take a tenth of the time."""
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


def _quantise_rows(rows: Tensor, form: StorageFormat) -> tuple[Tensor, Tensor]:
    """(R, W) to steps of the same shape, and scales (R,)."""
    largest = LARGEST[form.dtype]
    scale = rows.abs().amax(dim=1) / largest if rows.shape[1] else rows.new_zeros(len(rows))
    steps = (rows / _divisor(scale)[:, None]).clamp_(-largest, largest)
    if form.dtype == "I8":
        steps.round_()
    return steps.to(TORCH_DTYPES[form.dtype]), scale


def _quantise_groups(rows: Tensor, form: StorageFormat) -> tuple[Tensor, Tensor]:
    """(R, W) to two steps a byte, the first in the low half, and scales (R, groups)."""
    assert form.group is not None
    width = rows.shape[1]
    padded = F.pad(rows, (0, -width % form.group))
    groups = torch.unflatten(padded, 1, (padded.shape[1] // form.group, form.group))
    low, high = groups.aminmax(dim=2)
    scale = (torch.where(high < -low, low, high) / -8).to(TORCH_DTYPES[form.scale])
    steps = (groups / _divisor(scale.float())[..., None]).round_().clamp_(-8, 7).add_(8)
    steps = steps.to(torch.uint8).flatten(1)[:, : width + width % 2]
    return steps[:, ::2] | steps[:, 1::2] << 4, scale


def _dequantise_groups(
    stored: Tensor, scale: Tensor, form: StorageFormat, width: int, dtype: torch.dtype
) -> Tensor:
    """(R, bytes) of two steps each to (R, W) values."""
    pairs = torch.empty((*stored.shape, 2), dtype=dtype, device=stored.device)
    pairs[..., 0] = stored & 15
    pairs[..., 1] = stored >> 4
    values = pairs.sub_(8).flatten(1)[:, :width]
    assert form.group is not None
    full = width // form.group
    split = full * form.group
    factors = scale.float()
    torch.unflatten(values[:, :split], 1, (full, form.group)).mul_(factors[:, :full, None])
    if split < width:
        values[:, split:].mul_(factors[:, full:])
    return values


def _divisor(scale: Tensor) -> Tensor:
    """The scale, or one where it is zero: there all values are zero, whatever divides them."""
    return torch.where(scale != 0, scale, torch.ones_like(scale))
