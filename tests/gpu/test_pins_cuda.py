"""Pinned memory: as long as what it is a copy of, and no longer."""

from __future__ import annotations

import gc

import torch
from torch import nn

from sakuga.memory.residency import Flat, Pinned, Pins, register, streamed

CARD = torch.device("cuda:0")


def test_a_copy_lives_as_long_as_its_block() -> None:
    pins = Pins(CARD)
    block = nn.Linear(64, 64).requires_grad_(False)
    first = pins.copy(block, Flat.of(block))
    assert pins.copy(block, Flat.of(block)) is first
    assert pins.held == first.bytes.nbytes > 0
    del block, first
    gc.collect()
    assert pins.held == 0


def test_other_tensors_of_a_block_are_copied_anew() -> None:
    pins = Pins(CARD)
    block = nn.Linear(64, 64).requires_grad_(False)
    for value in (1.0, 2.0):
        block.weight = nn.Parameter(torch.full((64, 64), value), requires_grad=False)
        with torch.inference_mode(), streamed([block], CARD, 0, pins=pins) as blocks:
            (only,) = blocks
            assert only.weight.eq(value).all()
        assert pins.held == Flat.of(block).size  # and no ferry: all that streams is pinned


def test_a_refusal_is_blamed_on_no_kernel() -> None:
    memory = Pinned(2**20, CARD, torch.Tensor.zero_)
    assert not register(memory.bytes, CARD)  # it is pinned already
    assert torch.ones(8, device=CARD).sum().item() == 8
