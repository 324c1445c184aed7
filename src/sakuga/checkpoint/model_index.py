"""model_index.json: what a model's folder says of its name, its drawing defaults, its preview.

    {"sakuga": {"name": "...", "drawing": {"steps": 28, ...}, "preview": {...}}, ...}

All of it is optional; what other programs write beside our entry is left alone, but for the
shift in diffusers' scheduler/scheduler_config.json.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sakuga.errors import SpecMismatch
from sakuga.model.spec import NEWBIE_3_5B, OURS, DrawingSpec, ModelSpec
from sakuga.weights.untrusted import read_json

INDEX = "model_index.json"
SCHEDULER = "scheduler/scheduler_config.json"  # of diffusers
DYNAMIC: Mapping[str, float] = {  # what a shift by size is made of, and its defaults there
    "base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelIndex:
    """The name and the drawing defaults of a model, and our whole entry as plain JSON values.

    ours: empty where there is no such file or entry.
    """

    name: str
    drawing: DrawingSpec
    ours: Mapping[str, Any]

    @property
    def preview(self) -> Any:
        """The preview map the model brings, not checked; None where it brings none."""
        return self.ours.get("preview")


def read_model_index(folder: Path, preset: ModelSpec = NEWBIE_3_5B) -> ModelIndex:
    """What a model's folder says of it; what it leaves unsaid is as its preset has it.

    Raises CorruptFile where the file is no JSON object, SpecMismatch where an entry of ours has
    no meaning.
    """
    file, ours = folder / INDEX, entry_of(folder)
    if not isinstance(ours, dict):
        raise _odd(file, f'"{OURS}" is a set of named values', ours)
    name, drawing = ours.get("name", title_of(folder)), ours.get("drawing", {})
    if not isinstance(name, str) or not isinstance(drawing, dict):
        raise _odd(file, "a model has a name and a set of drawing defaults", ours)
    values = _scheduled(folder, preset.transformer.in_channels)
    values |= {key: _drawing_value(file, key, value) for key, value in drawing.items()}
    spec = replace(preset.drawing, **values)
    shorter, longer = sorted((spec.width, spec.height))
    if not spec.min_side <= shorter <= longer <= spec.max_side:
        raise _odd(file, "width and height lie between min_side and max_side", drawing)
    return ModelIndex(name, spec, ours)


def entry_of(folder: Path) -> Any:
    """Our entry as it stands in the file; {} where there is none. Raises CorruptFile."""
    file = folder / INDEX
    return read_json(file, folder).get(OURS, {}) if file.is_file() else {}


def _scheduled(folder: Path, channels: int) -> dict[str, Any]:
    """The shift by which a folder of diffusers says its model is sampled, if it says one.

    channels: of its latents. Where the shift is said to depend on the size, diffusers' pipeline
    of these models asks for the length of `latents.shape[1]`, which is their channels: so one
    number it is there too (`DYNAMIC`).
    """
    file = folder / SCHEDULER
    said = read_json(file, folder) if file.is_file() else {}
    if said.get("use_dynamic_shifting"):
        return {"shift": _dynamic(file, said, channels)}
    if said.get("shift") is None:
        return {}
    return {"shift": _drawing_value(file, "shift", said["shift"])}


def _dynamic(file: Path, said: Mapping[str, Any], length: int) -> float:
    """What a line through two lengths says of a third, or its exponential, as diffusers has it."""
    values = {name: said.get(name, value) for name, value in DYNAMIC.items()}
    if odd := [name for name, value in values.items() if type(value) not in (int, float)]:
        raise _odd(file, f"{odd[0]} is a number", values[odd[0]])
    first, last, low, high = values.values()
    kind = said.get("time_shift_type", "exponential")
    if kind not in ("exponential", "linear") or first == last:
        rule = "a shift by size is exponential or linear, between two lengths"
        raise _odd(file, rule, f"{kind}, {first} and {last}")
    shift = low + (high - low) * (length - first) / (last - first)
    if kind == "exponential":
        shift = math.exp(min(shift, 99.0))
    if not 0 < shift < math.inf:
        raise _odd(file, "a shift is above zero", f"{shift}")
    return float(shift)


def title_of(path: Path) -> str:
    """What a folder is called; a snapshot in the hub's cache is called as on the hub."""
    folder = path.resolve()
    if folder.parent.name != "snapshots":
        return folder.name
    return folder.parent.parent.name.removeprefix("models--").replace("--", "/", 1)


def _drawing_value(file: Path, key: str, value: Any) -> Any:
    kinds = {field.name: field.type for field in fields(DrawingSpec)}
    if key not in kinds:
        near = get_close_matches(key[:80], kinds, n=1)  # what is longer is near none
        hint = f" (nearest: {near[0]!r})" if near else ""
        raise _odd(file, f"a drawing default is one of {', '.join(kinds)}", f"{key!r}{hint}")
    if kinds[key] == "float" and type(value) is int:
        value = float(value)
    if (type(value).__name__ if value is not None else "None") not in kinds[key].split(" | "):
        raise _odd(file, f"{key} is of type {kinds[key]}", value)
    if type(value) in (int, float) and not 0 <= value < 2**31:
        raise _odd(file, f"{key} is finite and not negative", value)
    if key == "trained_sizes" and not all(
        re.fullmatch(r"[1-9]\d{1,4}x[1-9]\d{1,4}", size) for size in value.split()
    ):
        raise _odd(file, f"{key} are written as 256x256, with spaces between", value)
    return value


def _odd(file: Path, rule: str, value: object) -> SpecMismatch:
    text = value if isinstance(value, str) else repr(value)
    return SpecMismatch(rule, f"{text[:200]} in {file}", "Correct or remove the entry")
