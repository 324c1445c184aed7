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
from sakuga.adapters.deltas import BiasChange, Decomposed, Delta, Turn
from sakuga.adapters.file import AdapterPart
from sakuga.adapters.fit import (
    Change,
    Fit,
    Names,
    fit_adapters,
    held_again,
    targets_of,
    transformer_targets,
    with_adapters,
)
from sakuga.adapters.spec import parse_adapters
from sakuga.memory.activations import Denoising, Segment
from sakuga.memory.costs import PartBytes, part_bytes, spread
from sakuga.memory.flat import FlatLayout
from sakuga.memory.ledger import MIN_BLOCK, Ledger
from sakuga.memory.residency import streamed
from sakuga.model.inventory import inventory_of
from sakuga.model.layers import Lookup
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
    kin = saved(tmp_path / "kin.safetensors", every_kind())
    texts = [f"{lora}", f"{few}:0.5", f"{lokr}:1:layers.0=0", f"{kin}:0.5"]
    return fit_adapters(parse_adapters(texts), TARGETS)


def every_kind() -> dict[str, Tensor]:
    """DoRA, LoHa, both OFT, differences, biases and whole weights, one for each linear in turn."""
    tensors: dict[str, Tensor] = {}
    for place, name in enumerate(LINEARS):
        (out, into), stem = TARGETS[name], f"base_model.model.{name}"
        low = {"lora_A.weight": torch.ones(3, into), "lora_B.weight": torch.ones(out, 3)}
        loha = {f"hada_w{i}_{end}": torch.ones(*shape) for i in (1, 2)
                for end, shape in (("a", (out, 2)), ("b", (2, into)))}  # fmt: skip
        made = (
            {**low, "lora_B.bias": torch.ones(out), "dora_scale": torch.ones(out, 1)},
            {**low, "dora_scale": torch.ones(1, into)},
            loha | {"dora_scale": torch.ones(out, 1)},
            {"oft_R.weight": torch.ones(into // 4, 6)},
            {"oft_blocks": torch.ones(out // 4, 4, 4)},
            {"diff": torch.ones(out, into), "diff_b": torch.ones(out)},
            {"weight": torch.ones(out, into), "bias": torch.ones(out)},
        )[place % 7]
        tensors |= {f"{stem}.{end}": value for end, value in made.items()}
    return tensors


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
        modulation = Lookup(torch.empty(1, 4 * spec.dim, dtype=torch.bfloat16, device="meta"))
        with torch.device("meta"):
            model = NextDiT(spec).bfloat16()
        places = packing_of(model.spec, [100], [(128, 128)]).to(torch.device("meta")).joint
        for adapted in (False, True):
            block = adapt(model.layers[0], kind) if adapted else model.layers[0]
            with Ledger() as ledger:
                block(tokens, places, modulation)
            peaks.append(ledger.peak)
    assert peaks[1] == peaks[0] > 4196 * 3 * spec.ffn_dim * 2


AGAIN = {
    "dora": lambda out, into: Decomposed(
        Delta(None, torch.empty(out, 128), torch.empty(128, into)),
        torch.empty(out), columns=False),
    "dora by columns": lambda out, into: Decomposed(
        Delta(None, torch.empty(out, 16), torch.empty(16, into)), torch.empty(into), columns=True),
    "dora of lokr": lambda out, into: Decomposed(
        Delta(torch.empty(8, 8), torch.empty(out // 8, 32), torch.empty(32, into // 8)),
        torch.empty(out), columns=False),
    "dora of whole lokr": lambda out, into: Decomposed(
        Delta(torch.empty(8, 8), torch.empty(out // 8, into // 8), None),
        torch.empty(out), columns=False),
    "oft-input": lambda out, into: Turn(torch.empty(into // 32, 32, 32), 1.0, outputs=False),
    "oft-output": lambda out, into: Turn(torch.empty(out // 32, 32, 32), 1.0, outputs=True),
    "diff": lambda out, into: Delta(None, torch.empty(out, into), None),
    "bias": lambda out, into: BiasChange(torch.empty(out), 1.0),
}  # fmt: skip
PARTS = {"all": ("",), "w3": ("w3",), "w2": ("w2",), "attention": ("qkv", "out")}


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("tokens", [4196, 400])
@pytest.mark.parametrize("kind", AGAIN)
def test_a_linear_that_computes_again_takes_no_more_than_is_planned(
    kind: str, tokens: int, stored: bool, parts: str
) -> None:
    spec = replace(NEWBIE_3_5B.transformer, n_layers=1, n_refiner_layers=0)
    with torch.inference_mode(), torch.device("meta"):
        model = NextDiT(spec).bfloat16()
        shapes = {name: linear.weight.shape for name, linear in model.layers[0].named_modules()
                  if isinstance(linear, nn.Linear)}  # fmt: skip
        if stored:
            keep_stored(model, FORMATS["int8"])
        block = model.layers[0]
        again = 0, 0
        for name, shape in shapes.items():
            if "adaLN" in name or not name.endswith(PARTS[parts]):
                continue
            delta = AGAIN[kind](*shape).bfloat16()
            kept = {key: tuple(value.shape) for key, value in delta.named_buffers()}
            part = AdapterPart(
                "", kind.split(" ", maxsplit=1)[0], {}, tuple(shape), 0, None, "", 1.0, kept
            )
            change = Change(f"layers.0.{name}", None, part, 1.0)
            held = held_again(change, tuple(shape), spec.ffn_dim)
            again = max(again[0], held[0]), max(again[1], held[1])
            block.set_submodule(name, AdaptedLinear(block.get_submodule(name), [delta]))
        side = {4196: 128, 400: 32}[tokens]
        text = tokens - side * side // 4
        places = packing_of(model.spec, [text], [(side, side)]).to(torch.device("meta")).joint
        with Ledger() as ledger:
            modulation = Lookup(torch.empty(1, 4 * spec.dim, dtype=torch.bfloat16))
            block(torch.empty(1, tokens, spec.dim, dtype=torch.bfloat16), places, modulation)
    unfolded = spec.dim * spec.ffn_dim * 2 * stored
    run = Denoising(spec, 1, (Segment(tokens - text, text),), 1, 0, 2, unfolded, again)
    assert ledger.peak <= run.working
    assert run.working / ledger.peak <= 1.02


def adapt(block: TransformerBlock, kind: str) -> TransformerBlock:
    for name, linear in list(block.named_modules()):
        if isinstance(linear, nn.Linear) and "adaLN" not in name:
            with torch.device("meta"):
                delta = DELTAS[kind](linear.out_features, linear.in_features).bfloat16()
            block.set_submodule(name, AdaptedLinear(linear, [delta]))
    return block
