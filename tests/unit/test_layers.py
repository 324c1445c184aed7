import math

import pytest
import torch
from torch import Tensor

from sakuga.model.attention import attention
from sakuga.model.layers import Positions, Segments, rope_tables, rotate

RAGGED = Segments((3, 1, 4))
UNIFORM = Segments((4, 4))


@pytest.mark.parametrize(
    ("lengths", "uniform", "offsets"),
    [((3, 1, 4), None, (0, 3, 4, 8)), ((4, 4), 4, (0, 4, 8)), ((5,), 5, (0, 5))],
)
def test_segments_know_their_lengths(lengths, uniform, offsets):
    segments = Segments(lengths)
    assert segments.uniform == uniform
    assert segments.offsets == offsets
    assert segments.total == offsets[-1]


@pytest.mark.parametrize("segments", [RAGGED, UNIFORM])
def test_a_pack_comes_apart_and_together_unchanged(segments):
    tokens = torch.randn(segments.total, 5)
    packed = segments.pack(tokens)
    pieces = segments.split(packed)
    assert [len(piece) for piece in pieces] == list(segments.lengths)
    assert torch.equal(segments.join(pieces), packed)
    assert torch.equal(segments.unpack(packed), tokens)


def standing(segments: Segments) -> Positions:
    """Positions without rotary tables."""
    owner = torch.arange(len(segments.lengths)).repeat_interleave(torch.tensor(segments.lengths))
    starts = torch.tensor(segments.offsets, dtype=torch.int32)
    owner = owner if segments.uniform is None else None
    return Positions(segments, torch.empty(0), torch.empty(0), owner, starts)


@pytest.mark.parametrize("segments", [RAGGED, UNIFORM])
def test_a_vector_per_segment_spreads_over_its_own_tokens(segments):
    owner = torch.arange(len(segments.lengths)).repeat_interleave(torch.tensor(segments.lengths))
    positions = standing(segments)
    vectors = torch.randn(len(segments.lengths), 5)
    ones = segments.pack(torch.ones(segments.total, 5))
    assert torch.equal(segments.unpack(ones * positions.spread(vectors)), vectors[owner])


@pytest.mark.parametrize("segments", [RAGGED, UNIFORM])
@pytest.mark.parametrize("heads", [(6, 2), (4, 4), (3, 1)])
def test_attention_is_softmax_within_each_segment(segments, heads):
    many, few = heads
    q, k, v = (torch.randn(segments.total, count, 8) for count in (many, few, few))
    ours = attention(*(segments.pack(part) for part in (q, k, v)), standing(segments))
    owner = torch.arange(len(segments.lengths)).repeat_interleave(torch.tensor(segments.lengths))
    strangers = owner[:, None] != owner[None, :]
    for head in range(many):
        kv = head // (many // few)
        scores = q[:, head] @ k[:, kv].T / math.sqrt(8)
        expected = scores.masked_fill(strangers, -math.inf).softmax(-1) @ v[:, kv]
        got = segments.unpack(ours)[:, head * 8 : head * 8 + 8]
        torch.testing.assert_close(got, expected)


def as_complex(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())


def test_rotation_multiplies_neighbouring_channels_as_complex_numbers():
    x, angle = torch.randn(5, 2, 8), torch.randn(5, 1, 4)
    expected = as_complex(x) * torch.polar(torch.ones_like(angle), angle)
    torch.testing.assert_close(as_complex(rotate(x, angle.cos(), angle.sin())), expected)


def test_rotated_products_depend_on_the_distance_alone():
    q, k = torch.randn(1, 16), torch.randn(1, 16)
    products = []
    for shift in (0, 3, 500):
        cos, sin = rope_tables(torch.tensor([[7 + shift], [2 + shift]]), (16,), 10_000.0)
        products.append(rotate(q, cos[0], sin[0]) @ rotate(k, cos[1], sin[1]).T)
    torch.testing.assert_close(products[0], products[1])
    torch.testing.assert_close(products[0], products[2], atol=1e-4, rtol=1e-4)


def test_tables_hold_for_positions_that_float32_products_would_blur():
    cos, sin = rope_tables(torch.tensor([[9_999, 4_321]]), (4, 2), 10_000.0)
    angles = [9_999.0, 9_999 * 10_000**-0.5, 4_321.0]
    # Half a unit in the last place of an angle near 1e4 is 5e-4; rounding once costs no more.
    expected = torch.tensor([angles], dtype=torch.float64).float()
    assert torch.equal(cos, expected.cos())
    assert torch.equal(sin, expected.sin())


def test_half_precision_is_rotated_in_float32():
    x = torch.randn(3, 2, 8).bfloat16()
    cos, sin = rope_tables(torch.tensor([[900], [901], [902]]), (8,), 10_000.0)
    cos, sin = cos[:, None], sin[:, None]
    assert torch.equal(rotate(x, cos, sin), rotate(x.float(), cos, sin).bfloat16())
