"""Weights written as ComfyUI keeps them: their values, their scales, and what says so.

The matrices of the blocks are quantised, of the networks that may lie in a storage format; the
rest stays as it is. A scale is the largest value of a matrix, or of each of its rows, over the
largest step.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sakuga.weights.formats import FLOAT8_E4M3, INT8, StorageFormat
from sakuga.weights.quantise import LARGEST, TORCH_DTYPES
from sakuga.weights.schemes import COMFY_FLOAT8, COMFY_INT8, FP8_SCALED
from sakuga.weights.translated import MARKER
from sakuga.weights.writer import Promised

COMPONENTS = ("transformer", "text_encoder")  # whose blocks may lie in few bits
WEIGHT, SAID = ".weight", ".comfy_quant"


@dataclass(frozen=True, slots=True)
class Way:
    """One way to write a weight.

    form: how its values lie. scale: what follows the name of its linear, for its scale, one for
    each row where `by_rows`. format: what `comfy_quant` says of it; "" where a marker beside all
    weights says it.
    """

    form: StorageFormat
    scale: str
    by_rows: bool = False
    format: str = ""


WAYS: Mapping[str, Way] = {
    FP8_SCALED.name: Way(FLOAT8_E4M3, ".scale_weight"),
    COMFY_FLOAT8.name: Way(FLOAT8_E4M3, ".weight_scale", format="float8_e4m3fn"),
    COMFY_INT8.name: Way(INT8, ".weight_scale", by_rows=True, format="int8_tensorwise"),
}


@dataclass(frozen=True, slots=True)
class Quantising:
    """The tensors that some weights become, by their new names.

    weights: by their names, as plain floats would be promised. root: what stands before the
    marker beside all weights.
    """

    way: Way
    weights: Mapping[str, Promised]
    root: str = ""
    _scales: dict[str, Tensor] = field(default_factory=dict)

    def promised(self) -> dict[str, Promised]:
        """Values, scales, and what says which they are."""
        made, way = dict[str, Promised](), self.way
        for name, plain in self.weights.items():
            stem = name.removesuffix(WEIGHT)
            made[name] = Promised(way.form.dtype, plain.shape)
            made[stem + way.scale] = Promised("F32", (plain.shape[0], 1) if way.by_rows else ())
            if way.format:
                made[stem + SAID] = Promised("U8", (len(self._said),))
        if not way.format:
            made[self.root + MARKER] = Promised(way.form.dtype, (0,))
        return made

    def weight_of(self, name: str) -> str:
        """The weight that a tensor says something of; a weight itself."""
        for part in (self.way.scale, SAID):
            if name.endswith(part) and name.removesuffix(part) + WEIGHT in self.weights:
                return name.removesuffix(part) + WEIGHT
        return name

    def read(self, name: str, values: Callable[[str], Iterable[Tensor]]) -> Iterator[Tensor]:
        """The values of a new tensor, part by part.

        values: the rows of a weight in float32, part by part, as often as they are asked for.
        """
        weight = self.weight_of(name)
        if name.endswith(SAID):
            yield torch.frombuffer(bytearray(self._said), dtype=torch.uint8)
        elif weight != name:
            yield self._scale(weight, values(weight))
        elif name in self.weights:
            scale, row = self._scale(name, values(name)), 0
            for rows in values(name):
                yield self._steps(rows, scale[row : row + len(rows)] if scale.dim() else scale)
                row += len(rows)
        else:
            yield torch.empty(0, dtype=TORCH_DTYPES[self.way.form.dtype])

    @property
    def _said(self) -> bytes:
        return json.dumps({"format": self.way.format}).encode()

    def _scale(self, name: str, values: Iterable[Tensor]) -> Tensor:
        if name not in self._scales:
            largest = torch.cat([rows.abs().amax(dim=1, keepdim=True) for rows in values])
            scale = (largest if self.way.by_rows else largest.amax()) / LARGEST[self.way.form.dtype]
            self._scales[name] = torch.where(scale == 0, torch.ones_like(scale), scale)
        return self._scales[name]

    def _steps(self, rows: Tensor, scale: Tensor) -> Tensor:
        dtype, largest = self.way.form.dtype, LARGEST[self.way.form.dtype]
        steps = (rows / scale).clamp_(-largest, largest)
        return (steps.round_() if dtype == "I8" else steps).to(TORCH_DTYPES[dtype])
