"""Frozen dataclasses to plain JSON values and back, strictly.

Bytes travel as base64. Reading refuses unknown keys (naming the nearest known one),
missing keys and values of another type, and says where.
"""

from __future__ import annotations

import base64
import difflib
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sakuga.errors import RequestError
from sakuga.printable import cut, listed

T = TypeVar("T")
NAMES: Mapping[type, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}
_HINTS: dict[type, Mapping[str, Any]] = {}
MIN_WHOLE, MAX_WHOLE = -(2**63), 2**64 - 1


def plain(value: Any) -> Any:
    """JSON form of a value: dataclasses become objects, tuples lists, bytes base64 text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value


def typed(kind: type[T], data: Any, where: str = "") -> T:
    """Build a dataclass from its JSON form. Raises RequestError, naming the place."""
    where = where or kind.__name__
    if not isinstance(data, Mapping):
        raise _wrong(where, "an object", data)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            raise unknown(f"{where} key", str(key), tuple(known))
    hints = hints_of(kind)
    values = {}
    for name, field in known.items():
        if name in data:
            values[name] = typed_value(hints[name], data[name], f"{where}.{name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise RequestError(f"{where} needs {name!r}", f"only {listed(sorted(data))}", "Add it.")
    return kind(**values)


def hints_of(kind: type) -> Mapping[str, Any]:
    """The types of a dataclass's fields; finding them takes longer than all else of a row."""
    if kind not in _HINTS:
        _HINTS[kind] = get_type_hints(kind)
    return _HINTS[kind]


def unknown(what: str, got: str, known: tuple[str, ...]) -> RequestError:
    """The error for a name outside a known set; its fix names what is meant, or the nearest."""
    from sakuga.api.elsewhere import meant  # noqa: PLC0415  # only a mistake needs it

    got = cut(got)
    if answer := meant(got, known):
        return RequestError(f"{what} must be a known one", repr(got), answer)
    near = difflib.get_close_matches(got, known, n=1, cutoff=0.5)
    fix = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
    return RequestError(f"{what} must be a known one", repr(got), fix)


def typed_value(kind: Any, value: Any, where: str) -> Any:
    """A value of a type from its JSON form. Raises RequestError, naming the place."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _read_optional(args, value, where)
    if origin is Literal:
        if value not in args:
            raise unknown(where, str(value), args)
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise _wrong(where, "a list", value)
        return tuple(typed_value(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise _wrong(where, "an object", value)
        return {
            str(key): typed_value(args[1], item, f"{where}.{cut(str(key), 40)}")
            for key, item in value.items()
        }
    if is_dataclass(kind) and isinstance(kind, type):
        return typed(kind, value, where)
    return _read_scalar(kind, value, where)


def _read_optional(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    (kind,) = (kind for kind in kinds if kind is not type(None))
    return typed_value(kind, value, where)


def _read_scalar(kind: type, value: Any, where: str) -> Any:
    if kind is bytes and isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except ValueError:
            raise _wrong(where, "base64 text", value) from None
    # bool is an int to Python, but `number: true` is a mistake.
    if type(value) is int and kind in (int, float):
        if not MIN_WHOLE <= value <= MAX_WHOLE:
            raise _wrong(where, "a number of at most 64 bits", value)
        return kind(value)
    if type(value) is not kind:
        raise _wrong(where, NAMES.get(kind, kind.__name__), value)
    return value


def _wrong(where: str, wanted: str, value: Any) -> RequestError:
    return RequestError(f"{where} must be {wanted}", cut(repr(value)), f"Give {wanted}.")
