"""A golden case, and the sheet on which our results are held against it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sakuga.checkpoint.bind import bind
from sakuga.checkpoint.contents import Contents
from sakuga.checkpoint.families.detect import recognise
from sakuga.checkpoint.families.match import BakedAdapter
from sakuga.weights.store import Store

TOLERANCE = 1e-5  # float32 rounding through a few layers is about 1e-6


class CaseError(Exception):
    """The case asks for something that is not replayed here."""


@dataclass(frozen=True, slots=True)
class Case:
    """One golden file, read whole."""

    about: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def kind(self) -> str:
        """What was computed; chooses the replay."""
        return str(self.about["kind"])

    def input(self, name: str) -> Tensor:
        """Give an input; CaseError if there is none."""
        if (found := self.optional(name)) is None:
            raise CaseError(f"there is no input/{name}")
        return found

    def optional(self, name: str) -> Tensor | None:
        """Give an input, or None."""
        return self.tensors.get(f"input/{name}")

    def output(self, name: str) -> Tensor | None:
        """Give a result of the original, or None."""
        return self.tensors.get(f"output/{name}")

    def named(self, prefix: str) -> dict[str, Tensor]:
        """Give all tensors under `prefix`, without it."""
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}

    def fill(
        self, module: nn.Module, weights: Mapping[str, Tensor], dropped: Sequence[str] = ()
    ) -> None:
        """Give `module` the weights but those under `dropped`; every other key must fit."""
        kept = {key: value for key, value in weights.items() if not key.startswith(tuple(dropped))}
        module.load_state_dict(kept, strict=True, assign=True)


def bind_layout(
    module: nn.Module, weights: Mapping[str, Tensor], adapter: BakedAdapter | None = None
) -> str:
    """Fill `module` from a file of `weights`, as any file is; give the name of its layout."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        save_file(dict(weights), file)
        store = Store.open(file)
        match = recognise(store.shapes())
        bind(module, Contents.of(store, replace(match, adapter=adapter or match.adapter)))
    return match.layout.name


def read_case(file: Path) -> Case:
    """Read a golden file. Raises CaseError if it is none."""
    with safe_open(file, framework="pt") as data:
        about = (data.metadata() or {}).get("case")
        if about is None:
            raise CaseError("the metadata has no case")
        keys = data.keys()
        return Case(json.loads(about), {key: data.get_tensor(key) for key in keys})


def pick(
    given: Mapping[str, Any], wanted: Sequence[str], fixed: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Take the `wanted` keys; those of `fixed` may be there with that value, no others may.

    A fixed value of `...` stands for any: the key changes nothing that is computed here.
    """
    unknown = sorted(given.keys() - set(wanted) - fixed.keys())
    if unknown:
        raise CaseError(f"{where} has unknown keys: {', '.join(unknown)}")
    for key in given.keys() & fixed.keys():
        if fixed[key] is not ... and given[key] != fixed[key]:
            raise CaseError(f"{where} has {key} = {given[key]!r}, and only {fixed[key]!r} is known")
    if missing := sorted(set(wanted) - given.keys()):
        raise CaseError(f"{where} lacks {', '.join(missing)}")
    return {key: given[key] for key in wanted}


@dataclass(frozen=True, slots=True)
class Row:
    """One output tensor, and how far ours is from it."""

    name: str
    error: float
    tolerance: float
    note: str = ""
    excepted: bool = False

    @property
    def held(self) -> bool:
        """Whether it is within tolerance; NaN never is."""
        return self.excepted or self.error <= self.tolerance


@dataclass(slots=True)
class Sheet:
    """All outputs of a case, compared one by one."""

    case: Case
    rows: list[Row] = field(default_factory=list)

    def wants(self, name: str) -> bool:
        """Whether the original recorded this output."""
        return self.case.output(name) is not None

    def compare(
        self,
        name: str,
        ours: Tensor,
        mask: Tensor | None = None,
        tolerance: float = TOLERANCE,
    ) -> None:
        """Hold `ours` against an output, where `mask` is true; no row if it was not recorded.

        Elsewhere an output may hold anything but NaN, which no sound run leaves behind.
        """
        golden = self.case.output(name)
        if golden is None:
            return
        if ours.shape != golden.shape:
            note = f"shape {tuple(ours.shape)}, not {tuple(golden.shape)}"
            self.rows.append(Row(name, float("nan"), tolerance, note))
            return
        if golden.isnan().any():
            self.rows.append(Row(name, float("nan"), tolerance, "NaN in the file"))
            return
        if mask is not None:
            ours, golden = ours[mask], golden[mask]
        exact = not golden.is_floating_point()
        self.rows.append(Row(name, relative_error(ours, golden), 0.0 if exact else tolerance))

    def excuse(self, name: str, reason: str) -> None:
        """Leave an output out, for a reason."""
        if self.wants(name):
            self.rows.append(Row(name, float("nan"), 0.0, reason, excepted=True))

    def finished(self) -> Iterator[Row]:
        """Give every row; an output that was not reproduced is a failure."""
        yield from self.rows
        seen = {row.name for row in self.rows}
        for name in self.case.named("output/"):
            if name not in seen:
                yield Row(name, float("nan"), TOLERANCE, "not reproduced")


def relative_error(ours: Tensor, golden: Tensor) -> float:
    """max|a - b| / max|b|: infinite if only b is all zero, NaN if either holds one."""
    if golden.numel() == 0:
        return 0.0
    difference = (ours.double() - golden.double()).abs().max().item()
    scale = golden.double().abs().max().item()
    if scale == 0:
        return 0.0 if difference == 0 else float("inf")
    return difference / scale


def right_padded(rows: Sequence[Tensor], like: Tensor) -> Tensor:
    """Lay rows of (L_s, ...) into zeros of the shape (S, L, ...) of `like`."""
    padded = torch.zeros(like.shape, dtype=rows[0].dtype)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded


def mask_of(lengths: Sequence[int], width: int) -> Tensor:
    """Mark the real tokens of right-padded rows: bool (S, width)."""
    return torch.arange(width) < torch.tensor(lengths)[:, None]


def lengths_of(mask: Tensor) -> tuple[int, ...]:
    """Count the real tokens of each row of a right-padded mask."""
    lengths = tuple(mask.long().sum(1).tolist())
    if not torch.equal(mask.bool(), mask_of(lengths, mask.shape[1])):
        raise CaseError("a mask is not right-padded")
    return lengths
