"""The difference of two transformers as a LoRA."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from sakuga.adapters.config import CONFIG, PEFT_PREFIX
from sakuga.adapters.file import PEFT_FILE
from sakuga.adapters.fit import WEIGHT, targets_of
from sakuga.adapters.merge import Base
from sakuga.checkpoint.folder import Component
from sakuga.checkpoint.save import write_json, write_weights, writing
from sakuga.errors import RequestError, SpecMismatch
from sakuga.files.atomic import refuse_existing
from sakuga.printable import listed


@dataclass(frozen=True, slots=True)
class Extracted:
    """How near a LoRA comes to the difference of two transformers.

    errors: of each module, ‖difference - LoRA‖ / ‖difference‖ (Frobenius); error: of all
    linears together. left: tensors that differ and that no LoRA can change.
    """

    errors: Mapping[str, float]
    error: float
    left: tuple[str, ...]

    def __str__(self) -> str:
        worst = max(self.errors, key=self.errors.__getitem__)
        lines = [
            f"{len(self.errors)} linears, error {self.error:.2%} of their difference",
            f"worst: {worst}, {self.errors[worst]:.2%}",
        ]
        if self.left:
            lines.append(f"not in the LoRA, which only changes linears: {listed(self.left)}")
        return "\n".join(lines)


def extract(
    base: Component,
    tuned: Component,
    out: Path,
    rank: int,
    *,
    device: torch.device | str = "cpu",
    force: bool = False,
) -> Extracted:
    """Write the difference of two transformers as a LoRA, in a folder as PEFT writes it.

    Each linear's difference is cut to its `rank` largest singular values, the best that any
    LoRA of that rank can do (Eckart and Young, 1936); alpha is the rank, so its scale is 1.
    Raises RequestError for a rank below 1, SpecMismatch where the transformers' shapes
    differ or nothing does, OutputExists.
    """
    if rank < 1:
        raise RequestError("a rank is at least 1", str(rank), "Choose 4 to 128.")
    with writing(out):
        refuse_existing(out / PEFT_FILE, replace=force)
    first, second = Base(base), Base(tuned)
    _check_same(first, second)
    linears = {name for name, shape in targets_of(first.shapes).items() if len(shape) == 2}
    tensors: dict[str, Tensor] = {}
    errors: dict[str, float] = {}
    squares: list[tuple[float, float]] = []
    left = []
    for name, difference in _differences(first, second):
        module = name.removesuffix(WEIGHT)
        if module not in linears or not name.endswith(WEIGHT):
            left.append(name)
            continue
        up, down, lost = factorise(difference.to(device), rank)
        tensors[f"{PEFT_PREFIX}{module}.lora_A.weight"] = down.cpu()
        tensors[f"{PEFT_PREFIX}{module}.lora_B.weight"] = up.cpu()
        whole = difference.norm().item()
        errors[module] = lost / whole
        squares.append((lost**2, whole**2))
    if not tensors:
        raise SpecMismatch(
            "a LoRA is made of what two transformers differ in",
            f"the same linears in {base.store.path} and {tuned.store.path}",
            "Give the base first, then the model tuned from it",
        )
    _write_peft(out, tensors, rank)
    lost, whole = (math.fsum(column) for column in zip(*squares, strict=True))
    return Extracted(errors, math.sqrt(lost / whole), tuple(left))


def factorise(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """The nearest product up (out, r) @ down (r, in), r at most `rank`, and what it lacks.

    The singular values are shared between the two, which then are of like size.
    """
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    # The eigenvectors of M.T @ M are the singular vectors of M, in a quarter of the time;
    # float64 gives back the digits that squaring takes.
    _, vectors = torch.linalg.eigh(tall.T.double() @ tall.double())
    right = vectors[:, -rank:].flip(1).to(matrix.dtype)
    left = tall @ right
    roots = left.norm(dim=0).sqrt()
    first = left / roots.clamp_min(torch.finfo(matrix.dtype).tiny)
    second = roots[:, None] * right.T
    up, down = (first, second) if tall is matrix else (second.T, first.T)
    return up.contiguous(), down.contiguous(), (matrix - up @ down).norm().item()


def _differences(first: Base, second: Base) -> Iterator[tuple[str, Tensor]]:
    """Every tensor that is not the same in both, as second - first in float32."""
    for name in first.pieces:
        difference = second.read(name) - first.read(name)
        if difference.any():
            yield name, difference


def _check_same(first: Base, second: Base) -> None:
    ours, theirs = first.shapes, second.shapes
    odd = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if odd:
        got = [list(shapes[odd[0]]) if odd[0] in shapes else None for shapes in (ours, theirs)]
        raise SpecMismatch(
            "two transformers to compare have the same tensors",
            f"{odd[0]!r} as {got[0]} and {got[1]}" + f" and {len(odd) - 1} more" * (len(odd) > 1),
            "Give two transformers of one family",
        )


def _write_peft(folder: Path, tensors: Mapping[str, Tensor], rank: int) -> None:
    """A LoRA as PEFT writes it. Matrices smaller than the rank have a rank of their own."""
    ranks = {
        key.removeprefix(PEFT_PREFIX).removesuffix(".lora_A.weight"): len(value)
        for key, value in tensors.items()
        if key.endswith(".lora_A.weight")
    }
    smaller = {module: size for module, size in ranks.items() if size != rank}
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": smaller,
        "alpha_pattern": smaller,
        "target_modules": sorted(ranks),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "inference_mode": True,
        "base_model_name_or_path": None,
    }
    write_weights(folder / PEFT_FILE, lambda file: save_file(dict(tensors), file, {"format": "pt"}))
    write_json(folder / CONFIG, config)
