"""What other programs quantised is read as the floats it stands for, and kept where it can be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import TINY
from torch import Tensor

from engines import open_engine
from quantisers import EVERY, IN_FORM, PACKED, Kept, said, write
from sakuga.adapters.merge import merge
from sakuga.adapters.spec import parse_adapter
from sakuga.api.engine_spec import Budget
from sakuga.api.events import Finished
from sakuga.api.request import Request
from sakuga.checkpoint.bind import bind, fold, read_piece
from sakuga.checkpoint.contents import read_shapes
from sakuga.checkpoint.families.match import TensorPiece
from sakuga.checkpoint.families.tables import config_of
from sakuga.checkpoint.folder import (
    Component,
    open_checkpoint,
    open_component,
    read_inventory,
    stored_formats,
)
from sakuga.checkpoint.parts import parts_in
from sakuga.commands.convert import convert
from sakuga.commands.doctor import values as numbers
from sakuga.commands.doctor.files import explained, keys
from sakuga.commands.inspect import inspect
from sakuga.engine.networks import Networks
from sakuga.errors import BindError, CorruptFile, LayoutError, WeightsError
from sakuga.memory.stages import DENOISE
from sakuga.model.nextdit import NextDiT
from sakuga.weights.folded import Folded
from sakuga.weights.formats import FLOAT8_E4M3, FORMATS, INT8, is_block_linear
from sakuga.weights.schemes import BY_NAME
from sakuga.weights.store import Store
from sakuga.weights.stored import keep_stored
from sakuga.weights.translated import names, translated

EACH = pytest.mark.parametrize("kind", EVERY)
SHAPE = (24, 32)
TOLERANCE = 2e-6  # of the largest value of a weight


def made(kind: str, shape: tuple[int, int] = SHAPE, seed: int = 1) -> Kept:
    return EVERY[kind](np.random.default_rng(seed), shape)


def read(
    store: Store, key: str, shape: tuple[int, ...], rows: tuple[int, int] | None = None
) -> Tensor:
    stored, _ = read_shapes(store)
    return read_piece(store, TensorPiece(key, (key,), shape), stored, torch.float32, rows)


def near(got: Tensor, want: np.ndarray) -> bool:
    error = np.abs(got.double().numpy() - want).max(initial=0)
    return got.shape == want.shape and error <= TOLERANCE * np.abs(want).max(initial=1e-30)


@EACH
def test_a_weight_is_read_as_what_it_stands_for(kind: str, tmp_path: Path) -> None:
    kept = made(kind)
    store = translated(Store.open(write(tmp_path / "x.safetensors", {"a.b": kept})), kept.config)
    shape = tuple(store.shapes()["a.b.weight"])
    got = read(store, "a.b.weight", shape)
    assert near(got[: SHAPE[0], : SHAPE[1]], kept.want)
    assert same(kind, read(store, "a.b.weight", shape, (5, 11)), got[5:11])
    stored, shapes = read_shapes(store)
    assert set(shapes) == {"a.b.weight"}
    assert (kind in IN_FORM) == ("a.b.weight" in stored)


@EACH
def test_a_file_of_many_linears_is_one_of_plain_names(kind: str, tmp_path: Path) -> None:
    kept = {f"layers.{n}.w": made(kind, seed=n) for n in range(3)}
    others = {"norm.weight": torch.ones(4), "layers.0.w.bias": torch.ones(24)}
    store = Store.open(write(tmp_path / "x.safetensors", kept, others))
    assert {*names(store)} - {"scaled_fp8"} == {*others, *(f"{name}.weight" for name in kept)}
    seen = translated(store, kept["layers.0.w"].config)
    _, shapes = read_shapes(seen)
    assert set(shapes) == {*others, *(f"{name}.weight" for name in kept)}
    assert all(f"{name}.weight" in seen for name in kept)
    assert translated(seen) is seen


def plain_state(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    state = NextDiT(TINY.transformer).state_dict()
    return {key: torch.randn_like(value) * 0.1 for key, value in state.items()}


def model_file(folder: Path, kind: str) -> tuple[Path, Mapping[str, np.ndarray]]:
    """A tiny transformer whose blocks are kept so, and what they stand for; its own config says."""
    state, kept = plain_state(), {}
    for seed, key in enumerate([key for key in state if is_block_linear(key)]):
        kept[key.removesuffix(".weight")] = made(kind, tuple(state.pop(key).shape), seed)
    config = config_of(TINY.transformer) | {"quantization_config": dict(made(kind).config)}
    file = write(folder / "x.safetensors", kept, state, {"config": json.dumps(config)})
    return file, {f"{name}.weight": each.want for name, each in kept.items()}


def same(kind: str, first: Tensor, second: Tensor) -> bool:
    """To the bit, but for products of matrices, which round by how many rows they have."""
    products = "svd" in kind or "turned" in kind or "convrot" in kind
    return torch.allclose(first, second, atol=1e-7) if products else torch.equal(first, second)


def bound(part: Component, folded: bool, form: str | None = None) -> NextDiT:
    with torch.device("meta"):
        module = NextDiT(TINY.transformer)
        if form:
            keep_stored(module, FORMATS[form])
    bind(module, part, dtype=torch.float32, folded=folded)
    return module


@EACH
def test_a_model_opens_and_binds_folded_or_not(kind: str, tmp_path: Path) -> None:
    file, want = model_file(tmp_path, kind)
    part = open_component(file, "transformer")
    assert part.spec == TINY.transformer
    plain, folded = (bound(part, fold).state_dict() for fold in (False, True))
    for key, values in want.items():
        assert near(plain[key], values), key
        assert isinstance(folded[key], Folded)
        ids = torch.tensor([[1, 0], [2, 2]])
        looked_up = torch.nn.functional.embedding(ids, folded[key])
        assert torch.equal(folded[key] + 0, plain[key])
        assert same(kind, folded[key][:2], plain[key][:2])
        assert same(kind, looked_up, plain[key][ids])


@pytest.mark.parametrize("kind", IN_FORM)
def test_what_a_format_of_ours_holds_stays_in_it(kind: str, tmp_path: Path) -> None:
    file, want = model_file(tmp_path, kind)
    part = open_component(file, "transformer")
    forms = {stored_formats(part)[key] for key in want}
    (form,) = forms
    assert form in (INT8, FLOAT8_E4M3)
    module = bound(part, folded=False, form=form.name)
    linear = module.layers[0].attention.out
    key = "layers.0.attention.out.weight"
    store = Store.open(file)
    raw = next(each for each in store if each.startswith("layers.0.attention.out.") and
               store.info(each).shape == linear.weight.shape)  # fmt: skip
    assert bytes(store.view(raw)) == bytes(linear.weight.view(torch.uint8).flatten().numpy())
    assert near(linear.unfolded(torch.float32), want[key])


@pytest.mark.parametrize("kind", PACKED)
def test_what_none_holds_counts_as_the_floats_it_unfolds_to(kind: str, tmp_path: Path) -> None:
    file, want = model_file(tmp_path, kind)
    formats = stored_formats(open_component(file, "transformer"))
    assert {formats[key].name for key in want} == {"float32"}


@EACH
def test_it_is_inspected_and_converted(kind: str, tmp_path: Path) -> None:
    file, want = model_file(tmp_path, kind)
    (seen,) = inspect(file)
    assert (seen.problem, seen.component) == (None, "transformer")
    (line,) = seen.quantised
    scheme = BY_NAME[kind.split(maxsplit=1)[0]]
    assert line.startswith(f"{len(want)} as {scheme.name}, by {scheme.program} ({scheme.value}): ")
    assert {key.name for key in seen.keys if not key.name.endswith(".scale")} == set(plain_state())
    convert(file, tmp_path / "out.safetensors", "diffusers", "float32")
    part = open_component(tmp_path / "out.safetensors", "transformer")
    for key, values in want.items():
        got = read_piece(part.store, part.pieces[key], part.stored, torch.float32)
        assert near(got, values), key


def test_joined_rows_fold_too(tmp_path: Path) -> None:
    """Query, key and value that a file keeps apart are one matrix of ours."""
    kept = {name: made("bnb_4bit", (rows, 32), rows) for name, rows in (("q", 6), ("k", 4))}
    store = translated(Store.open(write(tmp_path / "x.safetensors", kept)))
    keys = ("q.weight", "k.weight")
    for rows in (None, (2, 9)):
        piece = TensorPiece("qk", keys, (7, 32) if rows else (10, 32), rows)
        one = fold(store, piece, {}, torch.float32)
        assert one is not None
        want = np.vstack([kept["q"].want, kept["k"].want])[slice(*(rows or (0, 10)))]
        assert near(one.unfolded(), want)
        assert near(one.rows(torch.tensor([3, 0])), want[[3, 0]])


@pytest.mark.parametrize("kind", ["fp8_scaled", "comfy_int8", "nvfp4"])
def test_a_gemma_is_read_too(kind: str, tmp_path: Path) -> None:
    from sakuga.model.text import GemmaEncoder

    state = {
        key: value.detach() for key, value in GemmaEncoder(TINY.gemma).model.state_dict().items()
    }
    kept = {}
    for seed, key in enumerate([key for key in state if is_block_linear(key)]):
        kept["model." + key.removesuffix(".weight")] = made(kind, tuple(state.pop(key).shape), seed)
    others = {f"model.{key}": value for key, value in state.items()}
    config = {"config": json.dumps(config_of(TINY.gemma))}
    part = open_component(write(tmp_path / "x.safetensors", kept, others, config), "text_encoder")
    for name, each in kept.items():
        key = name.removeprefix("model.") + ".weight"
        got = read_piece(part.store, part.pieces[key], part.stored, torch.float32)
        assert near(got, each.want), key


@pytest.mark.parametrize("name", ["fp8_scaled", "comfy_float8", "comfy_int8"])
def test_a_model_is_written_as_comfyui_keeps_it(name: str, tmp_path: Path) -> None:
    file = write(tmp_path / "x.safetensors", {}, plain_state(),
                 {"config": json.dumps(config_of(TINY.transformer))})  # fmt: skip
    out = tmp_path / "out.safetensors"
    convert(file, out, "single-file", name)
    store, state = Store.open(out), plain_state()
    for key in filter(is_block_linear, state):
        stem, wide = key.removesuffix(".weight"), state[key].abs()
        scale = store.info(stem + (".scale_weight" if name == "fp8_scaled" else ".weight_scale"))
        assert (scale.dtype, scale.shape) == ("F32", (len(wide), 1) if name == "comfy_int8" else ())
        limit = wide.amax() / 254 * 1.01 if name == "comfy_int8" else wide.amax() / 28 + wide / 16
        part = open_component(out, "transformer")
        got = read_piece(part.store, part.pieces[key], part.stored, torch.float32)
        assert ((got - state[key]).abs() <= limit).all()
        if name != "fp8_scaled":
            told = json.loads(bytes(store.view(f"{stem}.comfy_quant")))
            wanted = "int8_tensorwise" if name == "comfy_int8" else "float8_e4m3fn"
            assert told == {"format": wanted}
    assert ("scaled_fp8" in store) == (name == "fp8_scaled")
    (line,) = inspect(out)[0].quantised
    assert f" as {name}, by ComfyUI" in line
    convert(out, tmp_path / "again.safetensors", "single-file", name)
    assert (tmp_path / "again.safetensors").read_bytes() == out.read_bytes()


def test_a_shape_that_was_made_up_needs_a_config_to_be_cut(tmp_path: Path) -> None:
    """Without one, what the file says is taken for true."""
    kept = made("mxfp8", (30, 33))
    store = translated(Store.open(write(tmp_path / "x.safetensors", {"a.b": kept})))
    assert store.shapes() == {"a.b.weight": (32, 64)}
    assert near(read(store, "a.b.weight", (32, 64))[:30, :33], kept.want)


@pytest.mark.parametrize("said_of_it", [None, {"patch_size": 2}])
def test_a_config_that_says_little_cuts_nothing(
    said_of_it: dict[str, int] | None, tmp_path: Path
) -> None:
    """What is whole blocks already needs none: sides of 48 and 192 are of 16."""
    state, kept = plain_state(), {}
    for seed, key in enumerate([key for key in state if is_block_linear(key)]):
        kept[key.removesuffix(".weight")] = made("nvfp4", tuple(state.pop(key).shape), seed)
    config = {"config": json.dumps(said_of_it)} if said_of_it else None
    part = open_component(write(tmp_path / "x.safetensors", kept, state, config), "transformer")
    assert (part.spec.dim, part.spec.ffn_dim) == (48, TINY.transformer.ffn_dim)


def spoiled(kept: Kept, changes: Mapping[str, Tensor | None]) -> Kept:
    """Some of its tensors others, or none."""
    tensors = {**kept.tensors, **changes}
    return replace(kept, tensors={key: each for key, each in tensors.items() if each is not None})


NAN, INF = torch.tensor(float("nan")), torch.tensor(float("inf"))
F8 = torch.float8_e4m3fn
STATE = "weight.quant_state.bitsandbytes__nf4"
U8 = torch.uint8


def state(**words: object) -> Tensor:
    return said(**{"blocksize": 64, "shape": list(SHAPE), **words})


def turned(group: object) -> Tensor:
    return said(format="int8_tensorwise", convrot=True, convrot_groupsize=group)


SPOILED: Mapping[str, tuple[str, dict[str, Tensor | None], str]] = {
    "a scale for too few rows": ("fp8_scaled", {"scale_weight": torch.ones(23)}, "each of 24 rows"),
    "a scale for each column": ("fp8_scaled", {"scale_weight": torch.ones(1, 24)}, "each of 24"),
    "a scale of integers": ("fp8_scaled", {"scale_weight": torch.ones(1).int()}, "is of F32 or"),
    "an empty scale": ("fp8_scaled", {"scale_weight": torch.ones(0)}, "one number"),
    "a scale that is NaN": ("fp8_scaled", {"scale_weight": NAN}, "scales are finite"),
    "an infinite scale": ("fp8_scaled e5m2", {"scale_weight": INF}, "scales are finite"),
    "integers with its scale": ("fp8_scaled", {"weight": torch.ones(24, 32).char()}, "F8_E4M3"),
    "a cube": ("fp8_scaled", {"weight": torch.ones(2, 3, 4).to(F8)}, "weight is a matrix"),
    "two kinds at once": ("fp8_scaled", {"SCB": torch.ones(24)}, "SCB too"),
    "no scale": ("comfy_float8", {"weight_scale": None}, "has its weight_scale; got none"),
    "no scale of what the metadata lists": (
        "comfy_float8 in the metadata", {"weight_scale": None, "input_scale": None}, "got none"),
    "values of another dtype than said": (
        "comfy_float8", {"comfy_quant": said(format="float8_e5m2")}, "weight is of F8_E5M2"),
    "no JSON": ("comfy_float8", {"comfy_quant": torch.zeros(9, dtype=U8)}, "JSON from a"),
    "JSON that is a list": (
        "comfy_float8", {"comfy_quant": torch.tensor([91, 93], dtype=U8)}, "a list in"),
    "10 MB of JSON": (
        "comfy_float8", {"comfy_quant": torch.full((10**7,), 32, dtype=U8)}, "at most 65536 bytes"),
    "a format of no name": ("comfy_int8", {"comfy_quant": said(format=3)}, "names a format"),
    "JSON of floats": ("comfy_int8", {"comfy_quant": torch.ones(3)}, "comfy_quant is of U8"),
    "a scale that nothing knows": (
        "comfy_int8", {"pre_quant_scale": torch.ones(32)}, "pre_quant_scale too"),
    "turned by a group of 8": (
        "comfy_int8_convrot",
        {"comfy_quant": turned(8)}, "a power of 4"),
    "turned by more than a row": (
        "comfy_int8_convrot",
        {"comfy_quant": turned(64)}, "32 columns"),
    "turned by text": (
        "comfy_int8_convrot",
        {"comfy_quant": turned("x")}, "power of 4"),
    "scales that are not in tiles": ("nvfp4", {"weight_scale": torch.ones(32, 2).to(F8)},
     "[128, 4]"),
    "scales of a larger weight": ("nvfp4", {"weight_scale": torch.ones(256, 4).to(F8)}, "[128, 4]"),
    "no scale of all": ("nvfp4", {"weight_scale_2": None}, "has its weight_scale_2"),
    "a scale of all that is NaN": ("nvfp4", {"weight_scale_2": NAN}, "scales are finite"),
    "a scale of a block that is NaN": (
        "nvfp4", {"weight_scale": torch.full((128, 4), 127, dtype=U8).view(F8)},
         "scales are finite"),
    "half a block": ("nvfp4", {"weight": torch.ones(32, 12, dtype=U8)}, "blocks of 16 values"),
    "exponents past the last": (
        "mxfp8", {"weight_scale": torch.full((128, 4), 255, dtype=U8)}, "scales are finite"),
    "exponents of floats": ("mxfp8", {"weight_scale": torch.ones(128, 4)}, "F8_E8M0 or U8"),
    "nibbles past the end": ("bnb_4bit", {"weight": torch.ones(385, 1, dtype=U8)}, "[384, 1]"),
    "too few nibbles": ("bnb_4bit", {"weight": torch.ones(383, 1, dtype=U8)}, "[384, 1]"),
    "a scale for no block": ("bnb_4bit", {"weight.absmax": torch.ones(13)}, "of shape [12]"),
    "a map of 15": ("bnb_4bit", {"weight.quant_map": torch.ones(15)}, "of shape [16]"),
    "a map of NaN": ("bnb_4bit", {"weight.quant_map": NAN.repeat(16)}, "scales are finite"),
    "no map": ("bnb_4bit", {"weight.quant_map": None}, "has its weight.quant_map"),
    "blocks of 3": ("bnb_4bit", {STATE: state(blocksize=3)}, "the size of its blocks"),
    "a shape of text": ("bnb_4bit", {STATE: state(shape="x")}, "gives its shape"),
    "a shape below zero": ("bnb_4bit", {STATE: state(shape=[-24, 32])}, "gives its shape"),
    "a shape past an address": ("bnb_4bit", {STATE: state(shape=[2**40, 2**40])},
     "gives its shape"),
    "another shape": ("bnb_4bit", {STATE: state(shape=[24, 64])}, "[768, 1]"),
    "half of what is nested": (
        "bnb_4bit nested", {"weight.nested_quant_map": None}, "has its weight.nested_quant_map"),
    "no offset of what is nested": (
        "bnb_4bit nested", {STATE: state(nested_blocksize=256)}, "their offset"),
    "nested blocks of none": (
        "bnb_4bit nested", {STATE: state(nested_blocksize=0, nested_offset=0.1)}, "their offset"),
    "an offset that is NaN": (
        "bnb_4bit nested", {STATE: state(nested_blocksize=256, nested_offset=float("nan"))},
         "offset"),
    "rows without a scale": ("bnb_int8", {"SCB": torch.ones(23)}, "each of 24 rows"),
    "groups that no row is": ("sdnq", {"scale": torch.ones(24, 7, 1)}, "24 rows of 7 groups"),
    "a scale of one dimension": ("sdnq", {"scale": torch.ones(24)}, "for each row, or group"),
    "a zero point of another shape": ("sdnq", {"zero_point": torch.ones(24, 1)},
     "zero_point is of"),
    "a zero point that is NaN": ("sdnq", {"zero_point": NAN.repeat(24, 4, 1)}, "scales are finite"),
    "one factor of low rank": ("sdnq svd", {"svd_down": None}, "has its svd_down"),
    "factors of two ranks": ("sdnq svd", {"svd_down": torch.ones(4, 32)}, "[3, 32]"),
    "groups of torchao that no row is": (
        "torchao groups", {"_weight_scale": torch.ones(24, 5)}, "row or group of one"),
    "a zero point for no group": (
        "torchao", {"_weight_zero_point": torch.ones(23, 1).char()}, "_weight_zero_point is of"),
    "quanto without a scale": ("quanto", {"weight._scale": None}, "has its weight._scale"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILED)
def test_what_contradicts_itself_is_refused(name: str, tmp_path: Path) -> None:
    kind, changes, words = SPOILED[name]
    kept = spoiled(made(kind), changes)
    store = Store.open(write(tmp_path / "x.safetensors", {"a.b": kept}))
    with pytest.raises(CorruptFile) as caught:  # noqa: PT012  # in the header, or in the scales
        seen = translated(store, kept.config)
        read(seen, "a.b.weight", seen.shapes()["a.b.weight"])
    assert words in str(caught.value)
    assert str(tmp_path) in caught.value.got
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


UNREAD: Mapping[str, tuple[dict[str, Tensor], str]] = {
    **{
        name: ({"weight": torch.ones(24, 32).char(), "comfy_quant": said(format=name)}, name)
        for name in ("convrot_w4a4", "asym_w4a8_int8", "awq_w4a16")
    },
    "a format to come": (
        {"weight": torch.ones(24, 32).char(), "comfy_quant": said(format="int3")}, "format 'int3'"),
    "quanto qint4": (
        {"weight._data._data": torch.ones(12, 32, dtype=U8), "weight._scale": torch.ones(24, 1),
                      "weight._shift": torch.ones(24, 1)}, "quanto's qint4"),
    "gptq": ({"qweight": torch.ones(4, 24).int(), "qzeros": torch.ones(1, 3).int(),
              "scales": torch.ones(1, 24), "g_idx": torch.ones(32).int()}, "GPTQ, AWQ"),
    "deepseek": ({"weight": torch.ones(24, 32).to(F8), "weight_scale_inv": torch.ones(1, 1)},
     "DeepSeek"),
    "int8 that may be turned": (
        {"weight": torch.ones(24, 32).char(), "weight_scale": torch.ones(24, 1)},
         "nothing says the meaning"),
    "bitsandbytes in tiles": (
        {"weight": torch.ones(24, 32).char(), "SCB": torch.ones(24),
         "weight_format": torch.tensor(2, dtype=U8)}, "tiles of a card"),
    "sdnq without its config": (dict(made("sdnq").tensors), "SDNQ's weights are read with their"),
    "sdnq int8 without its config": (dict(made("sdnq int8").tensors),
     "SDNQ's weights are read with"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREAD)
def test_what_is_known_and_not_read_is_named_with_what_to_do(name: str, tmp_path: Path) -> None:
    tensors, words = UNREAD[name]
    file = write(tmp_path / "x.safetensors", {"a.b": Kept(tensors, np.zeros(SHAPE))})
    with pytest.raises(LayoutError) as caught:
        translated(Store.open(file))
    assert words in caught.value.rule
    assert "\n" not in str(caught.value)
    (seen,) = inspect(file)
    assert seen.problem == str(caught.value)
    assert {key.name for key in seen.keys} == {f"a.b.{part}" for part in tensors}


@pytest.mark.parametrize("changes", [
    {"weights_dtype": "uint5"}, {"use_codebook": True}, {"use_quantized_matmul": True},
    {"scale_dtype": "int8"}, {"modules_quant_config": {"a": {}}}, {"weights_dtype": None},
    {"modules_dtype_dict": {"minimum_6bit": ["a"]}}, {"quant_method": "gptq"},
])  # fmt: skip
def test_sdnq_with_more_than_is_read_is_named(changes: dict[str, object], tmp_path: Path) -> None:
    kept = made("sdnq")
    store = Store.open(write(tmp_path / "x.safetensors", {"a.b": kept}))
    with pytest.raises(LayoutError, match="SDNQ"):
        translated(store, {**kept.config, **changes})


@pytest.mark.parametrize("text", ["[]", '{"layers": 3}', '{"layers": {"a.b": 3}}', "{", "{}"])
def test_metadata_that_make_no_sense_are_refused(text: str, tmp_path: Path) -> None:
    file = write(tmp_path / "x.safetensors", {}, {"a.b.weight": torch.ones(2, 2)},
                 {"_quantization_metadata": text})  # fmt: skip
    with pytest.raises(CorruptFile):
        translated(Store.open(file))


def test_nothing_is_made_of_a_file_of_plain_floats(tmp_path: Path) -> None:
    plain = {"a.weight": torch.ones(2, 2), "a.scale": torch.ones(2), "b.scale": torch.ones(2),
             "c.weight_scale": torch.ones(1), "c.weight": torch.ones(2, 2)}  # fmt: skip
    store = Store.open(write(tmp_path / "x.safetensors", {}, plain))
    assert translated(store) is store


@pytest.mark.parametrize("dtype", ["F8_E8M0", "F4", "F6_E2M3", "F6_E3M2", "C64", "F8_E4M3FNUZ"])
def test_a_dtype_that_is_not_read_is_listed_and_named(dtype: str, tmp_path: Path) -> None:
    """`inspect` shows every tensor; what needs one says which dtype it is."""
    state = plain_state()
    key = "layers.0.attention_norm1.weight"
    bits = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "C64": 64}.get(dtype, 8)
    header, at = {"__metadata__": {"config": json.dumps(config_of(TINY.transformer))}}, 0
    data = b""
    for name, value in state.items():
        raw = bytes(value.numel() * bits // 8) if name == key else value.numpy().tobytes()
        header[name] = {"dtype": dtype if name == key else "F32", "shape": list(value.shape),
                        "data_offsets": [at, at + len(raw)]}  # fmt: skip
        at, data = at + len(raw), data + raw
    text = json.dumps(header).encode()
    file = tmp_path / "x.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)
    (seen,) = inspect(file)
    assert next(each.dtype for each in seen.keys if each.name == key) == dtype
    assert seen.problem is not None
    assert seen.problem.startswith(f"{dtype} is not read")
    assert "ownload" not in seen.problem
    part = open_component(file, "transformer")
    with pytest.raises(BindError, match=f"{dtype} is not read"):
        bind(NextDiT(TINY.transformer), part)
    with pytest.raises(WeightsError, match=f"{dtype} is not read"):
        convert(file, tmp_path / "out.safetensors", "original")


def drawn(model: Path, vram: str | None) -> bytes:
    budget = Budget(vram=vram) if vram else None
    engine = open_engine(model, budget=budget)
    (result,) = (
        event.result
        for event in engine.generate(Request("1girl", seed=5, steps=2))
        if isinstance(event, Finished)
    )
    return result.picture.rgb


@pytest.mark.parametrize("kind", ["comfy_int8", "nvfp4", "bnb_4bit nested", "sdnq turned"])
def test_a_picture_is_that_of_the_unfolded_weights(
    kind: str, tiny_model: Path, tmp_path: Path
) -> None:
    """With a budget, where they stay folded on the host, and without."""
    spec = open_component(tiny_model / "transformer").spec
    models = [Path(shutil.copytree(tiny_model, tmp_path / name)) for name in ("theirs", "plain")]
    (file,) = (models[0] / "transformer").glob("*.safetensors")
    state, kept = load_file(file), {}
    for seed, key in enumerate([key for key in state if is_block_linear(key)]):
        weight = made(kind, tuple(state.pop(key).shape), seed)
        kept[key.removesuffix(".weight")] = weight
    config = config_of(spec) | {"quantization_config": dict(weight.config)}
    (models[0] / "transformer" / "config.json").write_text(json.dumps(config))
    write(file, kept, state)
    convert(models[0] / "transformer", models[1] / "transformer", "original", "float32", force=True)
    want = drawn(models[1], None)
    assert drawn(models[0], None) == want
    assert drawn(models[0], "1GB") == want
    checkpoint = open_checkpoint(models[0])
    blocks = read_inventory(checkpoint).transformer.blocks
    forms = {w.stored.name for block in blocks for w in block if is_block_linear(w.key)}
    assert forms == {"int8" if kind == "comfy_int8" else "float32"}
    networks = Networks(checkpoint, "float32", folded=True)
    assert isinstance(networks.of(DENOISE).layers[0].attention.out.weight, Folded)


@pytest.mark.parametrize("kind", ["fp8_scaled", "nvfp4", "comfy_int8_convrot"])
def test_an_adapter_is_folded_into_it(kind: str, tmp_path: Path) -> None:
    """What the adapter changes becomes a float, what is ours to keep stays, all else unfolds."""
    file, want = model_file(tmp_path, kind)
    stem, key = "layers.0.attention.out", "layers.0.attention.out.weight"
    rows, width = want[key].shape
    up, down = torch.randn(rows, 2), torch.randn(2, width)
    lora = {f"{stem}.lora_up.weight": up, f"{stem}.lora_down.weight": down,
            f"{stem}.alpha": torch.tensor(2.0)}  # fmt: skip
    save_file(lora, tmp_path / "lora.safetensors")
    spec = parse_adapter(str(tmp_path / "lora.safetensors"))
    merge(open_component(file, "transformer"), [spec], tmp_path / "out.safetensors")
    part = open_component(tmp_path / "out.safetensors", "transformer")
    for name, values in want.items():
        got = read_piece(part.store, part.pieces[name], part.stored, torch.float32)
        more = (up @ down).double().numpy() if name == key else 0
        assert near(got, values + more), name
    kept = kind == "fp8_scaled"
    assert (key in part.stored, "layers.1.attention.out.weight" in part.stored) == (False, kept)


@pytest.mark.parametrize("kind", ["quanto", "torchao", "comfy_float8"])
def test_a_single_file_of_a_model_is_told_by_plain_names(kind: str, tmp_path: Path) -> None:
    (tmp_path / "diffusion_models").mkdir()
    file, _ = model_file(tmp_path / "diffusion_models", kind)
    assert parts_in(tmp_path) == {"transformer": file}


def test_a_doctor_names_it_in_a_line(tmp_path: Path) -> None:
    file, want = model_file(tmp_path, "bnb_4bit")
    part = open_component(file, "transformer")
    found = keys(part, explained(part))
    assert f"{len(want)} as bnb_4bit, by bitsandbytes" in found.says
    assert "\n" not in found.says
    (seen,) = numbers.values({"transformer": part}, everything=True)  # of the file's own tensors
    assert (seen.check, seen.colour) == ("values", "green")
