"""A family of components, whose configs and key shapes state the same fields, and agree.

Each source states the fields it knows, in the names of `model.spec`. The config (of
config.json, else of the metadata) is taken at its word, shapes fill in what it leaves
unsaid, the family's defaults the rest; where config and shapes both know, they must agree.
Configs are those of transformers 4 and 5, of diffusers and of the original NextDiT. Keys
without a meaning here are left alone; values that our classes cannot run are refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Generic, TypeVar

from sakuga.errors import SpecMismatch
from sakuga.model.inventory import Shapes
from sakuga.model.spec import GemmaSpec, JinaSpec, NextDiTSpec, VAESpec

Config = Mapping[str, Any]
Facts = dict[str, Any]

S = TypeVar("S", NextDiTSpec, GemmaSpec, JinaSpec, VAESpec)
MAY_BE_ZERO = frozenset({"pad_token_id", "bos_token_id", "eos_token_id", "clip_text_dim"})
LAYER_NUMBERS = frozenset({"full_attention_layers"})  # their family says which there are


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


def refuse_values(config: Config, source: str, allowed: Mapping[str, Collection[Any]]) -> None:
    """Refuse what our classes cannot run; a name that is absent or null is fine."""
    for name, values in allowed.items():
        value = config.get(name)
        if value is not None and value not in values:
            what = " or ".join(repr(each) for each in values) or "not set"
            raise impossible(f"{name} is {what} in the models that sakuga runs", value, source)


def texts(value: Any) -> list[str]:
    """The members of a list as text; none where it is no list."""
    return [str(each) for each in value] if isinstance(value, list) else []


def under_name(facts: Facts, name: str, new: str) -> Facts:
    """The facts, the one called `name` under a new name."""
    return {new if key == name else key: value for key, value in facts.items()}


def size_of(shapes: Shapes, key: str, axis: int) -> int | None:
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


@dataclass(frozen=True, slots=True)
class Family(Generic[S]):
    """One kind of component: how its sources are read and its config is written.

    stated: fields a config gives. measured: fields, or properties, that key shapes give,
    knowing the stated ones. assumed: fields that may go unsaid, from the known ones and
    whether there is a config. rules: what must hold, each with whether it does.
    """

    spec: type[S]
    stated: Callable[[Config, str], Facts]
    measured: Callable[[Shapes, Facts], Facts]
    assumed: Callable[[Facts, bool], Facts]
    rules: Callable[[S], Iterable[tuple[str, bool]]]
    config: Callable[[S], dict[str, Any]]


def read_spec(
    family: Family[S], config: Config | None, source: str, shapes: Shapes, file: str
) -> S:
    """The spec of a component, from a config, if there is one, and key shapes.

    source, file: where config and shapes come from, for messages. shapes: by our names.
    Raises SpecMismatch where the two differ (naming both sources with both values), where
    neither says enough, or where a value breaks a rule.
    """
    stated = family.stated(config, source) if config is not None else {}
    measured = family.measured(shapes, stated)
    known = {**measured, **stated}
    known = {**family.assumed(known, config is not None), **known}
    lacking = [
        field.name
        for field in fields(family.spec)
        if field.name not in known and field.default is MISSING
    ]
    if lacking:
        raise SpecMismatch(
            "a config or the key shapes say what a model is",
            f"nothing about {', '.join(lacking)} in {source} and {file}",
            "Put the config.json of these weights beside them",
        )
    names = {field.name for field in fields(family.spec)}
    spec = family.spec(**{name: value for name, value in known.items() if name in names})
    check(family, spec, source if config is not None else file)
    for name, value in measured.items():
        if getattr(spec, name) != value:
            raise SpecMismatch(
                "config and key shapes describe one model",
                f"{name} {getattr(spec, name)!r} by {source}, {value!r} by the keys of {file}",
                "Use the config that belongs to these weights",
            )
    return spec


def compare(family: Family[S], spec: S, source: str, config: Config, other: str) -> None:
    """Refuse a second config that describes another model, with SpecMismatch.

    source: where the spec comes from. config, other: the second one, and where it does.
    """
    for name, value in family.stated(config, other).items():
        # What is no field, such as a pattern of layers, was turned into fields on reading.
        if getattr(spec, name, value) != value:
            raise SpecMismatch(
                "two configs of one component describe one model",
                f"{name} {getattr(spec, name)!r} by {source}, {value!r} by {other}",
                "Remove the config that does not belong to these weights",
            )


def check(family: Family[S], spec: S, source: str) -> None:
    """Refuse a spec that no model can have, with SpecMismatch."""
    for field in fields(family.spec):
        value = getattr(spec, field.name)
        several = isinstance(value, tuple) and field.name not in LAYER_NUMBERS
        numbers = value if several else (value,)
        low = 0 if field.name in MAY_BE_ZERO else 1
        for number in numbers:
            if type(number) is int and not low <= number < 2**31:
                raise impossible(f"{field.name} is a whole number from {low}", value, source)
            if isinstance(number, float) and not math.isfinite(number):
                raise impossible(f"{field.name} is a finite number", value, source)
    for rule, holds in family.rules(spec):
        if not holds:
            raise impossible(rule, spec, source)


def token_rules(spec: GemmaSpec | JinaSpec) -> Iterable[tuple[str, bool]]:
    """The rules of families that have a vocabulary, each with whether it holds."""
    ids = (spec.pad_token_id, spec.bos_token_id, spec.eos_token_id)
    yield "special tokens are in the vocabulary", max(ids) < spec.vocab_size
