"""How a weight may lie on disk or on a card, as arithmetic: its dtype, or blocks of few bits.

A tensor is seen as rows, its first dimension, of the product of the others. A format
stores each value in `bits`, and, where it is quantised, one scale per `group` values of a
row. Tensors of fewer than two dimensions are never quantised: they are norms and biases,
small and sensitive.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from sakuga.api.codec import unknown
from sakuga.errors import CorruptFile, RequestError

STORAGE_KEY = "sakuga.storage"
SCALE_SUFFIX = ".scale"
Shape = tuple[int, ...]
KEEP = "keep"  # asked for in place of a dtype: as the file has it
# The matrices that make up nearly all of a block, by the last part of their module's name.
# All else stays in the compute dtype, being small, sensitive, or not on the card for long:
# norms, biases, embeddings (gathered on the host), what maps latents, time and captions into
# the model and out of it, and adaLN, whose error would reach every token of every step.
_TRANSFORMER_LINEARS = {"qkv", "out", "w1", "w2", "w3"}
_GEMMA_LINEARS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
BLOCK_LINEARS = frozenset(_TRANSFORMER_LINEARS | _GEMMA_LINEARS)


class Dtype(NamedTuple):
    """How a number is stored.

    name: in the headers of safetensors. nbytes: bytes of a number. torch: what torch calls it.
    storage: the class of torch that archives name for it, "" where there is none. code: the
    letter for it in Python's struct, "" where there is none, or where it is a truth value.
    """

    name: str
    nbytes: int
    torch: str
    storage: str = ""
    code: str = ""


DTYPES = (
    Dtype("BOOL", 1, "bool", "BoolStorage"),
    Dtype("U8", 1, "uint8", "ByteStorage", "B"),
    Dtype("I8", 1, "int8", "CharStorage", "b"),
    Dtype("F8_E4M3", 1, "float8_e4m3fn"),
    Dtype("F8_E5M2", 1, "float8_e5m2"),
    Dtype("U16", 2, "uint16", "", "H"),
    Dtype("I16", 2, "int16", "ShortStorage", "h"),
    Dtype("F16", 2, "float16", "HalfStorage", "e"),
    Dtype("BF16", 2, "bfloat16", "BFloat16Storage"),
    Dtype("U32", 4, "uint32", "", "I"),
    Dtype("I32", 4, "int32", "IntStorage", "i"),
    Dtype("F32", 4, "float32", "FloatStorage", "f"),
    Dtype("U64", 8, "uint64", "", "Q"),
    Dtype("I64", 8, "int64", "LongStorage", "q"),
    Dtype("F64", 8, "float64", "DoubleStorage", "d"),
)
ITEMSIZE: Mapping[str, int] = {each.name: each.nbytes for each in DTYPES}
# What safetensors writes too and no network of ours computes with: its tensors are listed, and
# whatever needs one of them says that it is not read. Values of F4 and F6 share bytes.
UNREAD: Mapping[str, int] = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "C64": 64,
}  # fmt: skip
BITS: Mapping[str, int] = {each.name: 8 * each.nbytes for each in DTYPES} | dict(UNREAD)
TORCH_NAMES: Mapping[str, str] = {each.name: each.torch for each in DTYPES}
OF_TORCH: Mapping[str, str] = {each.torch: each.name for each in DTYPES}
OF_STORAGE: Mapping[str, str] = {each.storage: each.name for each in DTYPES if each.storage}
STRUCT_CODES: Mapping[str, str] = {each.name: each.code for each in DTYPES if each.code}
FLOAT_DTYPES = frozenset(each.name for each in DTYPES if "float" in each.torch)


@dataclass(frozen=True, slots=True)
class StorageFormat:
    """One way to store a weight.

    `dtype` is the safetensors name of what is stored, `bits` its width per value, `scale`
    the safetensors name of a scale (empty: there are none) and `group` the number of values
    of a row that share one (None: the whole row). Two values of 4 bits share a byte.
    """

    name: str
    dtype: str
    bits: int
    scale: str = ""
    group: int | None = None

    @property
    def quantised(self) -> bool:
        """Whether values need their scales to be read."""
        return bool(self.scale)

    @property
    def packed(self) -> bool:
        """Whether several values share a byte, so that the stored shape is another."""
        return self.bits < 8

    @property
    def scale_bits(self) -> int:
        """The width of one scale; 0 where there is none."""
        return 8 * ITEMSIZE[self.scale] if self.quantised else 0

    def stored_shape(self, shape: Shape) -> Shape:
        """The shape of what is stored: that of the tensor, or rows of whole bytes (R, bytes)."""
        rows, width = rows_and_width(shape)
        return (rows, -(-width * self.bits // 8)) if self.packed else shape

    def scale_shape(self, shape: Shape) -> Shape:
        """The shape of the scales: (R,), or (R, groups); () where there are none."""
        rows, width = rows_and_width(shape)
        if not self.quantised:
            return ()
        return (rows,) if self.group is None else (rows, -(-width // self.group))

    def scales(self, shape: Shape) -> int:
        """How many scales a tensor of this shape has."""
        return math.prod(self.scale_shape(shape)) if self.quantised else 0

    def bytes(self, shape: Shape) -> int:
        """Bytes of a tensor of this shape, scales included; rows start on whole bytes."""
        rows, width = rows_and_width(shape)
        return rows * (-(-width * self.bits // 8)) + self.scales(shape) * self.scale_bits // 8


FLOAT32 = StorageFormat("float32", "F32", 32)
FLOAT16 = StorageFormat("float16", "F16", 16)
BFLOAT16 = StorageFormat("bfloat16", "BF16", 16)
INT8 = StorageFormat("int8", "I8", 8, scale="F32")
FLOAT8_E4M3 = StorageFormat("float8_e4m3", "F8_E4M3", 8, scale="F32")
# On Gaussian and on the embedded model's weights these 4.5 bits lose less than groups of 64
# with a minimum of their own (9.0% against 9.4% of the root mean square). A scale in bfloat16
# has the range of float32: no weight is too small or too large for it.
INT4 = StorageFormat("int4", "U8", 4, scale="BF16", group=32)

FORMATS = {each.name: each for each in (FLOAT32, FLOAT16, BFLOAT16, INT8, FLOAT8_E4M3, INT4)}
FLOATS = tuple(name for name, each in FORMATS.items() if not each.quantised)
FORMER_NAMES = {"int8-row": INT8}  # files say so that were written when it was the only one


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """How a file stores one tensor; `shape` is the tensor's where the file's is another."""

    form: StorageFormat
    shape: Shape | None = None


def is_packed(dtype: str) -> bool:
    """Whether what a file stores is no dtype: GGUF's blocks, or what another program quantised."""
    return dtype not in BITS


