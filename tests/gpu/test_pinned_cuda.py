"""Pinned memory: as long as what it is a copy of, and no longer."""

from __future__ import annotations

import gc

import torch
from torch import nn

from sakuga.memory.flat import FlatLayout
from sakuga.memory.pinned import PinnedBuffer, register
from sakuga.memory.residency import PinnedPool, streamed

CARD = torch.device("cuda:0")


def test_a_copy_lives_as_long_as_its_block() -> None:
    pool = PinnedPool(CARD)
    block = nn.Linear(64, 64).requires_grad_(False)
    first = pool.copy_of(block, FlatLayout.of(block))
    assert pool.copy_of(block, FlatLayout.of(block)) is first
    assert pool.held == first.bytes.nbytes > 0
    del block, first
    gc.collect()
    assert pool.held == 0


def test_other_tensors_of_a_block_are_copied_anew() -> None:
    pool = PinnedPool(CARD)
    block = nn.Linear(64, 64).requires_grad_(False)
    for value in (1.0, 2.0):
        block.weight = nn.Parameter(torch.full((64, 64), value), requires_grad=False)
        with torch.inference_mode(), streamed([block], CARD, 0, pool=pool) as blocks:
            (only,) = blocks
            assert only.weight.eq(value).all()
        # No staging buffer beside it: all that streams is pinned.
        assert pool.held == FlatLayout.of(block).size


def test_a_refusal_is_blamed_on_no_kernel() -> None:
    memory = PinnedBuffer(2**20, CARD, torch.Tensor.zero_)
    assert not register(memory.bytes, CARD)  # it is pinned already
    assert torch.ones(8, device=CARD).sum().item() == 8
