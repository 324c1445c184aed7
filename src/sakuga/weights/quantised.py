"""What the linears of a file are that another program quantised, by its header alone.

Names, dtypes and shapes tell, and the little JSON that some tensors are. What contradicts
itself is refused with the rule that it breaks, what is known by name and not read by that name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sakuga.errors import CorruptFile, LayoutError
from sakuga.weights.formats import Shape, StorageFormat
from sakuga.weights.header import TensorInfo
from sakuga.weights.schemes import (
    BNB_4BIT,
    BNB_INT8,
    COMFY_CONVROT,
    COMFY_FLOAT8,
    COMFY_INT8,
    FLOAT8,
    FLOAT8_SCALE,
    FLOATS,
    FORMATS_UNREAD,
    FORMS,
    FP8_SCALED,
    LISTED,
    MXFP8,
    NESTED,
    NVFP4,
    OTHERWISE,
    QUANTO,
    SDNQ,
    SDNQ_DTYPES,
    STATES,
    TORCHAO,
    UNREAD,
    Quantised,
    Scheme,
)
from sakuga.weights.store import Store
from sakuga.weights.untrusted import corrupt, parse_json, short

MAX_SAID = 1 << 16  # bytes of the JSON in a tensor


@dataclass(frozen=True, slots=True)
class Context:
    """What is said of all weights of a file: its metadata, and a config's quantization_config."""

    layers: Mapping[str, Any]
    metadata: Mapping[str, str]
    config: Mapping[str, Any]

    @classmethod
    def of(cls, store: Store, config: Mapping[str, Any]) -> Context:
        """What the metadata of a file say. Raises CorruptFile where they contradict themselves."""
        layers: Any = {}
        if LISTED in store.metadata:
            where = f"{LISTED} of {store.path}"
            layers = parse_json(store.metadata[LISTED].encode("utf-8", "surrogatepass"), where)
            layers = layers.get("layers")
            if not isinstance(layers, dict) or not all(
                isinstance(each, dict) for each in layers.values()
            ):
                rule = f"{LISTED} says of each of its layers by which format it is kept"
                raise corrupt(store.path, rule, short(layers))
        return cls(layers, store.metadata, config)


@dataclass(frozen=True, slots=True)
class Linear:
    """The tensors of one linear in a file, by what follows its name."""

    store: Store
    name: str
    keys: Mapping[str, str]

    def dtype(self, part: str) -> str | None:
        """The dtype of a tensor, None where there is none."""
        return self.store.info(self.keys[part]).dtype if part in self.keys else None

    def info(self, part: str, dtypes: tuple[str, ...]) -> TensorInfo:
        """A tensor that has to be there, of one of some dtypes. Raises CorruptFile."""
        if part not in self.keys:
            raise self.wrong(f"a weight that is quantised has its {part}", "none")
        info = self.store.info(self.keys[part])
        if info.dtype not in dtypes:
            rule = f"{part} is of " + " or ".join(dtypes)
            raise self.wrong(rule, f"{info.dtype} {list(info.shape)}")
        return info

    def said(self, part: str) -> dict[str, Any]:
        """The JSON that a tensor is."""
        info = self.info(part, ("U8", "I8"))
        if info.nbytes > MAX_SAID:
            raise self.wrong(f"{part} is JSON of at most {MAX_SAID} bytes", f"{info.nbytes}")
        key = self.keys[part]
        return parse_json(bytes(self.store.view(key)), f"{short(key)} of {self.store.path}")

    def wrong(self, rule: str, got: str) -> CorruptFile:
        """The error for a linear whose tensors contradict each other."""
        return corrupt(self.store.path, rule, f"{got} for {short(self.name)}")

    def refused(self, what: str) -> LayoutError:
        """The error for a scheme that is known by name and not read."""
        got = f"weights kept so in {self.store.path}, {short(self.name)} among them"
        return LayoutError(f"{what} is not read", got, OTHERWISE)

    def quantised(
        self,
        scheme: Scheme,
        shape: Shape,
        parts: Mapping[str, str],
        said: Mapping[str, float] | None = None,
        form: StorageFormat | None = None,
    ) -> Quantised:
        """The weight. Raises CorruptFile where tensors lie beside it that the scheme has not."""
        odd = sorted(self.keys.keys() - {*scheme.parts, *scheme.aside, "bias"})
        if odd:
            known = ", ".join(scheme.parts)
            raise self.wrong(f"a weight kept as {scheme.name} has {known}", f"{odd[0]} too")
        named = {role: self.keys[part] for role, part in parts.items() if part in self.keys}
        return Quantised(scheme, shape, named, said or {}, form)

    def by_rows(
        self, scheme: Scheme, values: str, scale: str, dtypes: tuple[str, ...]
    ) -> Quantised:
        """A weight of one value each times a scale, of its row or of all."""
        info, shape = self.info(values, dtypes), self.matrix(values, dtypes)
        self.scales(scale, shape[0])
        said = {"divisor": 127.0} if scheme is BNB_INT8 else {}
        parts = {"values": values, "scale": scale}
        return self.quantised(scheme, shape, parts, said, FORMS.get(info.dtype))

    def matrix(self, part: str, dtypes: tuple[str, ...]) -> Shape:
        """The shape of a tensor that has to be a matrix."""
        shape = self.info(part, dtypes).shape
        if len(shape) != 2 or not math.prod(shape):
            raise self.wrong(f"{part} is a matrix", f"{list(shape)}")
        return shape

    def scales(self, part: str, rows: int) -> None:
        """Refuse scales that are neither one for all nor one for each row."""
        shape = self.info(part, FLOATS).shape
        if shape not in ((), (1,), (1, 1), (rows,), (rows, 1)):
            rule = f"{part} is one number, or one for each of {rows} rows"
            raise self.wrong(rule, f"{list(shape)}")

    def shaped(self, part: str, dtypes: tuple[str, ...], *shapes: Shape) -> None:
        """Refuse a tensor that has none of these shapes."""
        shape = self.info(part, dtypes).shape
        if shape not in shapes:
            wanted = " or ".join(str(list(each)) for each in shapes)
            raise self.wrong(f"{part} is of shape {wanted}", f"{list(shape)}")