def plain_dtype(dtype: str) -> str:
    """The dtype that holds what a file stores: float32 where it is packed, else that itself."""
    return "F32" if is_packed(dtype) else dtype


def rows_and_width(shape: Shape) -> tuple[int, int]:
    """Rows, and values in each: (R, W)."""
    return (shape[0], math.prod(shape[1:])) if shape else (1, 1)


@lru_cache(maxsize=4096)  # a planner asks for every key, again and again
def is_block_linear(key: str) -> bool:
    """Whether a tensor of ours, by its full name, is a matrix that storage formats apply to."""
    parts = key.split(".")
    return parts[-1] == "weight" and len(parts) > 1 and parts[-2] in BLOCK_LINEARS


def choose_format(name: str, component: str) -> StorageFormat:
    """A format by its name, for the weights of a component on a card.

    component: transformer | text_encoder | text_encoder_2 | vae. Raises RequestError on an
    unknown name, and on float16 for Gemma ("text_encoder"), which never runs in float16.
    """
    if name not in FORMATS:
        raise unknown("a storage format", name, tuple(FORMATS))
    if name == "float16" and component == "text_encoder":
        raise RequestError(
            "Gemma never runs in float16, which its activations overflow",
            "float16 storage for it",
            "Store it as bfloat16, which is as small, and let it compute in float32.",
        )
    return FORMATS[name]


def scale_key(key: str) -> str:
    """The name of the tensor that holds the scales of `key`."""
    return key + SCALE_SUFFIX


def storage_metadata(stored: Mapping[str, StoredTensor]) -> dict[str, str]:
    """The file metadata that names the quantised tensors; empty where there are none.

    A tensor is named by its format, or, where the file's shape is not its own, by
    {"format": ..., "shape": [...]}.
    """
    named = {
        key: each.form.name
        if each.shape is None
        else {"format": each.form.name, "shape": list(each.shape)}
        for key, each in sorted(stored.items())
        if each.form.quantised
    }
    return {STORAGE_KEY: json.dumps(named)} if named else {}


def read_storage_metadata(metadata: Mapping[str, str]) -> dict[str, StoredTensor]:
    """The quantised tensors a file names. Raises CorruptFile on an unknown format."""
    rule = f"{STORAGE_KEY} maps tensors to quantised formats of " + ", ".join(FORMATS)
    fix = "Read the file with the version of sakuga that wrote it"
    try:
        named = json.loads(metadata.get(STORAGE_KEY, "{}"))
    except (ValueError, RecursionError) as error:
        raise CorruptFile(rule, f"no JSON ({error})", fix) from None
    if not isinstance(named, dict):
        raise CorruptFile(rule, f"a {type(named).__name__}", fix)
    found = {}
    for key, value in named.items():
        stored = _stored(value)
        if stored is None:
            raise CorruptFile(rule, f"{str(value)[:80]!r} for {key!r}", fix)
        found[key] = stored
    return found


def logical_shapes(
    shapes: Mapping[str, Shape],
    dtypes: Mapping[str, str],
    stored: Mapping[str, StoredTensor],
) -> dict[str, Shape]:
    """Names and shapes of a file, each quantised tensor and its scales taken as one.

    Raises CorruptFile where values or scales are missing or of another form.
    """
    logical = dict(shapes)
    for key, each in stored.items():
        form, scale = each.form, scale_key(key)
        logical.pop(scale, None)
        shape = each.shape or shapes.get(key, ())
        forms = (dtypes.get(key), dtypes.get(scale))
        found = (shapes.get(key), shapes.get(scale))
        if (
            not shape
            or forms != (form.dtype, form.scale)
            or found != (form.stored_shape(shape), form.scale_shape(shape))
        ):
            share = f"{form.group} values" if form.group else "row"
            raise CorruptFile(
                f"a tensor stored as {form.name} has {form.dtype} values and "
                f"{form.scale} scales, one per {share}",
                f"{forms} of shapes {found[0]} and {found[1]} for {key!r}",
                "Convert the file again",
            )
        logical[key] = shape
    return logical


def _stored(value: object) -> StoredTensor | None:
    """One entry of the metadata, or None where it makes no sense."""
    name, shape = value, None
    if isinstance(value, dict):
        name, shape = value.get("format"), value.get("shape")
        if not isinstance(shape, list) or not shape or len(value) > 2:
            return None
        if not all(type(n) is int and n >= 0 for n in shape):
            return None
    form = (FORMATS | FORMER_NAMES).get(name) if isinstance(name, str) else None
    if form is None or not form.quantised or form.packed != (shape is not None):
        return None
    return StoredTensor(form, None if shape is None else tuple(shape))
