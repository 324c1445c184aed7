from itertools import pairwise

import pytest
import torch
from torch import nn

from sakuga.memory.costs import ALIGNMENT, spread
from sakuga.memory.flat import FlatLayout
from sakuga.memory.ledger import Ledger
from sakuga.memory.residency import on_device, streamed
from sakuga.model.layers import Segments
from sakuga.model.nextdit import Group, NextDiT
from sakuga.model.packing import packing_of
from sakuga.model.spec import NextDiTSpec

SPEC = NextDiTSpec(
    dim=48, n_layers=5, n_refiner_layers=2, n_heads=4, n_kv_heads=2, axes_dims=(4, 4, 4),
    cap_feat_dim=20, clip_text_dim=12, multiple_of=16, in_channels=4,
)  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture
def model() -> NextDiT:
    torch.manual_seed(0)
    made = NextDiT(SPEC).eval().requires_grad_(False)
    for parameter in made.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.2)
    return made


def group(model: NextDiT, seed: int) -> Group:
    draw = torch.Generator().manual_seed(seed)
    latents = torch.randn(1, 4, 8, 8, generator=draw)
    segments = Segments((5,))
    caption = model.caption(torch.randn(5, 20, generator=draw), segments)
    layout = packing_of(model.spec, [5], [(8, 8)], "cpu")
    modulations = model.modulations(torch.tensor([0.3]), torch.randn(1, 12, generator=draw))
    return Group(latents, caption, layout, modulations)


@pytest.mark.parametrize("resident", range(8))
def test_every_number_of_resident_blocks_gives_the_same_bits(model, resident):
    groups = [group(model, seed) for seed in range(3)]
    expected = [model.denoise([one])[0] for one in groups]
    without = frozenset({"adaLN_modulation"})
    with streamed(model.blocks, CPU, resident, without) as blocks:
        found = [model.denoise([one], blocks)[0] for one in groups]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_round_that_is_left_halfway_does_not_spoil_the_next(model):
    one = group(model, 0)
    [expected] = model.denoise([one])
    with streamed(model.blocks, CPU, 2) as blocks:
        for stop in (1, 3, 6):
            for _, _ in zip(range(stop), blocks, strict=False):
                pass
            [found] = model.denoise([one], blocks)
            assert torch.equal(found, expected)


def stop_while_on_the_device(model: NextDiT) -> None:
    outside = frozenset({"layers", "noise_refiner"})
    with on_device(model, CPU, outside), streamed(model.blocks, CPU, 1):
        raise RuntimeError("stop")


def test_the_host_gets_its_own_tensors_back_even_after_an_error(model):
    before = {name: id(tensor) for name, tensor in model.named_parameters()}
    with pytest.raises(RuntimeError, match="stop"):
        stop_while_on_the_device(model)
    assert {name: id(tensor) for name, tensor in model.named_parameters()} == before


def test_what_is_on_the_device_computes_with_copies(model):
    linear = model.x_embedder
    expected, home = linear(torch.ones(16)), linear.weight
    with on_device(model, CPU, frozenset({"layers"})):
        assert linear.weight.data_ptr() != home.data_ptr()
        assert torch.equal(linear(torch.ones(16)), expected)
        assert model.layers[0].attention.out.weight.data_ptr() != 0
    assert linear.weight is home


def test_a_card_holds_two_slots_and_what_stays(model):
    size = FlatLayout.of(model.blocks[0]).size
    for resident in (0, 3, 7):
        with Ledger() as ledger, streamed(model.blocks, CPU, resident):
            live = ledger.live
        slots = 0 if resident == 7 else 2
        assert live == (slots + resident) * (-(-size // 512) * 512)
        assert ledger.live == 0


def test_one_block_streams_through_one_slot(model):
    one = group(model, 1)
    [expected] = model.denoise([one])
    with streamed(model.blocks, CPU, 6) as blocks:
        for _ in range(3):
            [found] = model.denoise([one], blocks)
            assert torch.equal(found, expected)


def test_tensors_in_a_flat_buffer_are_aligned():
    layout = FlatLayout.of(nn.Linear(3, 5))
    assert [entry.start % ALIGNMENT for entry in layout.entries] == [0, 0]
    assert layout.size == 2 * ALIGNMENT


def test_resident_blocks_are_spread_evenly():
    assert spread(0, 4) == frozenset()
    assert spread(4, 4) == frozenset(range(4))
    assert len(spread(3, 38)) == 3
    gaps = sorted(spread(19, 38))
    assert {b - a for a, b in pairwise(gaps)} == {2}


@pytest.mark.parametrize("resident", [0, 3, 6, 7])
def test_what_passes_once_is_copied_once(model, resident):
    one = group(model, 0)
    [expected] = model.denoise([one])
    size = FlatLayout.of(model.blocks[0]).size
    with streamed(model.blocks, CPU, resident, again=False) as blocks:
        for times in (1, 2):  # a second pass is slower than it might be, and as right
            [found] = model.denoise([one], blocks)
            assert torch.equal(found, expected)
            assert blocks.copied == times * size * (7 - resident)


def test_what_was_loaded_is_free_when_loading_fails(model):
    before = {name: id(tensor) for name, tensor in model.named_parameters()}
    size = FlatLayout.of(model.blocks[0]).size
    with (
        Ledger(3 * size) as ledger,
        pytest.raises(torch.OutOfMemoryError),
        streamed(model.blocks, CPU, 5),
    ):
        raise AssertionError("5 blocks in the room of 3")
    assert ledger.live == 0
    assert {name: id(tensor) for name, tensor in model.named_parameters()} == before
