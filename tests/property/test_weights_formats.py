"""Quantised rows stay within half a step, and cost what the format says."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sakuga.weights.formats import FORMATS, INT8_ROW
from sakuga.weights.int8 import dequantise, quantise


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    shape = draw(st.lists(st.integers(0, 5), min_size=2, max_size=4))
    seed, size = draw(st.integers(0, 2**31)), draw(st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e30]))
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * size


@settings(deadline=None)
@given(tensors())
def test_values_come_back_within_half_a_step(values: Tensor) -> None:
    stored, scale = quantise(values)
    assert stored.dtype == torch.int8
    assert stored.shape == values.shape
    assert scale.shape == values.shape[:1]
    assert scale.dtype == torch.float32
    back = dequantise(stored, scale, torch.float32)
    limit = scale.view(-1, *(1,) * (values.dim() - 1)) * 0.5001
    assert ((back - values).abs() <= limit).all()


@settings(deadline=None)
@given(tensors())
def test_bytes_are_those_of_the_tensors(values: Tensor) -> None:
    stored, scale = quantise(values)
    assert INT8_ROW.bytes(tuple(values.shape)) == stored.nbytes + scale.nbytes


@given(st.lists(st.integers(1, 50), max_size=4), st.sampled_from(sorted(FORMATS)))
def test_no_format_is_smaller_than_its_bits(shape: list[int], name: str) -> None:
    form = FORMATS[name]
    values = 1
    for size in shape:
        values *= size
    assert form.bytes(tuple(shape)) * 8 >= values * form.bits
