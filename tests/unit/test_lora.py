"""Adapters as a view: the same numbers as folded in, wherever the blocks are, and then gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from adapters import (
    FEW,
    LINEARS,
    NORMS,
    TARGETS,
    factors,
    group,
    kohya_tensors,
    lokr_tensors,
    made,
    near,
    peft_folder,
    saved,
    velocity,
)
from tiny import TINY
from torch import Tensor

from sakuga.adapters.apply import (
    AdaptedLinear,
    apply_adapters,
    read_change,
    read_norm_change,
)
from sakuga.adapters.deltas import Delta
from sakuga.adapters.fit import Fit, fit_adapters
from sakuga.adapters.spec import parse_adapters
from sakuga.errors import CorruptFile
from sakuga.memory.residency import on_device, streamed
from sakuga.model.nextdit import NextDiT
from sakuga.weights.formats import FORMATS
from sakuga.weights.stored import keep_stored

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("inference")


@pytest.fixture
def inference():
    with torch.inference_mode():
        yield


def on_card(model: NextDiT, resident: int) -> Tensor:
    """The second of two evaluations of a network copied to a card, as a drawing does it."""
    heads = frozenset({"adaLN_modulation"})
    with on_device(model, CPU, heads | {"noise_refiner", "context_refiner", "layers"}):
        with (
            streamed(model.context_refiner, CPU, 0) as refiners,
            streamed(model.heads, CPU, 0) as passing,
        ):
            one = group(model, refiners, passing)
        with streamed(model.blocks, CPU, resident, heads) as blocks:
            [first], [second] = (model.denoise([one], blocks) for _ in range(2))
    assert torch.equal(first, second)
    return second


def fits(*texts: str | Path) -> tuple[Fit, ...]:
    return fit_adapters(parse_adapters(list(map(str, texts))), TARGETS)


def folded(model: NextDiT, given: Sequence[Fit]) -> NextDiT:
    """A copy of a model with adapters in its weights, by the formula."""
    state = {key: value.clone() for key, value in model.state_dict().items()}
    for each in given:
        for change in each.changes:
            weight = state[f"{change.module}.weight"]
            read = partial(torch.clone, weight)
            if change.part.kind == "norm":
                delta = read_norm_change(each.adapter.store, change, read)
                weight += delta.weight * delta.scale
            else:
                rows = slice(*(change.rows or (None, None)))
                weight[rows] += read_change(each.adapter.store, change, read).matrix()
    copy = NextDiT(TINY.transformer).eval()
    copy.load_state_dict(state)
    return copy


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    return peft_folder(tmp_path / "lora", factors(LINEARS, rank=3), 2)


@pytest.fixture
def lokr(tmp_path: Path) -> Path:
    tensors: dict[str, Tensor] = {}
    for place, name in enumerate(LINEARS):
        tensors |= lokr_tensors(name, 4, 2, rank=2 * (place % 2), seed=place)
    draw = torch.Generator().manual_seed(5)
    for name in NORMS:
        stem = "lycoris_" + name.replace(".", "_")
        tensors[f"{stem}.w_norm"] = torch.randn(TARGETS[name], generator=draw) * 0.2
    return saved(tmp_path / "lokr.safetensors", tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [None, (2, 14)])
@pytest.mark.parametrize("kind", ["lora", "lokr", "lokr factored"])
def test_a_delta_is_the_product_with_its_matrix(
    kind: str, rows: tuple[int, int] | None, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    w1 = None if kind == "lora" else torch.randn(3, 5)
    down = None if kind == "lokr" else torch.randn(2, 4 if kind != "lora" else 20)
    up = torch.randn(12 if kind == "lora" else 4, 2 if down is not None else 4)
    delta = Delta(w1, up, down, 0.3, rows).to(dtype)
    x, base = torch.randn(7, 20).to(dtype), torch.randn(7, 16 if rows else 12).to(dtype)
    y = base.clone()
    delta.add_to(y, x)
    want = base.double()
    want[:, slice(*(rows or (None, None)))] += x.double() @ delta.double().matrix().double().T
    tolerance = 1e-6 if dtype == torch.float32 else 2e-2
    assert (y.double() - want).abs().max() <= tolerance * want.abs().max()


@pytest.mark.parametrize("kind", ["lora", "lokr"])
def test_every_module_changes_as_if_its_weight_had(kind: str, request) -> None:
    model, given = made(), fits(request.getfixturevalue(kind))
    assert len(given[0].changes) == len(LINEARS) + len(NORMS) * (kind == "lokr")
    before = velocity(model)
    with apply_adapters(model, given):
        found = velocity(model)
    assert near(found, velocity(folded(model, given)))
    assert not near(found, before)


def test_each_module_makes_its_own_difference(lora: Path, lokr: Path) -> None:
    """What an adapter says of one module reaches the picture, whichever it is."""
    model = made()
    before = velocity(model)
    for whole in fits(lora, lokr):
        for change in whole.changes:
            with apply_adapters(model, [replace(whole, changes=(change,))]):
                assert not torch.equal(velocity(model), before), change.module


@pytest.mark.parametrize("kind", ["lora", "lokr"])
def test_removal_gives_back_the_very_same_modules(kind: str, request) -> None:
    model = made()
    before = {name: id(part) for name, part in model.named_modules()}
    tensors = {name: (id(value), value.clone()) for name, value in model.named_parameters()}
    expected = velocity(model)
    view = apply_adapters(model, fits(request.getfixturevalue(kind)))
    assert isinstance(model.get_submodule(FEW[0]), AdaptedLinear)
    view.remove()
    view.remove()
    assert {name: id(part) for name, part in model.named_modules()} == before
    for name, value in model.named_parameters():
        assert id(value) == tensors[name][0]
        assert torch.equal(value, tensors[name][1])
    assert torch.equal(velocity(model), expected)


def test_an_error_inside_removes_it_too(lora: Path) -> None:
    model = made()
    before = {name: id(part) for name, part in model.named_modules()}
    with pytest.raises(RuntimeError, match="stop"), apply_adapters(model, fits(lora)):
        raise RuntimeError("stop")
    assert {name: id(part) for name, part in model.named_modules()} == before


@pytest.mark.parametrize("kind", ["lora", "lokr"])
def test_streamed_blocks_take_their_adapters_along(kind: str, request) -> None:
    """Any number of resident blocks gives the same bits, as without adapters."""
    model, given = made(), fits(request.getfixturevalue(kind))
    with apply_adapters(model, given):
        expected = velocity(model)
        for resident in range(len(model.blocks) + 1):
            assert torch.equal(on_card(model, resident), expected)
    assert near(expected, velocity(folded(model, given)))


@pytest.mark.parametrize("name", ["int8", "float8_e4m3", "int4"])
def test_a_quantised_base_stays_as_it_is_and_the_adapter_exact(
    name: str, lora: Path, lokr: Path
) -> None:
    """The delta is that of the file: no part of it is rounded to the base's format."""
    model, given = made(), fits(lora, f"{lokr}:0.5")
    keep_stored(model, FORMATS[name])
    stored = {key: value.clone() for key, value in model.named_buffers()}
    unfolded = NextDiT(TINY.transformer).eval()
    state = {
        key: model.get_submodule(key.removesuffix(".weight")).unfolded(torch.float32)
        if f"{key.removesuffix('weight')}scale" in stored else model.state_dict()[key]
        for key in unfolded.state_dict()
    }  # fmt: skip
    unfolded.load_state_dict(state)
    with apply_adapters(model, given):
        found = velocity(model)
        assert torch.equal(on_card(model, 1), found)
    assert near(found, velocity(folded(unfolded, given)))
    for key, value in model.named_buffers():
        assert torch.equal(value.view(torch.uint8), stored[key].view(torch.uint8))


