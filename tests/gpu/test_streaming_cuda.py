"""Blocks that stream through two slots of a card, against the same blocks lying there."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from sakuga.memory.flat import FlatLayout
from sakuga.memory.residency import BlockStream, PinnedPool, on_device, streamed
from sakuga.model.nextdit import Group, NextDiT
from sakuga.model.packing import packing_of
from small_transformer import CARD, SPEC, random_transformer

WITHOUT = frozenset({"adaLN_modulation"})
REST = WITHOUT | {"noise_refiner", "layers", "context_refiner"}


@pytest.fixture
def model() -> NextDiT:
    return random_transformer().to(torch.bfloat16)


def groups(model: NextDiT, count: int) -> list[Group]:
    """Segments of 5 caption tokens and 16 x 16 latents, made where the weights are and moved."""
    draw = torch.Generator().manual_seed(1)
    made = []
    for _ in range(count):
        latents = torch.randn(1, 4, 16, 16, generator=draw).to(CARD, torch.bfloat16)
        caption = torch.randn(5, SPEC.dim, generator=draw).to(CARD, torch.bfloat16)
        modulations = model.modulations(
            torch.rand(1, generator=draw), torch.randn(1, 12, generator=draw).to(torch.bfloat16)
        )
        modulations = type(modulations)(
            tuple(one.to(CARD) for one in modulations.blocks), modulations.final.to(CARD)
        )
        packing = packing_of(model.spec, [5], [(16, 16)], CARD)
        made.append(Group(latents, caption, packing, modulations))
    return made


@contextmanager
def on_card(model: NextDiT, resident: int, pool: PinnedPool | None = None) -> Iterator[BlockStream]:
    with (
        on_device(model, CARD, REST),
        streamed(model.blocks, CARD, resident, WITHOUT, pool) as blocks,
    ):
        yield blocks


@torch.inference_mode()
def run(
    model: NextDiT, resident: int, rounds: int = 3, pool: PinnedPool | None = None
) -> list[Tensor]:
    made = groups(model, 2)
    with on_card(model, resident, pool) as blocks:
        return [one.cpu() for _ in range(rounds) for one in model.denoise(made, blocks)]


@pytest.mark.parametrize("share", [None, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("resident", [0, 1, 4, 7])
def test_streaming_changes_no_bit(model, resident, share):
    whole = run(model, len(model.blocks))
    size = sum(FlatLayout.of(block, WITHOUT).size for block in model.blocks)
    pool = None if share is None else PinnedPool(CARD, int(share * size))
    assert all(map(torch.equal, run(model, resident, pool=pool), whole))
    if pool is not None:
        assert pool.held <= share * size
        assert (pool.held > 0) == (share > 0)


def test_a_block_is_pinned_once_and_to_the_byte(model):
    pool = PinnedPool(CARD)
    first = run(model, 0, pool=pool)
    held = pool.held
    assert held == sum(FlatLayout.of(block, WITHOUT).size for block in model.blocks)
    assert all(map(torch.equal, run(model, 0, pool=pool), first))
    assert pool.held == held


class Slow(nn.Module):
    """A block whose compute lasts far longer than its copy, so that a slot filled early shows."""

    def __init__(self, value: float, cycles: int) -> None:
        super().__init__()
        self.cycles = cycles
        self.weight = nn.Parameter(torch.full((1 << 20,), value), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        torch.cuda._sleep(self.cycles)
        return x + self.weight


@pytest.mark.parametrize("cycles", [0, 5_000_000])
def test_no_slot_is_filled_before_its_block_has_run(cycles):
    blocks = nn.ModuleList(Slow(float(2**i), cycles) for i in range(6))
    with torch.inference_mode(), streamed(list(blocks), CARD, 0, pool=PinnedPool(CARD)) as stream:
        for _ in range(5):
            x = torch.zeros(1 << 20, device=CARD)
            for block in stream:
                x = block(x)
            assert x.eq(63.0).all()


@contextmanager
def forbidden_to_wait() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that this mode is a prototype
        try:
            torch.cuda.set_sync_debug_mode("error")
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_the_host_never_waits_for_the_card(model):
    # Asserted by absence: torch raises where the host would wait, and nothing else is looked at.
    made = groups(model, 1)
    with torch.inference_mode(), on_card(model, 2, PinnedPool(CARD)) as blocks:
        model.denoise(made, blocks)  # libraries may wait while they are set up
        torch.cuda.synchronize()
        with forbidden_to_wait():
            for _ in range(3):
                model.denoise(made, blocks)


def test_a_card_holds_two_slots_and_gives_all_back(model):
    run(model, 0, rounds=1)  # workspaces of libraries stay
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    host = {name: tensor.data_ptr() for name, tensor in model.named_parameters()}
    largest = max(FlatLayout.of(block, WITHOUT).size for block in model.blocks)
    held = []
    for resident in (0, 4):
        with on_card(model, resident):
            held.append(torch.cuda.memory_allocated() - before)
        assert torch.cuda.memory_allocated() == before
    # Two slots either way; beside them, four blocks more.
    assert held[1] - held[0] == pytest.approx(4 * largest, rel=0.02)
    assert {name: tensor.data_ptr() for name, tensor in model.named_parameters()} == host


def stop_halfway(model: NextDiT) -> None:
    with on_card(model, 3) as blocks:
        next(iter(blocks))
        raise RuntimeError("stop")


def test_an_error_within_gives_all_back_too(model):
    run(model, 0, rounds=1)
    before = torch.cuda.memory_allocated()
    with pytest.raises(RuntimeError, match="stop"):
        stop_halfway(model)
    assert torch.cuda.memory_allocated() == before
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())
