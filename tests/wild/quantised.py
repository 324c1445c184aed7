"""Files that other programs quantise, read by us, against the weights they say themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sakuga.checkpoint.bind import read_piece
from sakuga.checkpoint.families.tables import config_of
from sakuga.checkpoint.folder import open_component
from sakuga.checkpoint.quantising import WAYS
from sakuga.commands.convert import convert
from sakuga.model.nextdit import NextDiT
from sakuga.model.spec import NextDiTSpec
from sakuga.weights.formats import is_block_linear
from wild.files import Row

TOLERANCE = 1e-5  # of the largest value of a weight
# No side of the second and third is a multiple of 16 throughout, nor of 32 or of 128.
PLAIN = NextDiTSpec(
    dim=192, n_layers=2, n_refiner_layers=1, n_heads=4, n_kv_heads=2, axes_dims=(16, 16, 16),
    cap_feat_dim=20, clip_text_dim=12, multiple_of=16, in_channels=4,
)  # fmt: skip
SPECS = (
    PLAIN,
    replace(PLAIN, multiple_of=36, n_kv_heads=1),
    replace(PLAIN, dim=280, n_heads=5, n_kv_heads=5, axes_dims=(16, 20, 20), multiple_of=44),
)
Weights = Mapping[str, Tensor]
Made = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, str]]  # file, weights, metadata
Maker = Callable[[Weights], Made]


def compare(folder: Path) -> list[Row]:
    """A row for each kind: the largest error over all shapes, and how many weights were read."""
    place = folder / "quantised"
    place.mkdir(exist_ok=True)
    rows = [_row(name, make, place) for name, make in MAKERS.items()]
    return [*rows, *(_written(name, place) for name in WAYS)]


def _written(name: str, place: Path) -> Row:
    """What comfy-kitchen makes of a file that we write, against what we make of it."""
    from comfy_kitchen.tensor import (  # type: ignore[import-not-found]
        TensorCoreFP8Layout,
        TensorWiseINT8Layout,
    )

    layout = TensorWiseINT8Layout if name == "comfy_int8" else TensorCoreFP8Layout
    torch.manual_seed(5)
    plain, out = place / "plain.safetensors", place / f"ours {name}.safetensors"
    state = {key: torch.randn_like(value) for key, value in NextDiT(SPECS[2]).state_dict().items()}
    save_file(state, plain, {"config": json.dumps(config_of(SPECS[2]))})
    convert(plain, out, "single-file", name, force=True)
    tensors, part, errors = load_file(out), open_component(out, "transformer"), []
    for stem, weight in _matrices(state):
        scale = tensors[stem + (".scale_weight" if name == "fp8_scaled" else ".weight_scale")]
        shape = tuple(weight.shape)
        told = layout.Params(scale=scale, orig_dtype=torch.float32, orig_shape=shape)
        want = layout.dequantize(tensors[f"{stem}.weight"], told)
        key = f"{stem}.weight"
        got = read_piece(part.store, part.pieces[key], part.stored, torch.float32)
        errors.append(((got - want).abs().max() / want.abs().max()).item())
    found = f"{len(errors)} weights of ours, off by at most {max(errors):.1e}"
    return Row(f"written as {name}, read by comfy-kitchen", found, max(errors) <= TOLERANCE)


def _row(name: str, make: Maker, place: Path) -> Row:
    errors, count = [], 0
    for seed, spec in enumerate(SPECS):
        torch.manual_seed(seed + 11)
        weights = {
            key: torch.randn_like(value) * 0.05 for key, value in NextDiT(spec).state_dict().items()
        }
        tensors, want, metadata = make(weights)
        config = dict(config_of(spec)) | json.loads(metadata.pop("config", "{}"))
        file = place / f"{name}-{seed}.safetensors"
        whole = {key: value.contiguous().clone() for key, value in tensors.items()}
        save_file(whole, file, metadata | {"config": json.dumps(config)})
        part = open_component(file, "transformer")
        for key, value in want.items():
            got = read_piece(part.store, part.pieces[key], part.stored, torch.float32)
            error = (got - value.float()).abs().max() / value.float().abs().max()
            errors.append(error.item())
        count += len(want)
    found = f"{count} weights of {len(SPECS)} models, off by at most {max(errors):.1e}"
    return Row(f"quantised: {name}", found, max(errors) <= TOLERANCE)


def _matrices(weights: Weights) -> Iterator[tuple[str, Tensor]]:
    return ((key.removesuffix(".weight"), value) for key, value in weights.items()
            if is_block_linear(key))  # fmt: skip


def _comfy(layout: str, said: Mapping[str, Any], where: str = "tensor", **how: Any) -> Maker:
    """where: whether a tensor beside each weight, the metadata, or the old names say the format."""

    def make(weights: Weights) -> Made:
        from comfy_kitchen.tensor import QuantizedTensor  # type: ignore[import-not-found]

        tensors, want, layers = dict(weights), {}, {}
        for name, weight in _matrices(weights):
            group = next((size for size in (64, 16, 4) if weight.shape[1] % size == 0), 4)
            turned = {"convrot_groupsize": group} if "convrot" in how else {}
            value = QuantizedTensor.from_float(
                tensors.pop(f"{name}.weight"), layout, **how, **turned
            )
            tensors |= value.state_dict(f"{name}.weight")
            rows, columns = weight.shape
            want[f"{name}.weight"] = value.dequantize().float()[:rows, :columns]
            layers[name] = {**said, **turned}
        if where == "tensor":
            tensors |= {f"{name}.comfy_quant": torch.tensor(list(json.dumps(each).encode()),
                        dtype=torch.uint8) for name, each in layers.items()}  # fmt: skip
        elif where == "metadata":
            said_of_all = {"format_version": "1.0", "layers": layers}
            return tensors, want, {"_quantization_metadata": json.dumps(said_of_all)}
        else:
            tensors = {key.replace(".weight_scale", ".scale_weight"): value
                       for key, value in tensors.items()}  # fmt: skip
            tensors["scaled_fp8"] = torch.empty(2, dtype=torch.float8_e4m3fn)
        return tensors, want, {}

    return make


def _bnb_4bit(kind: str, nested: bool) -> Maker:
    def make(weights: Weights) -> Made:
        import bitsandbytes.functional as bnb  # type: ignore[import-not-found]

        tensors, want = dict(weights), {}
        for name, weight in _matrices(weights):
            packed, state = bnb.quantize_4bit(
                tensors.pop(f"{name}.weight"), quant_type=kind, compress_statistics=nested
            )
            tensors[f"{name}.weight"] = packed
            states = state.as_dict(packed=True)
            tensors |= {f"{name}.weight.{key}": value for key, value in states.items()}
            want[f"{name}.weight"] = bnb.dequantize_4bit(packed, state)
            assert want[f"{name}.weight"].shape == weight.shape
        return tensors, want, {}

    return make


def _bnb_int8(weights: Weights) -> Made:
    import bitsandbytes.functional as bnb

    tensors, want = dict(weights), {}
    for name, weight in _matrices(weights):
        values, scale, _ = bnb.int8_vectorwise_quant(weight.half())
        tensors |= {f"{name}.weight": values, f"{name}.SCB": scale,
                    f"{name}.weight_format": torch.tensor(0, dtype=torch.uint8)}  # fmt: skip
        want[f"{name}.weight"] = bnb.int8_vectorwise_dequant(values, scale)
    return tensors, want, {}


def _net(weights: Weights) -> nn.Module:
    """The matrices of the blocks as linears, by their names."""
    root = nn.Module()
    for name, weight in _matrices(weights):
        *path, last = name.split(".")
        at = root
        for part in path:
            if not hasattr(at, part):
                at.add_module(part, nn.Module())
            at = getattr(at, part)
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        linear.weight.data = weight.clone()
        at.add_module(last, linear)
    return root


def _rest(weights: Weights) -> dict[str, Tensor]:
    return {key: value for key, value in weights.items() if not is_block_linear(key)}


def _sdnq(**how: Any) -> Maker:
    def make(weights: Weights) -> Made:
        from sdnq import SDNQConfig, sdnq_post_load_quant  # type: ignore[import-not-found]

        made = sdnq_post_load_quant(_net(weights), **how)
        made = made[0] if isinstance(made, tuple) else made
        want = {}
        for name, weight in _matrices(weights):
            with torch.no_grad():
                want[f"{name}.weight"] = made.get_submodule(name)(torch.eye(weight.shape[1])).T
        config = SDNQConfig(**how).to_dict()
        said = {"config": json.dumps({"quantization_config": config}, default=str)}
        return _rest(weights) | made.state_dict(), want, said

    return make


def _torchao(config: Callable[[], Any]) -> Maker:
    def make(weights: Weights) -> Made:
        from torchao.prototype.safetensors.safetensors_support import (  # type: ignore
            flatten_tensor_state_dict,
        )
        from torchao.quantization import quantize_  # type: ignore[import-not-found]

        net = _net(weights)
        quantize_(net, config())
        state = net.state_dict()
        tensors, metadata = flatten_tensor_state_dict(state)
        want = {key: value.dequantize() for key, value in state.items()}
        return _rest(weights) | tensors, want, metadata

    return make


def _int8_of_torchao() -> Any:
    from torchao.quantization import Int8WeightOnlyConfig

    return Int8WeightOnlyConfig()


def _float8_of_torchao() -> Any:
    from torchao.quantization import Float8WeightOnlyConfig

    return Float8WeightOnlyConfig()


def _groups_of_torchao() -> Any:
    from torchao.quantization import IntxWeightOnlyConfig, MappingType, PerGroup

    return IntxWeightOnlyConfig(
        weight_dtype=torch.int4, granularity=PerGroup(4), mapping_type=MappingType.ASYMMETRIC
    )


def _quanto(kind: str) -> Maker:
    def make(weights: Weights) -> Made:
        from optimum import quanto  # type: ignore[import-not-found]

        net = _net(weights)
        quanto.quantize(net, weights=getattr(quanto, kind))
        quanto.freeze(net)
        want = {f"{name}.weight": net.get_submodule(name).weight.dequantize()
                for name, _ in _matrices(weights)}  # fmt: skip
        return _rest(weights) | net.state_dict(), want, {}

    return make


_FP8, _INT8 = "TensorCoreFP8Layout", "TensorWiseINT8Layout"
_E4M3, _TENSORWISE = {"format": "float8_e4m3fn"}, {"format": "int8_tensorwise"}
MAKERS: Mapping[str, Maker] = {
    "fp8_scaled": _comfy(_FP8, _E4M3, "old", scale="recalculate"),
    "comfy_quant float8_e4m3fn": _comfy(_FP8, _E4M3, scale="recalculate"),
    "comfy_quant float8_e5m2": _comfy(
        _FP8, {"format": "float8_e5m2"}, scale="recalculate", dtype=torch.float8_e5m2
    ),
    "_quantization_metadata float8": _comfy(_FP8, _E4M3, "metadata", scale="recalculate"),
    "comfy_quant int8_tensorwise": _comfy(_INT8, _TENSORWISE),
    "comfy_quant int8 by rows": _comfy(_INT8, _TENSORWISE, per_channel=True),
    "comfy_quant int8 convrot": _comfy(
        _INT8, {**_TENSORWISE, "convrot": True}, per_channel=True, convrot=True
    ),
    "comfy_quant nvfp4": _comfy("TensorCoreNVFP4Layout", {"format": "nvfp4"}),
    "_quantization_metadata nvfp4": _comfy(
        "TensorCoreNVFP4Layout", {"format": "nvfp4"}, "metadata"
    ),
    "comfy_quant mxfp8": _comfy("TensorCoreMXFP8Layout", {"format": "mxfp8"}),
    "bitsandbytes nf4": _bnb_4bit("nf4", False),
    "bitsandbytes nf4 nested": _bnb_4bit("nf4", True),
    "bitsandbytes fp4": _bnb_4bit("fp4", False),
    "bitsandbytes int8": _bnb_int8,
    "sdnq uint4": _sdnq(weights_dtype="uint4"),
    "sdnq int4": _sdnq(weights_dtype="int4"),
    "sdnq uint4 by rows, svd": _sdnq(weights_dtype="uint4", use_svd=True, svd_rank=8),
    "sdnq int8": _sdnq(weights_dtype="int8"),
    "sdnq int8 in groups": _sdnq(weights_dtype="int8", group_size=16),
    "sdnq uint8": _sdnq(weights_dtype="uint8"),
    "sdnq float8": _sdnq(weights_dtype="float8_e4m3fn"),
    "sdnq int8 turned": _sdnq(weights_dtype="int8", use_hadamard=True),
    "sdnq uint4 turned by 32": _sdnq(
        weights_dtype="uint4", use_hadamard=True, hadamard_group_size=32
    ),
    "torchao int8": _torchao(_int8_of_torchao),
    "torchao float8": _torchao(_float8_of_torchao),
    "torchao int4 in int8, in groups": _torchao(_groups_of_torchao),
    "quanto qint8": _quanto("qint8"),
    "quanto qfloat8": _quanto("qfloat8"),
}
