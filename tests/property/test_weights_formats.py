"""Quantised values stay within the error their format states, and cost what it says."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sakuga.weights.formats import FLOAT8_E4M3, FORMATS, INT4, INT8, StorageFormat, rows_and_width
from sakuga.weights.quantise import TORCH_DTYPES, dequantise, quantise

QUANTISED = [form for form in FORMATS.values() if form.quantised]


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Rows of one size, a few of them zero, of every width around a group's."""
    tail = draw(st.one_of(st.integers(0, 70).map(lambda n: (n,)), st.just((3, 3, 5))))
    shape = (draw(st.integers(0, 4)), *tail)
    seed, size = draw(st.integers(0, 2**31)), draw(st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e30]))
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator) * size
    return values * torch.rand(shape[0], generator=generator).gt(0.3).view(-1, *(1,) * len(tail))


def limit(values: Tensor, scale: Tensor, form: StorageFormat) -> Tensor:
    """The largest error of each value (R, W), as `weights.quantise` states it."""
    if form is INT8:
        return scale[:, None] * 0.5001
    if form is FLOAT8_E4M3:
        return torch.maximum(values.abs() / 15.99, scale[:, None] / 1023)
    steps = scale.float().repeat_interleave(32, dim=1)[:, : values.shape[1]]
    # The last of 16 steps is missing on the side that opposes a group's largest value; that
    # one itself may be beyond the end by what bfloat16 rounds off the scale.
    opposed = (values / torch.where(steps != 0, steps, 1)) > 7.5
    return steps.abs() * torch.where(opposed, 1.04, 0.5001)


@settings(deadline=None)
@given(tensors(), st.sampled_from(QUANTISED))
def test_values_come_back_within_the_stated_error(values: Tensor, form: StorageFormat) -> None:
    stored, scale = quantise(values, form)
    assert scale is not None
    shape = tuple(values.shape)
    assert (stored.dtype, stored.shape) == (TORCH_DTYPES[form.dtype], form.stored_shape(shape))
    assert (scale.dtype, scale.shape) == (TORCH_DTYPES[form.scale], form.scale_shape(shape))
    back = dequantise(stored, scale, form, shape, torch.float32)
    assert back.shape == shape
    assert torch.isfinite(back).all()
    assert (back[values == 0] == 0).all()
    rows = values.reshape(rows_and_width(shape))
    assert ((back.reshape(rows.shape) - rows).abs() <= limit(rows, scale, form)).all()


@settings(deadline=None)
@given(tensors(), st.sampled_from(QUANTISED))
def test_bytes_are_those_of_the_tensors(values: Tensor, form: StorageFormat) -> None:
    stored, scale = quantise(values, form)
    assert scale is not None
    assert form.bytes(tuple(values.shape)) == stored.nbytes + scale.nbytes


@settings(deadline=None)
@given(tensors(), st.sampled_from(QUANTISED), st.sampled_from([torch.bfloat16, torch.float16]))
def test_values_in_half_precision_are_rounded_once(
    values: Tensor, form: StorageFormat, dtype: torch.dtype
) -> None:
    stored, scale = quantise(values, form)
    shape = tuple(values.shape)
    exact = dequantise(stored, scale, form, shape, torch.float32)
    assert torch.equal(dequantise(stored, scale, form, shape, dtype), exact.to(dtype))


@settings(deadline=None)
@given(tensors(), st.sampled_from(QUANTISED), st.integers(0, 4), st.integers(0, 4))
def test_rows_are_stored_each_by_itself(
    values: Tensor, form: StorageFormat, start: int, stop: int
) -> None:
    """What lets a file's rows be joined and cut without quantising them again."""
    stored, scale = quantise(values, form)
    some, its_scale = quantise(values[start:stop], form)
    assert scale is not None
    assert its_scale is not None
    assert torch.equal(some.view(torch.uint8), stored[start:stop].view(torch.uint8))
    assert torch.equal(its_scale, scale[start:stop])


@given(st.lists(st.integers(1, 50), max_size=4), st.sampled_from(sorted(FORMATS)))
def test_no_format_is_smaller_than_its_bits(shape: list[int], name: str) -> None:
    form = FORMATS[name]
    values = 1
    for size in shape:
        values *= size
    assert form.bytes(tuple(shape)) * 8 >= values * form.bits


def test_four_bits_use_all_sixteen_steps() -> None:
    row = torch.arange(-8, 8).float()
    for values in (row, -row):
        stored, scale = quantise(values.repeat(2, 2), INT4)
        assert torch.equal(
            dequantise(stored, scale, INT4, (2, 32), torch.float32), values.repeat(2, 2)
        )
        assert stored.unique().numel() == 8  # bytes hold two neighbouring steps