def test_several_add_up_in_any_order(lora: Path, lokr: Path, tmp_path: Path) -> None:
    other = peft_folder(tmp_path / "other", factors(FEW, rank=2, seed=9), 1)
    model = made()
    texts = (f"{lora}:0.8", f"{lokr}:-0.5:layers.1=0.3", f"{other}")
    given = fits(*texts)
    with apply_adapters(model, given):
        assert len(model.get_submodule(FEW[0]).deltas) == 3
        found = velocity(model)
    assert near(found, velocity(folded(model, given)))
    with apply_adapters(model, fits(*reversed(texts))):
        assert near(velocity(model), found)


def test_strengths_are_linear_in_a_module(lora: Path, lokr: Path) -> None:
    draw = torch.Generator().manual_seed(3)
    for path in (lora, lokr):
        for module in FEW:
            model = made()
            linear = model.get_submodule(module)
            x = torch.randn(6, linear.in_features, generator=draw)
            base = linear(x)

            def delta(strength: float, model=model, module=module, x=x, base=base, path=path):
                with apply_adapters(model, fits(f"{path}:{strength}")):
                    return model.get_submodule(module)(x) - base

            one = delta(1)
            for strength in (-1.0, 0.25, 2.0):
                assert near(delta(strength), strength * one)
            assert torch.equal(delta(0), torch.zeros_like(base))


