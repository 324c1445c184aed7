"""What a plan counts for adapters is what they take of a card, to the byte."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adapters import FEW, LINEARS, NORMS, TARGETS, factors, lokr_tensors, peft_folder, saved
from tiny import TINY
from torch import Tensor, nn

from sakuga.adapters.apply import AdaptedLinear, apply_adapters
from sakuga.adapters.deltas import Delta
from sakuga.adapters.fit import (
    Fit,
    Names,
    fit_adapters,
    targets_of,
    transformer_targets,
    with_adapters,
)
from sakuga.adapters.spec import parse_adapters
from sakuga.memory.costs import PartBytes, part_bytes, spread
from sakuga.memory.flat import FlatLayout
from sakuga.memory.ledger import MIN_BLOCK, Ledger
from sakuga.memory.residency import streamed
from sakuga.model.inventory import inventory_of
from sakuga.model.nextdit import NextDiT, TransformerBlock
from sakuga.model.packing import packing_of
from sakuga.model.spec import NEWBIE_3_5B
from sakuga.weights.formats import FLOAT32, FORMATS
from sakuga.weights.stored import keep_stored

INVENTORY = Path(__file__).parents[1] / "golden" / "inventory"
HEADS = frozenset({"adaLN_modulation"})
PASSING = HEADS | {"noise_refiner", "context_refiner", "layers"}


@pytest.fixture
def fits(tmp_path: Path) -> tuple[Fit, ...]:
    """Every linear twice, some of them three times, and every norm."""
    lora = peft_folder(tmp_path / "lora", factors(LINEARS, rank=5), 2)
    few = peft_folder(tmp_path / "few", factors(FEW, rank=2), 2)
    tensors: dict[str, Tensor] = {}
    for place, name in enumerate(LINEARS):
        tensors |= lokr_tensors(name, 4, 2, rank=(0, 1, 30)[place % 3])
    for name in NORMS:
        tensors[f"{name}.w_norm"] = torch.ones(TARGETS[name])
    lokr = saved(tmp_path / "lokr.safetensors", tensors)
    texts = [f"{lora}", f"{few}:0.5", f"{lokr}:1:layers.0=0"]
    return fit_adapters(parse_adapters(texts), TARGETS)


@pytest.mark.parametrize("form", ["bfloat16", "int8", "int4"])
def test_a_plan_counts_the_factors_to_the_byte(fits: tuple[Fit, ...], form: str) -> None:
    model = NextDiT(TINY.transformer).bfloat16().eval().requires_grad_(False)
    if form != "bfloat16":
        keep_stored(model, FORMATS[form])
    inventory = with_adapters(inventory_of(TINY), fits)
    before, counted = (
        places(part_bytes(each.transformer, FORMATS[form], FORMATS["bfloat16"]))
        for each in (inventory_of(TINY), inventory)
    )
    bare = held(model)
    with apply_adapters(model, fits):
        added = [more - less for more, less in zip(held(model), bare, strict=True)]
        names = {name for name, _ in (*model.named_buffers(), *model.named_parameters())}
    assert [more - less for more, less in zip(counted, before, strict=True)] == added
    told = {weight.key for weight in inventory.transformer if ".deltas." in weight.key}
    assert told == {name for name in names if ".deltas." in name}


def test_blocks_unlike_in_size_take_what_is_predicted(tmp_path: Path) -> None:
    """Whichever stay, and with slots for the largest that does not."""
    lora = peft_folder(tmp_path / "few", factors(FEW, rank=30), 2)
    fits = fit_adapters(parse_adapters([str(lora)]), TARGETS)
    model = NextDiT(TINY.transformer).eval().requires_grad_(False)
    adapted = with_adapters(inventory_of(TINY), fits)
    counted = part_bytes(adapted.transformer, FLOAT32, FLOAT32)
    assert len(set(counted.blocks)) > 2
    with apply_adapters(model, fits), torch.inference_mode():
        for level in counted.levels():
            cpu = torch.device("cpu")
            with Ledger() as ledger, streamed(model.blocks, cpu, level.resident, HEADS) as blocks:
                for _ in blocks:
                    pass
                rounding = ledger.peak - (level.held - counted.rest)
            assert 0 <= rounding <= MIN_BLOCK // 2 * len(counted.blocks)
            first = next(
                (
                    size
                    for place, size in enumerate(counted.blocks)
                    if place not in spread(level.resident, len(counted.blocks))
                ),
                0,
            )
            assert blocks.copied == level.streamed + first  # which is there again for the next run


def places(counted: PartBytes) -> list[int]:
    return [*counted.blocks, counted.rest, *counted.passing]


def held(model: NextDiT) -> list[int]:
    """Bytes of the same places, as they are copied to a card."""
    flats = [FlatLayout.of(block, HEADS) for block in model.blocks]
    passing = [FlatLayout.of(part) for part in (*model.context_refiner, *model.heads)]
    return [flat.size for flat in (*flats, FlatLayout.of(model, PASSING), *passing)]


def test_an_inventory_without_adapters_stays_as_it_is() -> None:
    assert with_adapters(inventory_of(TINY), ()) == inventory_of(TINY)


def test_every_module_of_the_real_model_is_a_target_under_every_name() -> None:
    """As the original's file has them; its one norm that nothing reads is none."""
    told = json.loads((INVENTORY / "nextdit_original.json").read_text(encoding="utf-8"))["tensors"]
    shapes = {key: tuple(each) for key, each in told.items()}
    targets = transformer_targets(NEWBIE_3_5B.transformer)
    assert targets | {"norm_final": (2304,)} == targets_of(shapes)
    names = Names(targets)
    for module in targets:
        flat = module.replace(".", "_")
        for stem in (f"base_model.model.{module}", f"lycoris_{flat}", f"lora_unet_{flat}"):
            place = names.find(stem, "a file")
            assert place is not None
            assert place.module == module


