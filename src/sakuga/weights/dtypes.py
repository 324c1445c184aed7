"""The dtypes of weights, as safetensors names them: their sizes, and what others call them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


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
TORCH_NAMES: Mapping[str, str] = {each.name: each.torch for each in DTYPES}
OF_TORCH: Mapping[str, str] = {each.torch: each.name for each in DTYPES}
OF_STORAGE: Mapping[str, str] = {each.storage: each.name for each in DTYPES if each.storage}
STRUCT_CODES: Mapping[str, str] = {each.name: each.code for each in DTYPES if each.code}
FLOATS = frozenset(each.name for each in DTYPES if "float" in each.torch)
