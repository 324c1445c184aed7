"""Storage formats on a card: the same bits as on the host, and no more room than stated."""

from __future__ import annotations

import pytest
import torch

from sakuga.weights.formats import FORMATS
from sakuga.weights.quantise import dequantise, quantise
from sakuga.weights.stored import StoredLinear

QUANTISED = [name for name, form in FORMATS.items() if form.quantised]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", QUANTISED)
def test_a_weight_unfolds_to_the_same_bits_as_on_the_host(name: str, dtype: torch.dtype) -> None:
    form, shape = FORMATS[name], (64, 321)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    stored, scale = quantise(values, form)
    assert scale is not None
    here = dequantise(stored, scale, form, shape, dtype)
    there = dequantise(stored.cuda(), scale.cuda(), form, shape, dtype)
    assert torch.equal(there.cpu(), here)


@pytest.mark.parametrize("name", QUANTISED)
def test_a_weight_quantised_on_the_card_keeps_its_error(name: str) -> None:
    form, shape = FORMATS[name], (64, 321)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values[3] = 0
    stored, scale = quantise(values.cuda(), form)
    back = dequantise(stored, scale, form, shape, torch.float32).cpu()
    here = dequantise(*quantise(values, form), form, shape, torch.float32)
    # A card divides by multiplying with the reciprocal, which may move a scale by its last bit,
    # and a tie to its other neighbour: one step of few values.
    apart = (back - here).abs() > 1e-6 * here.abs()
    assert apart.float().mean() < 1e-3
    assert (back - values).norm() <= 1.001 * (here - values).norm()
    assert (back[3] == 0).all()


@pytest.mark.parametrize("name", QUANTISED)
def test_unfolding_allocates_little_beside_the_weight(name: str) -> None:
    linear = StoredLinear(2048, 4096, FORMATS[name]).cuda()
    x = torch.randn(1, 2048, device="cuda", dtype=torch.bfloat16)
    linear(x)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with torch.inference_mode():
        linear(x)
    weight = 2048 * 4096 * 2
    # int4 holds half of its steps as bytes while it spreads them.
    limit = weight * (1.3 if name == "int4" else 1.05)
    assert torch.cuda.max_memory_allocated() - before <= limit
