"""What of another program's drawing can be asked of ours, and what cannot."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from sakuga.api.infotext import Infotext
from sakuga.api.options import rule_of
from sakuga.api.parameters import SCHEDULES, VARIATION, own_fields
from sakuga.api.request import SOLVER_NAMES, Request, parse_size
from sakuga.api.resolved import Defaults, check_size
from sakuga.errors import RequestError

# What every such text tells, and the field it is asked by.
FIELDS: Mapping[str, str] = {
    "Seed": "seed", "Steps": "steps", "CFG scale": "guidance", "Size": "width", "Sampler": "solver",
}  # fmt: skip
NUMBERS: Mapping[str, str] = {
    "Seed": "seed", "Steps": "steps", "CFG scale": "guidance",
    **dict(zip(VARIATION, ("variation_seed", "variation"), strict=True)),
}  # fmt: skip
FRACTIONS = ("guidance", "variation")
# Names of one method in several programs, without marks: see `_plain`.
SOLVERS: Mapping[str, str] = {
    **{name.replace("_", ""): name for name in SOLVER_NAMES},
    "heun": "heun2", "dpmpp2m": "dpm2",
}  # fmt: skip
GRIDS: Mapping[str, str] = {
    **{theirs.lower(): ours for ours, theirs in SCHEDULES.items()},
    "linearquadratic": "linear_quadratic", "shifted": "shifted",
}  # fmt: skip
# Told with others, or of no drawing: nothing is missed when they are left.
SILENT = frozenset(("Version", "Model hash", "Lora hashes", "Hashes", "TI hashes"))


@dataclass(frozen=True, slots=True)
class Taken:
    """What can be asked, and what people should know of the rest.

    `values`: fields of a Request, by name. `left`: what was not taken, in words. `open`: fields
    that such a text usually fills and this one says nothing of.
    """

    values: Mapping[str, Any]
    left: tuple[str, ...]
    open: tuple[str, ...]


def taken_from(text: Infotext, defaults: Defaults | None = None) -> Taken:
    """The part of a drawing, by whatever program, that a Request can ask for.

    defaults: of the model that is to draw it; a size that it cannot draw is left.
    """
    values: dict[str, Any] = {}
    left: list[str] = []
    if text.prompt:
        values["prompt"] = text.prompt
    if text.negative:
        values["negative"] = text.negative
    for key, value in text.settings.items():
        found = dict(_fields(key, value))
        why = ""
        if any(_refused(name, one) for name, one in found.items()):
            found = {}
        if "width" in found and defaults and (error := _no_size(found, defaults)):
            found, why = {}, f" ({error.rule})"
        values |= found
        if not found and key not in SILENT and not (text.ours and _is_own(key)):
            left.append(f"{key[:40]} {value[:60]!r}{why}")
    if "variation" not in values:
        values.pop("variation_seed", None)
    if text.ours:
        values |= _own(text)
    left += [f"LoRA {lora[:60]!r} (name its file with --lora)" for lora in text.loras]
    told = {"prompt" if text.prompt else "", *map(FIELDS.get, text.settings)}
    missing = tuple(name for name in ("prompt", *FIELDS.values()) if name not in told)
    return Taken(values, tuple(left), missing)


def _fields(key: str, value: str) -> Iterator[tuple[str, Any]]:
    """The fields of a request that one setting fills."""
    if key in NUMBERS:
        number = _number(NUMBERS[key], value)
        if number is not None:
            yield NUMBERS[key], number
    elif key == "Size":
        size = parse_size(value) if len(value) <= 20 else None
        yield from zip(("width", "height"), size or (), strict=False)
    elif key == "Sampler":
        if (solver := SOLVERS.get(_plain(value))) is not None:
            yield "solver", solver
    elif key == "Schedule type" and (schedule := GRIDS.get(_plain(value))) is not None:
        yield "schedule", schedule


def _plain(name: str) -> str:
    """A name as all programs spell it: `DPM++ 2M`, `dpmpp_2m` and `k_dpmpp_2m` are one."""
    name = name[:60].lower().replace("+", "p").removeprefix("k_")
    return re.sub(r"[\s_\-]", "", name)


def _number(name: str, value: str) -> int | float | None:
    try:
        number = float(value) if name in FRACTIONS else int(value[:20])
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _refused(name: str, value: Any) -> RequestError | None:
    return rule_of(Request, name).refuse(name, value)


def _no_size(size: Mapping[str, Any], defaults: Defaults) -> RequestError | None:
    """Why a model cannot draw a size; None if it can."""
    try:
        check_size(size["width"], size["height"], defaults)
    except RequestError as error:
        return error
    return None


def _is_own(key: str) -> bool:
    return bool(own_fields({key: ""}))


def _own(text: Infotext) -> Iterator[tuple[str, Any]]:
    """The settings that sakuga alone writes, each as its field holds it."""
    kinds = {declared.name: str(declared.type) for declared in fields(Request)}
    for name, value in own_fields(text.settings).items():
        kind = kinds[name]
        try:
            read: Any = (
                value == "True" if kind.startswith("bool")
                else float(value) if kind.startswith("float")
                else int(value[:20]) if kind.startswith("int")
                else value
            )  # fmt: skip
        except ValueError:
            continue
        if not _refused(name, read):
            yield name, read