def test_strength_zero_wraps_nothing(lora: Path) -> None:
    model = made()
    before = {name: id(part) for name, part in model.named_modules()}
    with apply_adapters(model, fits(f"{lora}:0")):
        assert {name: id(part) for name, part in model.named_modules()} == before


def test_names_do_not_change_bits(tmp_path: Path) -> None:
    given = factors(LINEARS, rank=4)
    peft = peft_folder(tmp_path / "peft", given, 2)
    kohya = saved(tmp_path / "kohya.safetensors", kohya_tensors(given, 2.0))
    model = made()
    results = []
    for path in (peft, kohya):
        with apply_adapters(model, fits(path)):
            results.append(velocity(model))
    assert torch.equal(*results)


def test_query_key_and_value_apart_are_the_fused_ones_rows(tmp_path: Path) -> None:
    module = "layers.0.attention.qkv"
    ((down, up),) = factors((module,), rank=3).values()
    rows = {"to_q": slice(48), "to_k": slice(48, 72), "to_v": slice(72, 96)}
    tensors = {}
    for name, part in rows.items():
        stem = f"transformer.layers.0.attention.{name}"
        tensors[f"{stem}.lora_A.weight"] = down.clone()
        tensors[f"{stem}.lora_B.weight"] = up[part].clone()
    apart = saved(tmp_path / "apart.safetensors", tensors)
    fused = peft_folder(tmp_path / "fused", {module: (down, up)}, 3)
    model = made()
    results = []
    for path in (apart, fused):
        with apply_adapters(model, fits(path)):
            results.append(velocity(model))
    assert near(*results)


def test_a_trained_norm_may_bring_a_bias(tmp_path: Path) -> None:
    tensors = {"layers.0.ffn_norm2.w_norm": torch.full((48,), 0.5),
               "layers.0.ffn_norm2.b_norm": torch.full((48,), 0.25)}  # fmt: skip
    model, x = made(), torch.randn(3, 48)
    norm = model.get_submodule("layers.0.ffn_norm2")
    plain = torch.nn.functional.rms_norm(x, (48,), eps=norm.eps)
    with apply_adapters(model, fits(f"{saved(tmp_path / 'a.safetensors', tensors)}:2")):
        found = model.get_submodule("layers.0.ffn_norm2")(x)
    assert near(found, plain * (norm.weight + 1.0) + 0.5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_factors_follow_the_module_from_dtype_to_dtype(dtype: torch.dtype, lora: Path) -> None:
    model = made().to(dtype)
    with apply_adapters(model, fits(lora)):
        linear = model.get_submodule(FEW[0])
        assert linear.weight.dtype == dtype
        assert {value.dtype for value in linear.deltas.buffers()} == {dtype}
        x = torch.randn(5, 48)
        half = linear(x.to(dtype))
        assert half.dtype == dtype
        model.float()
        assert near_in(linear(x), half, 2e-2)
        model.to(dtype)
        assert torch.equal(linear(x.to(dtype)), half)


def near_in(got: Tensor, want: Tensor, tolerance: float) -> bool:
    return bool((got.float() - want.float()).abs().max() <= tolerance * got.abs().max())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_factors_that_are_no_numbers_change_nothing(tmp_path: Path, value: float) -> None:
    given = factors(FEW)
    given[FEW[-1]][0][1, 2] = value
    model = made()
    before = {name: id(part) for name, part in model.named_modules()}
    with pytest.raises(CorruptFile, match="finite"):
        apply_adapters(model, fits(peft_folder(tmp_path / "a", given, 1)))
    assert {name: id(part) for name, part in model.named_modules()} == before
