"""How other programs quantise: each scheme as data, told by what lies beside a weight.

A scheme keeps a weight as several tensors: its values in few bits, and companions that say what
they stand for. Which a file has, `weights.quantised` finds by names, dtypes and shapes; what
floats its weights are, the rules of `weights.unfold` say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sakuga.weights.formats import FLOAT8_E4M3, INT8, Shape, StorageFormat

FLOATS = ("F32", "F16", "BF16")
FLOAT8 = ("F8_E4M3", "F8_E5M2")
FORMS: Mapping[str, StorageFormat] = {"I8": INT8, "F8_E4M3": FLOAT8_E4M3}
LISTED = "_quantization_metadata"  # where ComfyUI says of all layers what else lies beside each
STATES = {name: f"weight.quant_state.bitsandbytes__{name}" for name in ("nf4", "fp4")}
SDNQ_DTYPES = ("int8", "uint8", "int4", "uint4", "float8_e4m3fn")
OTHERWISE = (
    "Take the model in bfloat16, in GGUF, or in a kind that docs/quantised.md lists; or let the "
    "program that wrote it write it in bfloat16"
)


@dataclass(frozen=True, slots=True)
class Scheme:
    """One way of other programs to keep a weight.

    name: what a file's tensors are called that are kept so. told: by which of the tensors of a
    linear; all of them are `parts`, by what follows its name, and `aside`, which say nothing of
    the weight. value: what a weight is, in words. rule: a name of `weights.unfold.RULES`.
    padding: rows and columns are made up to multiples of these.
    """

    name: str
    program: str
    told: str
    value: str
    rule: str
    parts: tuple[str, ...]
    aside: tuple[str, ...] = ()
    padding: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True)
class Quantised:
    """One weight as another program keeps it.

    parts: its tensors, by the names that its rule has for them. said: what else the rule asks.
    form: the storage format that holds the same values by rows, None where none does.
    """

    scheme: Scheme
    shape: Shape
    parts: Mapping[str, str]
    said: Mapping[str, float] = field(default_factory=dict)
    form: StorageFormat | None = None


_COMFY = ("weight", "weight_scale", "comfy_quant")
_INPUT = ("input_scale",)
FP8_SCALED = Scheme(
    "fp8_scaled", "ComfyUI", "`scale_weight`, with a marker `scaled_fp8`",
    "q · scale", "rows", ("weight", "scale_weight"), ("scale_input",),
)  # fmt: skip
COMFY_FLOAT8 = Scheme(
    "comfy_float8", "ComfyUI",
    "`weight_scale`, and a format float8_e4m3fn or float8_e5m2 in `comfy_quant` or the metadata",
    "q · scale", "rows", _COMFY, _INPUT,
)  # fmt: skip
COMFY_INT8 = Scheme(
    "comfy_int8", "ComfyUI", "`weight_scale`, and a format int8_tensorwise", "q · scale", "rows",
    _COMFY, _INPUT,
)  # fmt: skip
COMFY_CONVROT = Scheme(
    "comfy_int8_convrot", "ComfyUI", "`weight_scale`, and a format int8_tensorwise with convrot",
    "q · scale, each group of a row turned back by a Hadamard matrix", "turned", _COMFY, _INPUT,
)  # fmt: skip
NVFP4 = Scheme(
    "nvfp4", "ComfyUI", "`weight_scale_2`, and a format nvfp4",
    "e2m1 · scale of 16 values (swizzled) · scale of all", "nvfp4",
    (*_COMFY, "weight_scale_2"), _INPUT, (16, 16),
)  # fmt: skip
MXFP8 = Scheme(
    "mxfp8", "ComfyUI", "`weight_scale`, and a format mxfp8",
    "e4m3 · 2^(byte - 127) of 32 values (swizzled)", "mxfp8", _COMFY, _INPUT, (32, 32),
)  # fmt: skip
FLOAT8_SCALE = Scheme(
    "float8_scale", "several", "`weight_scale` beside float8 values, and nothing that says more",
    "q · scale", "rows", ("weight", "weight_scale"), _INPUT,
)  # fmt: skip
_STATE = ("weight", "weight.absmax", "weight.quant_map")
NESTED = ("weight.nested_absmax", "weight.nested_quant_map")
BNB_4BIT = Scheme(
    "bnb_4bit", "bitsandbytes", "`weight.quant_state.bitsandbytes__nf4` or `__fp4`",
    "map[q] · absmax of a block, which may be quantised too", "table",
    (*_STATE, *NESTED, *STATES.values()),
)  # fmt: skip
BNB_INT8 = Scheme(
    "bnb_int8", "bitsandbytes", "`SCB`", "q · SCB / 127", "rows", ("weight", "SCB"),
    ("weight_format",),
)  # fmt: skip
SDNQ = Scheme(
    "sdnq", "SDNQ",
    "`scale` beside a `weight` of few bits, with the quantization_config that belongs to it",
    "zero point + q · scale of a group, + svd_up · svd_down, turned back where it was turned",
    "groups", ("weight", "scale", "zero_point", "svd_up", "svd_down"),
)  # fmt: skip
TORCHAO = Scheme(
    "torchao", "torchao", "`_weight_qdata`: Int8Tensor, Float8Tensor, IntxUnpackedToInt8Tensor",
    "(q - zero point) · scale of a group", "groups",
    ("_weight_qdata", "_weight_scale", "_weight_zero_point"),
)  # fmt: skip
QUANTO = Scheme(
    "quanto", "optimum-quanto", "`weight._data`: qint8, qfloat8", "q · scale", "rows",
    ("weight._data", "weight._scale"), ("input_scale", "output_scale"),
)  # fmt: skip
SCHEMES = (
    FP8_SCALED, COMFY_FLOAT8, COMFY_INT8, COMFY_CONVROT, NVFP4, MXFP8, FLOAT8_SCALE, BNB_4BIT,
    BNB_INT8, SDNQ, TORCHAO, QUANTO,
)  # fmt: skip
# By its rule, whether a storage format of ours holds a weight.
HELD: Mapping[str, str] = {
    "rows": "as it is, in int8 or float8_e4m3; float8_e5m2 unfolds",
    "groups": "as it is, where one scale for a row is all; else it unfolds",
}
BY_NAME: Mapping[str, Scheme] = {each.name: each for each in SCHEMES}
# Known by a tensor of a linear, and not read: what each is called.
UNREAD: Mapping[str, str] = {
    "weight._data._data": "quanto's qint4 or qint2, whose file does not say the size of a group,",
    "weight_scale_inv": "float8 with scales of squares of 128, as DeepSeek's,",
    "weight_packed": "compressed-tensors' packed integers",
    "qweight": "GPTQ, AWQ or SVDQuant",
    "W_q": "HQQ",
    "weight_scale": "a weight_scale that nothing says the meaning of",
}
FORMATS_UNREAD = ("convrot_w4a4", "asym_w4a8_int8", "awq_w4a16")  # of comfy_quant, by name
EXTRA = (
    "pre_quant_scale", "weight_s_rel", "weight_s_channel", "weight_codebook", "weight_zeros",
    "scale_2", "weight._shift", "qzeros", "scales", "g_idx", "wscales", "weight_shape",
)  # fmt: skip
SUFFIXES = frozenset(
    {part for each in SCHEMES for part in (*each.parts, *each.aside)} | {*UNREAD, *EXTRA}
)
