"""Command-line flags made from dataclasses: one flag per field, by the rule beside it."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer

from sakuga.api.options import option_of

Parameters = dict[str, inspect.Parameter]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.", show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]
Partial = Annotated[
    bool, typer.Option("--lora-partial", help="Leave out what matches nothing of the model.")
]
Size = Annotated[str | None, typer.Option(help="WIDTHxHEIGHT, or one number for a square.")]


@dataclass(frozen=True, slots=True)
class Given:
    """Beside a parameter: it takes what was given of the fields of `kind`, by name."""

    kind: type
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Without:
    """Beside a parameter: these fields of its dataclass are no flags, and keep their default."""

    names: tuple[str, ...]


def flags(function: Callable[..., None]) -> Callable[..., None]:
    """Let a typer command take dataclasses: its flags are their fields, and those within them.

    A parameter annotated with a dataclass gets one, built from the flags; one annotated with
    `Annotated[Mapping[str, Any], Given(kind)]` gets the fields of `kind` that were given.
    """
    inner = inspect.signature(function, eval_str=True)
    outer: Parameters = {}
    for parameter in inner.parameters.values():
        outer |= _outer(parameter)

    @wraps(function)
    def command(**given: Any) -> None:
        function(**{name: _inner(one, given) for name, one in inner.parameters.items()})

    command.__signature__ = inspect.Signature([*outer.values()])  # type: ignore[attr-defined]
    command.__annotations__ = {name: one.annotation for name, one in outer.items()}
    return command


def _outer(parameter: inspect.Parameter) -> Parameters:
    """The parameters that typer sees for one of the command's."""
    kind, rule = _split(parameter.annotation)
    if isinstance(rule, Given):
        every = _flags(rule.kind, optional=True)
        return {name: one for name, one in every if name not in rule.without}
    if is_dataclass(kind):
        without = rule.names if isinstance(rule, Without) else ()
        return {name: one for name, one in _flags(kind) if name not in without}
    return {parameter.name: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)}


def _inner(parameter: inspect.Parameter, given: Mapping[str, Any]) -> Any:
    """What the command gets for one of its parameters."""
    kind, rule = _split(parameter.annotation)
    if isinstance(rule, Given):
        names = [field.name for field in fields(rule.kind)]
        return {name: _tupled(given[name]) for name in names if given.get(name) is not None}
    if is_dataclass(kind):
        return _built(kind, given, rule.names if isinstance(rule, Without) else ())
    return given[parameter.name]


def _split(annotation: Any) -> tuple[Any, Given | Without | None]:
    """An annotation and the rule beside it."""
    if get_origin(annotation) is not Annotated:
        return annotation, None
    kind, *extras = get_args(annotation)
    return kind, next((one for one in extras if isinstance(one, Given | Without)), None)


def _flags(kind: Any, *, optional: bool = False) -> Iterator[tuple[str, inspect.Parameter]]:
    """A parameter for every field of a dataclass; optional: None says that it was not given."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        if is_dataclass(hints[field.name]):
            yield from _flags(hints[field.name], optional=optional)
        else:
            yield field.name, _flag(field, hints[field.name], optional)


def _flag(field: Field[Any], kind: Any, optional: bool) -> inspect.Parameter:
    rule = option_of(field)
    help_text = f"{rule.help} [{rule.accepts}]" if rule.accepts else rule.help
    default = None if optional or field.default in (MISSING, ()) else field.default
    shown = not isinstance(default, bool) and default not in (None, "")
    told = typer.Option(*rule.flags, help=help_text, metavar=rule.metavar, show_default=shown)
    if get_origin(kind) is tuple:
        kind = list[get_args(kind)[0]]  # type: ignore[misc]
    if default is None and not _optional(kind):
        kind = kind | None
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(field.name, keyword, default=default, annotation=Annotated[kind, told])


def _built(kind: Any, given: Mapping[str, Any], without: tuple[str, ...] = ()) -> Any:
    """A dataclass of flags; what was not given is left to its default."""
    hints, values = get_type_hints(kind), {}
    for field in fields(kind):
        if is_dataclass(hints[field.name]):
            values[field.name] = _built(hints[field.name], given)
        elif field.name not in without and given[field.name] is not None:
            values[field.name] = _tupled(given[field.name])
    return kind(**values)


def _optional(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType) and type(None) in get_args(kind)


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
