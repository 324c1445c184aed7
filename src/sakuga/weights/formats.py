"""How a weight may lie on disk or on a card, as arithmetic: no tensor is needed to price one.

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

from sakuga.errors import CorruptFile

STORAGE_KEY = "sakuga.storage"
SCALE_SUFFIX = ".scale"


@dataclass(frozen=True, slots=True)
class StorageFormat:
    """One way to store a weight.

    `dtype` is the safetensors name of what is stored, `bits` its width per value,
    `scale_bits` the width of a scale (0: none) and `group` the number of values of a row
    that share one (None: the whole row).
    """

    name: str
    dtype: str
    bits: int
    scale_bits: int = 0
    group: int | None = None

    @property
    def quantised(self) -> bool:
        """Whether values need their scales to be read."""
        return self.scale_bits > 0

    def scales(self, shape: tuple[int, ...]) -> int:
        """How many scales a tensor of this shape has."""
        rows, width = _rows(shape)
        if not self.quantised:
            return 0
        return rows * (1 if self.group is None else -(-width // self.group))

    def bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of a tensor of this shape, scales included; rows start on whole bytes."""
        rows, width = _rows(shape)
        return rows * (-(-width * self.bits // 8)) + self.scales(shape) * self.scale_bits // 8


FLOAT32 = StorageFormat("float32", "F32", 32)
FLOAT16 = StorageFormat("float16", "F16", 16)
BFLOAT16 = StorageFormat("bfloat16", "BF16", 16)
INT8_ROW = StorageFormat("int8-row", "I8", 8, scale_bits=32)

FORMATS = {each.name: each for each in (FLOAT32, FLOAT16, BFLOAT16, INT8_ROW)}


def scale_key(key: str) -> str:
    """The name of the tensor that holds the scales of `key`."""
    return key + SCALE_SUFFIX


def storage_metadata(formats: Mapping[str, StorageFormat]) -> dict[str, str]:
    """The file metadata that names the quantised tensors; empty where there are none."""
    named = {key: each.name for key, each in sorted(formats.items()) if each.quantised}
    return {STORAGE_KEY: json.dumps(named)} if named else {}


def read_storage_metadata(metadata: Mapping[str, str]) -> dict[str, StorageFormat]:
    """The quantised tensors a file names. Raises CorruptFile on an unknown format."""
    rule = f"{STORAGE_KEY} maps tensors to one of " + ", ".join(FORMATS)
    fix = "Read the file with the version of sakuga that wrote it"
    try:
        named = json.loads(metadata.get(STORAGE_KEY, "{}"))
    except (ValueError, RecursionError) as error:
        raise CorruptFile(rule, f"no JSON ({error})", fix) from None
    if not isinstance(named, dict):
        raise CorruptFile(rule, f"a {type(named).__name__}", fix)
    for key, name in named.items():
        if not isinstance(name, str) or name not in FORMATS or not FORMATS[name].quantised:
            raise CorruptFile(rule, f"{name!r} for {key!r}", fix)
    return {key: FORMATS[name] for key, name in named.items()}


def logical_shapes(
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, str],
    formats: Mapping[str, StorageFormat],
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a file, each quantised tensor and its scales taken as one.

    Raises CorruptFile where values or scales are missing or of another form.
    """
    logical = dict(shapes)
    for key, form in formats.items():
        scale = scale_key(key)
        logical.pop(scale, None)
        values = shapes.get(key, ())
        forms = (dtypes.get(key), dtypes.get(scale))
        if not values or shapes.get(scale) != values[:1] or forms != (form.dtype, "F32"):
            raise CorruptFile(
                f"a tensor stored as {form.name} has {form.dtype} values and an F32 scale per row",
                f"{forms} of shapes {values} and {shapes.get(scale)} for {key!r}",
                "Convert the file again",
            )
    return logical


def _rows(shape: tuple[int, ...]) -> tuple[int, int]:
    return (shape[0], math.prod(shape[1:])) if shape else (1, 1)
