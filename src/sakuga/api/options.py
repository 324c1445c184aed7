"""What a field of a question accepts, declared beside it, and shown as JSON Schema."""

from __future__ import annotations

import difflib
import math
import os
import types
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from functools import lru_cache, wraps
from inspect import signature
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from sakuga.api.codec import hints_of, plain, typed_value, unknown
from sakuga.errors import RequestError
from sakuga.printable import cut

T = TypeVar("T")
P = ParamSpec("P")
SCALARS = {str: "string", bool: "boolean", int: "integer", float: "number"}


@dataclass(frozen=True, slots=True)
class Option:
    """What a field accepts. `low` itself is refused when `above` is set.

    `otherwise` is the value of a field left at None when neither the recipe nor the
    model has one; None there means that the model decides. `flags`: how the command line
    spells it, where that is not --the-field's-name; `metavar`: what stands for its value there.
    `needs`: fields of which one has to be given too, or this one means nothing and stays as it
    is. `read`: makes a value of the field's type of what is meant plainly.
    """

    help: str
    low: float | None = None
    high: float | None = None
    above: bool = False
    choices: tuple[str, ...] = ()
    otherwise: str | float | None = None
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    needs: tuple[str, ...] = ()
    read: Callable[[Any], Any] | None = None

    def refuse(self, name: str, value: Any) -> RequestError | None:
        """The error for a value outside the range or the choices, or None."""
        if self.choices and value not in self.choices:
            return unknown(name, str(value), self.choices)
        if self.low is None and self.high is None:
            return None
        too_low = self.low is not None and (value <= self.low if self.above else value < self.low)
        too_high = self.high is not None and value > self.high
        odd = isinstance(value, float) and not math.isfinite(value)
        if too_low or too_high or odd:
            return RequestError(
                f"{name} must be {self.range}", cut(str(value)), "Choose one in range."
            )
        return None

    @property
    def accepts(self) -> str:
        """The range or the choices in words; empty if anything of its type will do."""
        return self.range or ", ".join(self.choices)

    @property
    def range(self) -> str:
        """The range in words: "1 to 200", "above 0", "0 or more"; empty if there is none."""
        if self.low is None:
            return ""
        start = f"above {self.low:g}" if self.above else f"{self.low:g}"
        if self.high is None:
            return start if self.above else f"{start} or more"
        joint = " and at most " if self.above else " to "
        high = f"{self.high:g}" if self.high < 1e6 else "2^63-1"
        return f"{start}{joint}{high}"


def option(rule: Option, default: Any = None) -> Any:
    """A field with its rule; None as default leaves the choice open."""
    return field(default=default, metadata={"option": rule})


def option_of(declared: Field[Any]) -> Option:
    """The rule that `option` put into a field."""
    rule = declared.metadata["option"]
    assert isinstance(rule, Option)
    return rule


def rule_of(kind: type, name: str) -> Option:
    """The rule of a field of a dataclass, by its name."""
    (declared,) = (declared for declared in fields(kind) if declared.name == name)
    return option_of(declared)


def check_needs(kind: Any, value: Any) -> None:
    """Raise RequestError for a field of `kind` that says nothing without another, not given."""
    for declared in fields(kind):
        needs, name = option_of(declared).needs, declared.name
        alone = not any(getattr(value, other) not in (None, False) for other in needs)
        if needs and alone and getattr(value, name) not in (None, False):
            flags = " or ".join(f"--{other.replace('_', '-')}" for other in needs)
            raise RequestError(
                f"{name} is said of {' or '.join(needs)}", f"{name} alone", f"Give {flags} too."
            )


def settled(value: T) -> T:
    """A dataclass whose every field is of its type and accepted by its rule, as it was given.

    Those of a dataclass within it count too. What is meant plainly is taken: a path for its
    text, one text for a list of them, numbers of numpy. Raises RequestError for the first
    field that cannot be.
    """
    hints = hints_of(type(value))
    read = {
        declared.name: _settled(declared, hints[declared.name], getattr(value, declared.name))
        for declared in fields(value)  # type: ignore[arg-type]
    }
    return replace(value, **read)  # type: ignore[type-var]


def settled_field(kind: type, name: str, got: Any) -> Any:
    """A value of one field of a dataclass, as `settled` has it."""
    return _settled(_declared(kind)[name], hints_of(kind)[name], got)


@lru_cache(maxsize=8)
def _declared(kind: type) -> dict[str, Field[Any]]:
    return {one.name: one for one in fields(kind)}


def _settled(declared: Field[Any], kind: Any, got: Any) -> Any:
    """The value of one field."""
    name = declared.name
    if is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(got, kind):
            fix = f"Give {kind.__name__}({cut(got)!r})." if isinstance(got, str) else "Give one."
            raise RequestError(f"{name} must be a {kind.__name__}", cut(repr(got)), fix)
        return settled(got)
    if get_origin(kind) is tuple:
        several = got if isinstance(got, (list, tuple)) else (got,)
        return typed_value(kind, [_plain_kind(one) for one in several], name)
    rule = option_of(declared)
    value = typed_value(kind, _plain_kind(rule.read(got) if rule.read else got), name)
    error = None if value is None else rule.refuse(name, value)
    if error:
        raise error
    return value


def _plain_kind(value: Any) -> Any:
    """A path as text, and a number of a library's own kind as Python's."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if type(value) in SCALARS:
        return value
    import numbers  # noqa: PLC0415  # only numbers that are not Python's need it

    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def keywords(more: str = "") -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Makes a function say what to write for a keyword that it lacks; `more`: what takes others."""

    def made(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def checked(*args: P.args, **given: P.kwargs) -> T:
            known = [name for name in signature(function).parameters if name != "self"]
            for name in given:
                if name not in known:
                    raise _unknown_keyword(name, known, more)
            return function(*args, **given)

        return checked

    return made


def asked(kind: type[T]) -> type[T]:
    """Makes a dataclass say what to write for a keyword that it lacks."""
    setattr(kind, "__init__", keywords()(kind.__init__))  # noqa: B010  # to mypy, a method stays
    return kind


def _unknown_keyword(name: str, known: list[str], more: str) -> RequestError:
    from sakuga.api.elsewhere import keyword_elsewhere  # noqa: PLC0415  # only a mistake needs it

    near = difflib.get_close_matches(name, known, n=1)
    fix = keyword_elsewhere(name, known) or (
        f"Did you mean {near[0]}=?" if near else f"Known: {', '.join(known)}.{more}"
    )
    return RequestError("a keyword must be a known one", f"{name}=", fix)


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