DELTAS = {
    "lora": lambda out, into: Delta(None, torch.empty(out, 128), torch.empty(128, into)),
    "lokr": lambda out, into: Delta(torch.empty(8, 8), torch.empty(out // 8, into // 8), None),
    "lokr factored": lambda out, into: Delta(
        torch.empty(8, 8), torch.empty(out // 8, 32), torch.empty(32, into // 8)),
    "outer product": lambda out, into: Delta(torch.empty(out, 1), torch.empty(1, into), None),
    "inner product": lambda out, into: Delta(torch.empty(1, into), torch.empty(out, 1), None),
}  # fmt: skip


@pytest.mark.parametrize("kind", DELTAS)
def test_a_block_of_the_real_size_takes_no_more_than_without(kind: str) -> None:
    """So the formulas for activations hold, whatever is applied."""
    spec = replace(NEWBIE_3_5B.transformer, n_layers=1, n_refiner_layers=0)
    peaks = []
    with torch.inference_mode():
        tokens = torch.empty(1, 4196, spec.dim, dtype=torch.bfloat16, device="meta")
        modulation = torch.empty(1, 4 * spec.dim, dtype=torch.bfloat16, device="meta")
        with torch.device("meta"):
            model = NextDiT(spec).bfloat16()
        places = packing_of(model.spec, [100], [(128, 128)]).to(torch.device("meta")).joint
        for adapted in (False, True):
            block = adapt(model.layers[0], kind) if adapted else model.layers[0]
            with Ledger() as ledger:
                block(tokens, places, modulation)
            peaks.append(ledger.peak)
    assert peaks[1] == peaks[0] > 4196 * 3 * spec.ffn_dim * 2


def adapt(block: TransformerBlock, kind: str) -> TransformerBlock:
    for name, linear in list(block.named_modules()):
        if isinstance(linear, nn.Linear) and "adaLN" not in name:
            with torch.device("meta"):
                delta = DELTAS[kind](linear.out_features, linear.in_features).bfloat16()
            block.set_submodule(name, AdaptedLinear(linear, [delta]))
    return block