def quantised_of(linear: Linear, context: Context) -> Quantised | None:
    """What the weight of a linear is; None where no other program quantised it.

    Raises CorruptFile where its tensors contradict each other, and LayoutError where it is
    kept in a way that is known by name and not read.
    """
    keys = linear.keys.keys()
    if "comfy_quant" in keys or linear.name in context.layers:
        return _comfy(linear, context)
    for marks, read in READERS:
        if keys & marks:
            return read(linear, context)
    few = linear.dtype("weight") in ("U8", "I8", *FLOAT8)
    if "scale" in keys and few:
        return _sdnq(linear, context)
    if "weight_scale" in keys and linear.dtype("weight") in FLOAT8:
        return linear.by_rows(FLOAT8_SCALE, "weight", "weight_scale", FLOAT8)
    unread = next((what for mark, what in UNREAD.items() if mark in keys), None)
    if unread and (few or "weight" not in keys):
        raise linear.refused(unread)
    return None


def _comfy(linear: Linear, context: Context) -> Quantised:
    """By the JSON in `comfy_quant`, or in the metadata."""
    tensor = "comfy_quant" in linear.keys
    said = linear.said("comfy_quant") if tensor else context.layers[linear.name]
    name = said.get("format")
    read = COMFY.get(name) if isinstance(name, str) else None
    if read is not None:
        return read(linear, said)
    if not isinstance(name, str):
        raise linear.wrong("comfy_quant names a format", short(name))
    known = f"ComfyUI's {name}" if name in FORMATS_UNREAD else f"a ComfyUI format {short(name)}"
    raise linear.refused(known)


def _comfy_float8(linear: Linear, said: Mapping[str, Any]) -> Quantised:
    dtype = "F8_E4M3" if said["format"] == "float8_e4m3fn" else "F8_E5M2"
    return linear.by_rows(COMFY_FLOAT8, "weight", "weight_scale", (dtype,))


def _comfy_int8(linear: Linear, said: Mapping[str, Any]) -> Quantised:
    turned, group = said.get("convrot", False), said.get("convrot_groupsize", 256)
    if not turned:
        return linear.by_rows(COMFY_INT8, "weight", "weight_scale", ("I8",))
    shape = linear.matrix("weight", ("I8",))
    linear.scales("weight_scale", shape[0])
    power = type(group) is int and group >= 4 and group.bit_count() == 1
    if not power or group.bit_length() % 2 == 0 or shape[1] % group:
        rule = f"convrot turns groups of a power of 4 that {shape[1]} columns are whole ones of"
        raise linear.wrong(rule, short(group))
    parts = {"values": "weight", "scale": "weight_scale"}
    return linear.quantised(COMFY_CONVROT, shape, parts, {"turned": group})


def _nvfp4(linear: Linear, said: Mapping[str, Any]) -> Quantised:
    del said
    rows, width = linear.matrix("weight", ("U8",))
    _swizzled(linear, ("F8_E4M3",), (rows, 2 * width), 16)
    linear.shaped("weight_scale_2", ("F32",), (), (1,))
    parts = {"values": "weight", "scale": "weight_scale", "whole": "weight_scale_2"}
    return linear.quantised(NVFP4, (rows, 2 * width), parts)


