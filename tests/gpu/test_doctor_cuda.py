"""The doctor on a card: what it says of the card, its room, and attention there."""

from __future__ import annotations

import pytest
import torch

from sakuga.api.engine_spec import EMBEDDED
from sakuga.commands.doctor.examine import Visit, examine
from sakuga.commands.doctor.graphics import attention_kernels, card, has_kernels
from sakuga.model.spec import NEWBIE_3_5B

CUDA = torch.device("cuda:0")


def test_a_card_that_works_is_green() -> None:
    findings = list(examine(Visit(EMBEDDED, device="cuda", hash=True)))
    assert [one for one in findings if one.colour == "red"] == []
    said = {one.check: one for one in findings}
    assert said["cards"].says.startswith("cuda:0, ")
    assert said["drawing"].colour == "green"
    assert "1 step on cuda:0" in said["drawing"].says
    assert "256x256 in " in said["room"].says


def test_this_torch_has_kernels_for_this_card() -> None:
    assert has_kernels(torch.cuda.get_arch_list(), *torch.cuda.get_device_capability(CUDA))
    assert card(0).colour != "red"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_kernel_that_is_named_is_the_one_that_runs(dtype) -> None:
    part = NEWBIE_3_5B.transformer
    finding = attention_kernels(NEWBIE_3_5B, CUDA, dtype)
    assert finding.colour == "green"
    grouped = dtype != torch.float32
    kept = part.n_kv_heads if grouped else part.n_heads
    query = torch.randn(1, part.n_heads, 512, part.head_dim, device=CUDA, dtype=dtype)
    key = torch.randn(1, kept, 512, part.head_dim, device=CUDA, dtype=dtype)
    activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, acc_events=True) as seen:
        torch.nn.functional.scaled_dot_product_attention(query, key, key, enable_gqa=grouped)
    names = " ".join(event.key for event in seen.key_averages())
    operator = {
        "cuDNN": "_scaled_dot_product_cudnn_attention",
        "flash": "_scaled_dot_product_flash_attention",
        "memory-efficient": "_scaled_dot_product_efficient_attention",
    }
    named = finding.says.removeprefix("torch's ").split(" kernel")[0]
    assert operator[named] in names
