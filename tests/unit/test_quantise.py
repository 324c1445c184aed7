"""Files hold these bytes: a format that changes them is another format."""

from __future__ import annotations

import torch

from sakuga.weights.formats import BFLOAT16, FLOAT8_E4M3, INT4, INT8
from sakuga.weights.quantise import dequantise, quantise

ROW = torch.tensor([[0.5, -1.0, 0.0], [0.0, 0.0, 0.0]])


def test_int8_divides_a_row_by_its_largest() -> None:
    stored, scale = quantise(ROW, INT8)
    assert stored.tolist() == [[64, -127, 0], [0, 0, 0]]  # 63.5 goes to the even neighbour
    assert scale is not None
    assert torch.equal(scale, torch.tensor([1 / 127, 0.0]))


def test_float8_fills_its_range() -> None:
    stored, scale = quantise(ROW, FLOAT8_E4M3)
    assert stored.view(torch.uint8).tolist() == [[0x76, 0xFE, 0x00], [0x00, 0x00, 0x00]]
    assert scale is not None
    assert torch.equal(scale, torch.tensor([1 / 448, 0.0]))


def test_int4_packs_two_steps_a_byte_the_first_one_low() -> None:
    stored, scale = quantise(ROW, INT4)
    # -1 is the largest and goes to -8, stored as 0; 0.5 is step 4, stored as 12; 0 is 8.
    assert stored.tolist() == [[0x0C, 0x88], [0x88, 0x88]]
    assert scale is not None
    assert scale.dtype == torch.bfloat16
    assert scale.tolist() == [[0.125], [0.0]]


def test_int4_scales_each_group_by_its_own_largest() -> None:
    row = torch.cat((torch.full((32,), 0.25), torch.full((3,), -8.0)))[None]
    stored, scale = quantise(row, INT4)
    assert scale is not None
    assert scale.tolist() == [[-0.03125, 1.0]]
    assert stored.tolist() == [[0x00] * 17 + [0x80]]
    assert torch.equal(dequantise(stored, scale, INT4, (1, 35), torch.float32), row)


def test_a_float_format_casts() -> None:
    stored, scale = quantise(ROW, BFLOAT16)
    assert scale is None
    assert torch.equal(stored, ROW.bfloat16())
    assert dequantise(stored, scale, BFLOAT16, (2, 3), torch.bfloat16) is stored


def test_a_convolution_keeps_its_shape() -> None:
    kernel = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    for form in (INT8, FLOAT8_E4M3, INT4):
        back = dequantise(*quantise(kernel, form), form, (4, 3, 3, 3), torch.float32)
        assert back.shape == kernel.shape
        assert (back - kernel).norm() < 0.12 * kernel.norm()