def _mxfp8(linear: Linear, said: Mapping[str, Any]) -> Quantised:
    del said
    shape = linear.matrix("weight", ("F8_E4M3",))
    _swizzled(linear, ("F8_E8M0", "U8"), shape, 32)
    return linear.quantised(MXFP8, shape, {"values": "weight", "scale": "weight_scale"})


def _swizzled(linear: Linear, dtypes: tuple[str, ...], shape: Shape, block: int) -> None:
    """The scales of blocks lie in tiles of 128 rows and 4 columns, the last ones made up."""
    if shape[1] % block:
        raise linear.wrong(f"the rows of weight are blocks of {block} values", f"{shape[1]}")
    tiles = -(-shape[0] // 128), -(-shape[1] // block // 4)
    linear.shaped("weight_scale", dtypes, (128 * tiles[0], 4 * tiles[1]))


def _fp8_scaled(linear: Linear, context: Context) -> Quantised:
    del context
    return linear.by_rows(FP8_SCALED, "weight", "scale_weight", FLOAT8)


def _bnb_4bit(linear: Linear, context: Context) -> Quantised:
    """By the JSON of its state, which gives the shape too."""
    del context
    mark = next(part for part in STATES.values() if part in linear.keys)
    said = linear.said(mark)
    shape, block = said.get("shape"), said.get("blocksize")
    if (
        not isinstance(shape, list) or len(shape) != 2 or type(block) is not int
        or not all(type(n) is int and 0 < n < 2**31 for n in shape)
        or block not in (32, 64, 128, 256, 512, 1024, 2048, 4096)
    ):  # fmt: skip
        rule = "the state of a weight gives its shape and the size of its blocks"
        raise linear.wrong(rule, f"{short(shape)} and {short(block)}")
    count = math.prod(shape)
    blocks, size = -(-count // block), -(-count // 2)
    linear.shaped("weight", ("U8", *FLOATS, "I8"), (size, 1), (1, size), (size,))
    linear.info("weight", ("U8",))  # of those, what bytes can be cut from
    linear.shaped("weight.quant_map", ("F32",), (16,))
    numbers: dict[str, float] = {"block": block}
    nested = NESTED[0] in linear.keys or NESTED[1] in linear.keys
    linear.shaped("weight.absmax", ("U8",) if nested else ("F32",), (blocks,))
    if nested:
        inner, offset = said.get("nested_blocksize"), said.get("nested_offset")
        if type(inner) is not int or inner < 1 or not isinstance(offset, int | float) or not (
            math.isfinite(offset)
        ):  # fmt: skip
            rule = "the state of a weight with nested scales gives their blocks and their offset"
            raise linear.wrong(rule, f"{short(inner)} and {short(offset)}")
        linear.shaped(NESTED[0], ("F32",), (-(-blocks // inner),))
        linear.shaped(NESTED[1], ("F32",), (256,))
        numbers |= {"inner": inner, "offset": float(offset)}
    parts = {
        "values": "weight", "map": "weight.quant_map", "scale": "weight.absmax",
        "inner_scale": NESTED[0], "inner_map": NESTED[1],
    }  # fmt: skip
    return linear.quantised(BNB_4BIT, tuple(shape), parts, numbers)


def _bnb_int8(linear: Linear, context: Context) -> Quantised:
    del context
    if "weight_format" in linear.keys:
        linear.shaped("weight_format", ("U8",), (), (1,))
        if any(bytes(linear.store.view(linear.keys["weight_format"]))):
            raise linear.refused("bitsandbytes' int8 in tiles of a card")
    return linear.by_rows(BNB_INT8, "weight", "SCB", ("I8",))


def _sdnq(linear: Linear, context: Context) -> Quantised:
    """By the quantization_config beside it, without which nobody knows whether it was turned."""
    config = context.config
    if config.get("quant_method") not in ("sdnq", "sdnq_training"):
        raise LayoutError(
            "SDNQ's weights are read with their quantization_config, which alone says whether "
            "they were turned by a Hadamard matrix",
            f"none with {linear.store.path}, {short(linear.name)} among its weights",
            "Put the config.json or quantization_config.json of these weights beside them",
        )
    kinds = [config.get("weights_dtype"), *(config.get("modules_dtype_dict") or {})]
    odd = [kind for kind in kinds if kind not in SDNQ_DTYPES]
    for name in ("use_codebook", "use_quantized_matmul", "scale_dtype", "modules_quant_config",
                 "zero_point_dtype", "use_dynamic_quantization"):  # fmt: skip
        odd += [f"with {name}"] if config.get(name) else []
    if odd:
        raise linear.refused(f"SDNQ's {short(odd[0])}")
    dtypes = ("U8", "I8", "F8_E4M3")
    values, scale = linear.info("weight", dtypes), linear.info("scale", FLOATS).shape
    if len(scale) not in (2, 3) or scale[-1] != 1 or not math.prod(scale):
        raise linear.wrong("scale is one number for each row, or group of one", f"{list(scale)}")
    rows, groups = scale[0], math.prod(scale[1:])
    packed = len(values.shape) == 1
    count = values.nbytes * (1 + packed)
    if count % (rows * groups) or not (packed or values.shape[0] == rows):
        rule = f"weight is {rows} rows of {groups} groups"
        raise linear.wrong(rule, f"{list(values.shape)} of {values.dtype}")
    shape = rows, count // rows
    if "zero_point" in linear.keys:
        linear.shaped("zero_point", FLOATS, scale)
    low = [part for part in ("svd_up", "svd_down") if part in linear.keys]
    if low:
        rank = linear.matrix("svd_up", FLOATS)[1]
        linear.shaped("svd_up", FLOATS, (rows, rank))
        linear.shaped("svd_down", FLOATS, (rank, shape[1]))
    said: dict[str, float] = {"groups": groups}
    if packed:
        said["least"] = 0 if "zero_point" in linear.keys else -8
    if config.get("use_hadamard"):
        said |= _turned(linear, config.get("hadamard_group_size"), shape[1])
    alone = groups == 1 and not (low or "zero_point" in linear.keys or "turned" in said)
    form = FORMS.get(values.dtype) if alone and len(values.shape) == 2 else None
    parts = {"values": "weight", "scale": "scale", "zero": "zero_point", "up": "svd_up",
             "down": "svd_down"}  # fmt: skip
    return linear.quantised(SDNQ, shape, parts, said, form)


def _turned(linear: Linear, group: object, width: int) -> dict[str, float]:
    """The size of the groups that SDNQ turned: as asked, halved until a row is whole groups."""
    if type(group) is not int or not 4 <= group <= 2**14:
        raise linear.wrong("hadamard_group_size is a whole number from 4", short(group))
    size = 1 << (min(width, group) - 1).bit_length()
    while width % size:
        size //= 2
    return {"turned": size} if size >= 4 else {}


def _torchao(linear: Linear, context: Context) -> Quantised:
    """By what the metadata say of a tensor; without them, by the shapes of what is there."""
    text = context.metadata.get(f"{linear.name}.weight", "{}").encode("utf-8", "surrogatepass")
    said = parse_json(text, f"the metadata of {linear.store.path}")
    kind = said.get("_type", "Int8Tensor")
    if kind not in ("Int8Tensor", "Float8Tensor", "IntxUnpackedToInt8Tensor"):
        raise linear.refused(f"torchao's {short(kind)}")
    shape = linear.matrix("_weight_qdata", ("I8", *FLOAT8))
    scale = linear.info("_weight_scale", FLOATS).shape
    rows, groups = (
        (1, 1) if math.prod(scale) == 1 else (*scale, 0)[:2] if len(scale) < 3 else (0, 0)
    )
    if rows not in (1, shape[0]) or not groups or shape[1] % groups:
        rule = "_weight_scale is one number, or one for each row or group of one"
        raise linear.wrong(rule, f"{list(scale)} for {list(shape)}")
    offset = False
    if "_weight_zero_point" in linear.keys:
        linear.shaped("_weight_zero_point", ("I8",), scale)
        offset = any(bytes(linear.store.view(linear.keys["_weight_zero_point"])))
    parts = {"values": "_weight_qdata", "scale": "_weight_scale"}
    parts |= {"less": "_weight_zero_point"} if offset else {}
    dtype = linear.info("_weight_qdata", ("I8", *FLOAT8)).dtype
    form = FORMS.get(dtype) if groups == 1 and not offset else None
    return linear.quantised(TORCHAO, shape, parts, {"groups": groups}, form)


def _quanto(linear: Linear, context: Context) -> Quantised:
    del context
    return linear.by_rows(QUANTO, "weight._data", "weight._scale", ("I8", *FLOAT8))


Reader = Callable[[Linear, Context], Quantised]
READERS: tuple[tuple[frozenset[str], Reader], ...] = (
    (frozenset({"scale_weight"}), _fp8_scaled),
    (frozenset(STATES.values()), _bnb_4bit),
    (frozenset({"SCB"}), _bnb_int8),
    (frozenset({"_weight_qdata"}), _torchao),
    (frozenset({"weight._data"}), _quanto),
)
COMFY: Mapping[str, Callable[[Linear, Mapping[str, Any]], Quantised]] = {
    "float8_e4m3fn": _comfy_float8,
    "float8_e5m2": _comfy_float8,
    "int8_tensorwise": _comfy_int8,
    "nvfp4": _nvfp4,
    "mxfp8": _mxfp8,
}
