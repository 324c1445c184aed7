"""A linear that keeps its weight stored computes what the weight, unfolded, computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_bind import single_file
from tiny import TINY
from torch import Tensor, nn
from torch.nn import functional as F

from sakuga.checkpoint.bind import bind
from sakuga.checkpoint.contents import Contents, Report
from sakuga.checkpoint.save import save_component
from sakuga.model.nextdit import NextDiT
from sakuga.model.packing import packing_of
from sakuga.model.spec import GemmaSpec, NextDiTSpec
from sakuga.model.text import GemmaEncoder, JinaEncoder
from sakuga.weights.formats import (
    FORMATS,
    INT8,
    StorageFormat,
    StoredTensor,
    is_block_linear,
    storage_metadata,
)
from sakuga.weights.quantise import dequantise, quantise
from sakuga.weights.store import Store
from sakuga.weights.stored import StoredLinear, keep_stored

QUANTISED = ("int8", "float8_e4m3", "int4")
PARTS: dict[str, tuple[Callable[[], nn.Module], NextDiTSpec | GemmaSpec]] = {
    "nextdit": (lambda: NextDiT(TINY.transformer), TINY.transformer),
    "gemma": (lambda: GemmaEncoder(TINY.gemma).model, TINY.gemma),
}


def state(part: str) -> dict[str, Tensor]:
    """Weights of a part, none left at zero."""
    draw = torch.Generator().manual_seed(3)
    shapes = PARTS[part][0]().state_dict()
    return {key: torch.randn(v.shape, generator=draw) * 0.2 for key, v in shapes.items()}


def bound(
    folder: Path, part: str, form: StorageFormat, dtype: torch.dtype | None = None
) -> tuple[nn.Module, Report]:
    """A part that keeps `form`, filled from a folder."""
    with torch.device("meta"):
        module = PARTS[part][0]().eval()
    keep_stored(module, form)
    report = bind(module, Contents.of(Store.open(folder)), dtype=dtype)
    assert not any(value.is_meta for value in (*module.parameters(), *module.buffers()))
    return module, report


def through(form: StorageFormat, key: str, value: Tensor) -> Tensor:
    """What is left of a weight once it was stored."""
    if not is_block_linear(key):
        return value
    return dequantise(*quantise(value, form), form, tuple(value.shape), torch.float32)


def run(part: str, module: nn.Module) -> Tensor:
    """One forward pass of a part."""
    if part == "gemma":
        encoder = GemmaEncoder(TINY.gemma)
        encoder.model = module
        return encoder(torch.arange(3, 13)[None])
    draw = torch.Generator().manual_seed(4)
    spec = TINY.transformer
    latents = torch.randn(1, spec.in_channels, 8, 8, generator=draw)
    segments = packing_of(module.spec, (5,), ((8, 8),), "cpu").text.segments
    caption = module.caption(torch.randn(5, spec.cap_feat_dim, generator=draw), segments)
    pooled = torch.randn(1, spec.clip_text_dim, generator=draw)
    return module(latents, torch.tensor([0.3]), caption, segments, pooled)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("bias", [False, True])
def test_a_stored_linear_is_the_linear_of_its_unfolded_weight(name: str, bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(33, 5, bias=bias).eval()
    stored = StoredLinear.like(linear, FORMATS[name])
    x = torch.randn(2, 7, 33)
    weight = stored.unfolded(torch.float32)
    assert torch.equal(stored(x), F.linear(x, weight, linear.bias))
    assert (weight - linear.weight).abs().max() <= 0.15 * linear.weight.abs().max()
    half = stored(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert torch.isfinite(half).all()


@pytest.mark.parametrize("name", FORMATS)
def test_a_stored_linear_holds_the_bytes_of_its_format(name: str) -> None:
    stored = StoredLinear(33, 5, FORMATS[name])
    assert sum(each.nbytes for each in stored.buffers()) == FORMATS[name].bytes((5, 33))


@pytest.mark.parametrize("name", FORMATS)
def test_casting_leaves_what_is_stored_alone(name: str) -> None:
    torch.manual_seed(0)
    stored = StoredLinear.like(nn.Linear(33, 5), FORMATS[name])
    before = {key: (value.dtype, value.clone()) for key, value in stored.named_buffers()}
    for cast in (stored.double(), stored.bfloat16(), stored.float()):
        for key, value in cast.named_buffers():
            dtype, bits = before[key]
            assert value.dtype == dtype
            assert torch.equal(value.view(torch.uint8), bits.view(torch.uint8))
    assert all(value.is_meta for value in stored.to("meta").buffers())


@pytest.mark.parametrize("part", PARTS)
def test_only_the_matrices_of_blocks_are_kept_stored(part: str) -> None:
    with torch.device("meta"):
        module = PARTS[part][0]()
    linears = [name for name, each in module.named_modules() if isinstance(each, nn.Linear)]
    kept = keep_stored(module, INT8)
    assert set(kept) == {name for name in linears if is_block_linear(f"{name}.weight")}
    assert all(value.is_meta for value in (*module.parameters(), *module.buffers()))
    left = [name for name, each in module.named_modules() if isinstance(each, nn.Linear)]
    assert set(left) == set(linears) - set(kept)
    assert not any("attention." in name or "mlp." in name for name in left if "layers." in name)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("part", PARTS)
def test_a_file_of_floats_is_quantised_while_it_loads(tmp_path: Path, part: str, name: str) -> None:
    weights, form = state(part), FORMATS[name]
    save_component(tmp_path, PARTS[part][1], weights)
    module, report = bound(tmp_path, part, form)
    count = sum(is_block_linear(key) for key in weights)
    fate = "quantised" if form.quantised else "bound" if name == "float32" else "cast"
    assert report.counts[fate] >= count
    assert not form.quantised or f"float32 to {name}" in str(report)
    plain = PARTS[part][0]().eval()
    plain.load_state_dict({key: through(form, key, value) for key, value in weights.items()})
    with torch.inference_mode():
        got, want = run(part, module), run(part, plain)
    # Not equal to the bit: where a mapped tensor lies in memory decides the kernel.
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()


@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize("part", PARTS)
def test_a_file_in_the_format_is_taken_as_it_is(tmp_path: Path, part: str, name: str) -> None:
    weights = state(part)
    save_component(tmp_path, PARTS[part][1], weights, name)
    module, report = bound(tmp_path, part, FORMATS[name])
    assert "quantised" not in report.counts
    assert f"{name} as stored" in str(report)
    filled = module.state_dict()
    for key, value in weights.items():
        if is_block_linear(key):
            values, scale = quantise(value, FORMATS[name])
            assert torch.equal(filled[key].view(torch.uint8), values.view(torch.uint8)), key
            assert torch.equal(filled[f"{key.removesuffix('weight')}scale"], scale), key


def test_one_format_is_made_of_another(tmp_path: Path) -> None:
    save_component(tmp_path, TINY.transformer, state("nextdit"), "int8")
    module, report = bound(tmp_path, "nextdit", FORMATS["int4"], torch.bfloat16)
    assert "int8 to int4" in str(report)
    assert "int8 to bfloat16" in str(report)
    kinds = {value.dtype for value in module.parameters()}
    assert kinds == {torch.bfloat16}


@pytest.mark.parametrize("name", QUANTISED)
def test_rows_of_the_file_are_joined_and_cut_with_their_scales(tmp_path: Path, name: str) -> None:
    """The single-file layout holds Jina's query, key and value as one tensor."""
    form = FORMATS[name]
    whole = JinaEncoder(TINY.jina).model.state_dict()
    whole |= {key: torch.randn_like(value) for key, value in whole.items()}
    tensors, stored = single_file(whole), {}
    for key in [key for key in tensors if key.endswith("Wqkv.weight")]:
        stored[key] = StoredTensor(form, tuple(tensors[key].shape) if form.packed else None)
        tensors[key], tensors[key + ".scale"] = quantise(tensors[key], form)
    save_file(tensors, tmp_path / "model.safetensors", storage_metadata(stored))
    with torch.device("meta"):
        encoder = JinaEncoder(TINY.jina).eval()
    keep_stored(encoder.model, form, frozenset({"q_proj", "k_proj", "v_proj"}))
    report = bind(encoder.model, Contents.of(Store.open(tmp_path)))
    assert "quantised" not in report.counts
    filled = encoder.model.state_dict()
    for part in "qkv":
        key = f"layers.1.self_attn.{part}_proj."
        values, scale = quantise(whole[key + "weight"], form)
        assert torch.equal(filled[key + "weight"].view(torch.uint8), values.view(torch.uint8))
        assert torch.equal(filled[key + "scale"], scale)
