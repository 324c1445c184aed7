"""Values of a config, read as untrusted, and sizes read from the shapes of tensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sakuga.errors import SpecMismatch

Shapes = Mapping[str, tuple[int, ...]]
Config = Mapping[str, Any]
Facts = dict[str, Any]
OURS = "sakuga"  # the part of a config that no other program reads


def ints(config: Config, source: str, names: str) -> Facts:
    """The whole numbers among these names; of a list (several ends of text) the first."""
    facts = {}
    for name in names.split():
        value = config.get(name)
        if isinstance(value, list) and name.endswith("_token_id") and value:
            value = value[0]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is not None:
            if type(value) is not int:
                raise impossible(f"{name} is a whole number", value, source)
            facts[name] = value
    return facts


def floats(config: Config, source: str, names: str) -> Facts:
    """The numbers among these names."""
    facts = {}
    for name in names.split():
        value = config.get(name)
        if value is not None:
            if type(value) not in (int, float):
                raise impossible(f"{name} is a number", value, source)
            facts[name] = float(value)
    return facts


def int_lists(config: Config, source: str, names: str) -> Facts:
    """The lists of whole numbers among these names, as tuples."""
    facts = {}
    for name in names.split():
        value = config.get(name)
        if value is not None:
            if not isinstance(value, list) or not all(type(n) is int for n in value):
                raise impossible(f"{name} is a list of whole numbers", value, source)
            facts[name] = tuple(value)
    return facts


def nested(config: Config, source: str, name: str, otherwise: Config | None = None) -> Config:
    """The part of a config under `name`; where there is none, `otherwise` or the config."""
    value = config.get(name)
    if value is None:
        return config if otherwise is None else otherwise
    if not isinstance(value, dict):
        raise impossible(f"{name} is a set of named values", value, source)
    return value


def refuse(config: Config, source: str, allowed: Mapping[str, Collection[Any]]) -> None:
    """Refuse what our classes cannot run; a name that is absent or null is fine."""
    for name, values in allowed.items():
        value = config.get(name)
        if value is not None and value not in values:
            what = " or ".join(repr(each) for each in values) or "not set"
            raise impossible(f"{name} is {what} in the models that sakuga runs", value, source)


def texts(value: Any) -> list[str]:
    """The members of a list as text; none where it is no list."""
    return [str(each) for each in value] if isinstance(value, list) else []


def renamed(facts: Facts, name: str, new: str) -> Facts:
    """The facts, the one called `name` under a new name."""
    return {new if key == name else key: value for key, value in facts.items()}


def size(shapes: Shapes, key: str, axis: int) -> int | None:
    """The size of a tensor along an axis; None where there is no such tensor or axis."""
    shape = shapes.get(key, ())
    return shape[axis] if axis < len(shape) else None


def members(shapes: Shapes, stack: str) -> int | None:
    """How many numbered members a stack has; None where it has none."""
    start = stack + "."
    numbers = {key[len(start) :].split(".")[0] for key in shapes if key.startswith(start)}
    return len(numbers) or None


def without_gaps(facts: Facts) -> Facts:
    """The facts that are known: all but those that are None."""
    return {name: value for name, value in facts.items() if value is not None}


def impossible(rule: str, value: object, source: str) -> SpecMismatch:
    """The error for a value that breaks a rule, with the first 400 letters of it."""
    text = repr(value)
    return SpecMismatch(
        rule,
        f"{text if len(text) <= 400 else text[:397] + '...'} in {source}",
        "Use the config that belongs to these weights",
    )
