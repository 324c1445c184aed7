"""What a dataclass of options accepts, as JSON Schema (draft 2020-12)."""

from __future__ import annotations

import types
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sakuga.api.codec import plain
from sakuga.api.options import option_of

SCALARS = {str: "string", bool: "boolean", int: "integer", float: "number"}


def json_schema(kind: Any) -> dict[str, Any]:
    """The schema of a dataclass: types, ranges, choices, defaults and help of its fields."""
    hints = get_type_hints(kind)
    declared = fields(kind)
    return {
        "title": kind.__name__,
        "description": (kind.__doc__ or "").split("\n")[0],
        "type": "object",
        "properties": {one.name: _property(one, hints[one.name]) for one in declared},
        "required": [one.name for one in declared
                     if one.default is MISSING and one.default_factory is MISSING],
        "additionalProperties": False,
    }  # fmt: skip


def _property(declared: Field[Any], kind: Any) -> dict[str, Any]:
    if is_dataclass(kind):
        return json_schema(kind)
    rule = option_of(declared)
    found: dict[str, Any] = {"description": rule.help, **_kind(kind, rule.choices)}
    if rule.low is not None:
        found["exclusiveMinimum" if rule.above else "minimum"] = rule.low
    if rule.high is not None:
        found["maximum"] = rule.high
    if declared.default is not MISSING:
        found["default"] = plain(declared.default)
    return found


def _kind(kind: Any, choices: tuple[str, ...]) -> dict[str, Any]:
    """The type of a value, or of any of several."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        inner = next(one for one in args if one is not type(None))
        found = _kind(inner, choices)
        if "enum" in found:
            return found | {"type": [found["type"], "null"], "enum": [*found["enum"], None]}
        return found | {"type": [found["type"], "null"]}
    if origin is tuple:
        return {"type": "array", "items": _kind(args[0], choices)}
    if origin is Literal:
        return {"type": "string", "enum": list(args)}
    return {"type": SCALARS[kind], **({"enum": list(choices)} if choices else {})}
