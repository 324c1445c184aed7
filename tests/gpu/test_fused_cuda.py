"""Each kernel against the reference beside it, over shapes, dtypes, odd sizes, ragged segments."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sakuga.memory.attention import AttentionChoice, AttentionShape, measure
from sakuga.model.attention import BACKENDS, attention, usable
from sakuga.model.fused.kernel import references, refusal
from sakuga.model.fused.norms import gate_add, norm_scale
from sakuga.model.fused.rotary import norm_rotate
from sakuga.model.fused.swiglu import gated
from sakuga.model.layers import Lookup, Positions, Segments
from sakuga.model.nextdit import Group
from sakuga.model.packing import packing_of
from sakuga.model.spec import NEWBIE_3_5B
from small_transformer import CARD, SPEC, random_transformer

SHAPES = [
    ((1280, 1064), 2304, 96, (24, 8, 8)),
    ((1024, 1024), 2304, 96, (24, 8, 8)),
    ((7, 3, 130), 36, 12, (3, 1, 1)),
    ((5, 5), 60, 20, (3, 3, 3)),
    ((1,), 384, 64, (6, 2, 2)),
]
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 6e-3, torch.float16: 8e-4}

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available() and bool(refusal(0)), reason="this card computes the references"
)


def standing(lengths: tuple[int, ...], size: int) -> Positions:
    segments = Segments(lengths)
    owner, rows = None, segments.uniform
    if rows is None:
        owner = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).to(CARD)
        rows = segments.total
    shape = (rows, 1, size // 2) if owner is not None else (1, rows, 1, size // 2)
    angle = torch.rand(shape, device=CARD) * 6
    starts = torch.tensor(segments.offsets, dtype=torch.int32, device=CARD)
    return Positions(segments, angle.cos(), angle.sin(), owner, starts)


def norm_of(width: int, dtype: torch.dtype) -> nn.RMSNorm:
    made = nn.RMSNorm(width, eps=1e-5, device=CARD, dtype=dtype).requires_grad_(False)
    made.weight.normal_(1.0, 0.1)
    return made


def apart(found: Tensor, expected: Tensor) -> float:
    return float((found.float() - expected.float()).norm() / expected.float().norm())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("lengths", "width", "size", "heads"), SHAPES)
@torch.inference_mode()
def test_a_kernel_computes_its_reference(lengths, width, size, heads, dtype) -> None:
    torch.manual_seed(0)
    positions, norm = standing(lengths, size), norm_of(width, dtype)
    both = norm_of(size, dtype), norm_of(size, dtype)
    segments = positions.segments

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, device=CARD, dtype=dtype)

    rows = torch.randint(0, 9, (len(lengths),), device=CARD)
    scale, gate = Lookup(random(9, 2 * width), rows).chunk(2)
    x, branch = (segments.pack(random(segments.total, width)) for _ in range(2))
    qkv = segments.pack(random(segments.total, sum(heads) * size))
    w1, w3 = (nn.Linear(width, 3 * size, False, CARD, dtype) for _ in range(2))
    works = {
        "norm_scale": lambda: norm_scale(x, norm, scale, positions),
        "gate_add": lambda: gate_add(x, branch.clone(), norm, gate, positions),
        "norm_rotate": lambda: torch.cat(norm_rotate(qkv.clone(), heads, both, positions), -2),
        "gated": lambda: gated(x, w1, w3),
    }
    for name, work in works.items():
        with references():
            expected = work()
        assert apart(work(), expected) <= TOLERANCE[dtype], name


@pytest.mark.parametrize("lengths", [(5, 9), (6, 6)])
@torch.inference_mode()
def test_a_velocity_by_kernels_is_that_of_the_references(lengths) -> None:
    model = random_transformer().to(CARD, torch.bfloat16)
    count = len(lengths)
    latents = torch.randn(count, 4, 16, 16, device=CARD, dtype=torch.bfloat16)
    captions = torch.randn(sum(lengths), SPEC.dim, device=CARD, dtype=torch.bfloat16)
    pooled = torch.randn(count, 12, device=CARD, dtype=torch.bfloat16)
    table = model.modulations(torch.rand(count, device=CARD), pooled)
    packing = packing_of(SPEC, lengths, [(16, 16)] * count, CARD)
    groups = [Group(latents, captions, packing, table.rows(torch.tensor([1, 0], device=CARD)))]
    [by_kernels] = model.denoise(groups)
    with references():
        [by_torch] = model.denoise(groups)
        exact = model.float().denoise([_in_float32(groups[0])])[0]
    assert apart(by_kernels, exact) <= 1.1 * apart(by_torch, exact)


def _in_float32(group: Group) -> Group:
    table = group.modulations
    made = type(table)(tuple(one.float() for one in table.blocks), table.final.float(), table.index)
    return Group(group.latents.float(), group.caption.float(), group.packing, made)


@pytest.mark.parametrize("lengths", [(1280, 1064), (500, 500), (77,)])
@torch.inference_mode()
def test_every_back_end_computes_the_same(lengths) -> None:
    positions = standing(lengths, 96)
    qkv = torch.randn(sum(lengths), 40, 96, device=CARD, dtype=torch.bfloat16)
    q, k, v = positions.segments.pack(qkv).split((24, 8, 8), dim=-2)
    expected = BACKENDS["torch"].attend(q.float(), k.float(), v.float(), positions)
    for backend in usable(CARD, torch.bfloat16):
        assert apart(backend.attend(q, k, v, positions), expected) <= 6e-3, backend.name
    assert apart(attention(q, k, v, positions), expected) <= 6e-3


def test_the_choice_is_the_fastest_of_those_measured(tmp_path) -> None:
    shape = AttentionShape.of(NEWBIE_3_5B.transformer, (1280, 1064), torch.bfloat16)
    found = measure(CARD, shape)
    assert found.keys() == {one.name for one in usable(CARD, torch.bfloat16)}
    choice = AttentionChoice(cache=tmp_path)
    assert (
        choice.choose(CARD, shape) == min(choice.times(CARD, shape).items(), key=lambda x: x[1])[0]
    )
    assert AttentionChoice(cache=tmp_path).times(CARD, shape) == choice.times(CARD, shape)
