"""Adapters on a card: streamed to the bit, and the product with their matrix in bfloat16."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engines import open_engine
from sakuga.adapters.apply import AdaptedLinear
from sakuga.adapters.deltas import Delta
from sakuga.api.engine_spec import Budget
from sakuga.api.events import Finished
from sakuga.api.request import Request
from sakuga.memory.residency import PinnedPool, on_device, streamed
from sakuga.model.nextdit import Group, NextDiT
from sakuga.model.packing import packing_of
from small_transformer import CARD, SPEC, random_transformer

HEADS = frozenset({"adaLN_modulation"})
REST = HEADS | {"noise_refiner", "layers", "context_refiner"}


@pytest.fixture
def model() -> NextDiT:
    """A transformer whose block linears all have a LoRA and a LoKr."""
    made = random_transformer()
    linears = [
        (f"{stack}.{name}", linear)
        for stack in ("noise_refiner", "layers")
        for name, linear in getattr(made, stack).named_modules()
        if isinstance(linear, nn.Linear) and "adaLN" not in name
    ]
    for name, linear in linears:
        rows, columns = linear.out_features, linear.in_features
        lora = Delta(None, torch.randn(rows, 8) * 0.1, torch.randn(8, columns) * 0.1, 0.5)
        lokr = Delta(torch.randn(4, 4) * 0.1, torch.randn(rows // 4, columns // 4) * 0.1, None)
        made.set_submodule(name, AdaptedLinear(linear, [lora, lokr]))
    return made.to(torch.bfloat16)


@torch.inference_mode()
def run(model: NextDiT, resident: int, pool: PinnedPool | None = None) -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 4, 16, 16, generator=draw).to(CARD, torch.bfloat16)
    caption = torch.randn(5, SPEC.dim, generator=draw).to(CARD, torch.bfloat16)
    pooled = torch.randn(1, 12, generator=draw).to(torch.bfloat16)
    table = model.modulations(torch.rand(1, generator=draw), pooled)
    moved = type(table)(tuple(one.to(CARD) for one in table.blocks), table.final.to(CARD))
    one = Group(latents, caption, packing_of(model.spec, [5], [(16, 16)], CARD), moved)
    with (
        on_device(model, CARD, REST),
        streamed(model.blocks, CARD, resident, HEADS, pool) as blocks,
    ):
        return [model.denoise([one], blocks)[0].cpu() for _ in range(3)]


@pytest.mark.parametrize("resident", [0, 1, 4])
@pytest.mark.parametrize("pinned", [False, True])
def test_streaming_adapters_changes_no_bit(model: NextDiT, resident: int, pinned: bool) -> None:
    whole = run(model, len(model.blocks))
    pool = PinnedPool(CARD) if pinned else None
    found = run(model, resident, pool)
    assert all(torch.isfinite(one).all() for one in whole)
    assert all(torch.equal(a, b) for a, b in zip(found, whole, strict=True))


SHAPES = {  # of the first factor, and the rank of the second; 2304 to 3840 as in the real model
    "lora": (None, 32),
    "lokr": ((8, 8), 0),
    "lokr factored": ((8, 8), 16),
    "w2 first": ((3840, 1), 0),
}


@pytest.mark.parametrize("rows", [None, (16, 16 + 3840)])
@pytest.mark.parametrize("kind", SHAPES)
def test_a_delta_is_the_product_with_its_matrix(kind: str, rows: tuple[int, int] | None) -> None:
    torch.manual_seed(0)
    first, rank = SHAPES[kind]
    a, b = first or (1, 1)
    w1 = None if first is None else torch.randn(a, b)
    up = torch.randn(3840 // a, rank or 2304 // b)
    down = torch.randn(rank, 2304 // b) if rank else None
    delta = Delta(w1, up, down, 0.01, rows).to(CARD, torch.bfloat16)
    x = torch.randn(70, 2304, device=CARD).bfloat16()
    base = torch.randn(70, 3840 + 32 * bool(rows), device=CARD).bfloat16()
    y = base.clone()
    delta.add_to(y, x)
    want = base.float()
    want[:, slice(*(rows or (None, None)))] += x.float() @ delta.matrix().T
    error = (y.float() - want).norm() / want.norm()
    assert error <= 0.02  # a few roundings to the 8 bits of bfloat16


def test_adapters_change_while_networks_are_kept(tiny_model: Path, tmp_path: Path) -> None:
    """Factors lie with the host's tensors, whatever is on the card when they are applied."""
    weights = load_file(next((tiny_model / "transformer").glob("*.safetensors")))
    draw, tensors = torch.Generator().manual_seed(0), {}
    for key, value in weights.items():
        if value.dim() == 2 and "attention" in key:
            stem = key.removesuffix(".weight")
            tensors[f"{stem}.lora_A.weight"] = torch.randn(3, value.shape[1], generator=draw)
            tensors[f"{stem}.lora_B.weight"] = torch.randn(value.shape[0], 3, generator=draw)
    save_file(tensors, tmp_path / "lora.safetensors", {"lora_alpha": "1"})
    lora = (f"{tmp_path / 'lora.safetensors'}:0.2",)
    budget = Budget(vram="4GB", keep_resident=True)
    kept = open_engine(tiny_model, device="cuda", budget=budget)
    for asked in ((), lora, (), lora):
        ask = Request("1girl", seed=1, steps=2, lora=asked)
        alone = open_engine(tiny_model, device="cuda", budget=Budget(vram="4GB"))
        here, there = (
            next(e.result for e in one.generate(ask) if isinstance(e, Finished))
            for one in (kept, alone)
        )
        assert here.receipt.plan.kept
        assert here.picture == there.picture
    kept.device.kept.release()
    devices = {value.device.type for value in kept.networks["transformer"].state_dict().values()}
    assert devices == {"cpu"}
