from __future__ import annotations

import gc

import pytest
import torch
from torch.nn import functional as F

from sakuga.memory.ledger import Ledger, rounded

MIB = 2**20


@pytest.fixture(params=["cpu", "meta"])
def device(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_a_new_tensor_counts_until_it_dies(device: str) -> None:
    ledger = Ledger()
    with ledger:
        a = torch.empty(MIB, device=device)
        b = a + 1
        assert ledger.live == 8 * MIB
        del a
        assert ledger.live == 4 * MIB
    del b
    assert (ledger.live, ledger.peak) == (0, 8 * MIB)


def test_sizes_are_rounded_as_an_allocator_rounds_them(device: str) -> None:
    with Ledger() as ledger:
        one = torch.zeros(1, device=device)
        none = torch.zeros(0, device=device)
        more = torch.zeros(129, device=device)
    assert ledger.live == 512 + 1024
    assert (one.numel(), none.numel(), more.numel()) == (1, 0, 129)
    assert [rounded(n) for n in (0, 1, 512, 513)] == [0, 512, 512, 1024]


def test_views_and_results_in_place_add_nothing(device: str) -> None:
    with torch.inference_mode(), Ledger() as ledger:
        x = torch.zeros(4, 1024, device=device)
        before = ledger.live
        views = (x.view(2, -1), x.reshape(-1), x[1:], x.t(), *x.chunk(2), x.expand(3, 4, 1024))
        x += 1
        x.mul_(2).clamp_(max=5)
        torch.add(x, 1, out=x)
        assert ledger.live == ledger.peak == before == 4 * 4096
    assert len(views) == 7


def test_a_view_keeps_what_it_looks_at() -> None:
    with Ledger() as ledger:
        first = torch.zeros(MIB)[:1]
    gc.collect()
    assert ledger.live == 4 * MIB
    del first
    assert ledger.live == 0


def test_what_was_there_before_is_not_counted(device: str) -> None:
    weight = torch.ones(1024, 1024, device=device)
    with torch.inference_mode(), Ledger() as ledger:
        weight += 1
        rows = weight[3:5], weight.T.contiguous().view(-1)
        assert ledger.live == 4 * MIB
    assert rows[0].shape == (2, 1024)


def test_reshaping_counts_when_it_copies(device: str) -> None:
    with torch.inference_mode(), Ledger() as ledger:
        x = torch.zeros(512, 512, device=device)
        turned = x.t().reshape(-1)
        same = x.to(torch.float32)
        assert ledger.live == 2 * MIB
    assert turned.shape == same.view(-1).shape


def test_values_from_python_count() -> None:
    with Ledger() as ledger:
        numbers = torch.tensor([1.0, 2.0])
        assert ledger.live == 512
    assert numbers.numel() == 2


def test_a_result_that_grows_is_charged_with_the_difference() -> None:
    with Ledger() as ledger:
        room = torch.empty(128)
        room.resize_(256)
        assert ledger.live == 1024
        del room
        assert ledger.live == 0


def test_what_happens_inside_a_composite_is_seen(device: str) -> None:
    x = torch.ones(256, 256, device=device).t()
    with torch.inference_mode(), Ledger() as ledger:
        y = F.linear(x.reshape(1, 256, 256), torch.ones(4, 256, device=device))
    assert ledger.live == rounded(256 * 4 * 4)
    assert ledger.peak >= ledger.live
    assert y.shape == (1, 256, 4)


def test_attention_counts_as_a_fused_kernel(device: str) -> None:
    q = torch.ones(1, 2, 512, 16, device=device)
    with torch.inference_mode(), Ledger() as ledger:
        out = F.scaled_dot_product_attention(q, q, q)
        assert ledger.peak == out.nbytes == q.nbytes


def test_the_limit_refuses_and_leaves_the_counts_right(device: str) -> None:
    with Ledger(limit=10 * MIB) as ledger:
        kept = torch.empty(MIB, device=device)
        with pytest.raises(torch.OutOfMemoryError, match=r"out of memory. Tried to .* 8\.00 MiB"):
            torch.empty(2 * MIB, device=device)
        assert ledger.live == ledger.peak == 4 * MIB
        again = torch.empty(3 * MIB // 2, device=device)
        assert ledger.live == ledger.peak == 10 * MIB
    del kept, again
    assert ledger.live == 0


def test_several_results_fit_together_or_not_at_all() -> None:
    x = torch.arange(MIB, dtype=torch.float32)
    with torch.inference_mode(), Ledger(limit=10 * MIB) as ledger:
        with pytest.raises(torch.OutOfMemoryError):
            torch.sort(x)  # 4 MiB of values and 8 of indices
        assert ledger.live == ledger.peak == 0


def test_the_host_is_not_the_card() -> None:
    with Ledger(limit=MIB) as ledger:
        with ledger.host():
            noise = torch.randn(MIB)
            doubled = noise * 2
        view = doubled[:10]
        assert ledger.live == ledger.peak == 0
        copy = torch.empty_like(view).copy_(view)
        assert ledger.live == 512
    assert copy.numel() == 10


def test_it_can_be_entered_within_itself_and_again() -> None:
    ledger = Ledger()
    with ledger, torch.inference_mode(), ledger:
        a = torch.ones(128)
        b = torch.ones(128).reshape(2, 64).t().reshape(-1)
    assert ledger.live == 1024
    c = torch.ones(128)
    with ledger:
        d = a + c
    assert ledger.live == 1536
    del a, b, d
    assert ledger.live == 0
    ledger.reset_peak()
    assert ledger.peak == 0


def test_what_is_kept_for_the_backward_pass_counts() -> None:
    w = torch.ones(256, 256, requires_grad=True)
    with Ledger() as ledger:
        loss = (w.exp() * 2).sum()
        assert ledger.live == rounded(w.nbytes) + 512  # the exponential and the sum
        loss.backward()
        del loss
        assert ledger.live == rounded(w.nbytes)  # the gradient
    w.grad = None
    assert ledger.live == 0


def test_watching_changes_no_bit() -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(4, 8, 3)
    norm = torch.nn.GroupNorm(2, 8)
    linear = torch.nn.Linear(14, 14)
    x = torch.randn(2, 4, 16, 16)

    def net() -> torch.Tensor:
        y = linear(norm(conv(x)))
        return F.scaled_dot_product_attention(y, y, y)

    with torch.inference_mode():
        free = net()
        with Ledger():
            assert torch.equal(net(), free)
