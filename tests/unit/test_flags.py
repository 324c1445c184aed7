"""Flags and schemas are the fields of dataclasses; the list of commands tells the truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from sakuga.api.options import Option, json_schema, option
from sakuga.api.request import Request
from sakuga.commands.cli import COMMANDS, Command
from sakuga.commands.flags import Given, Without, flags


@dataclass(frozen=True)
class Inner:
    speed: float = option(Option("How fast.", low=0, high=10), default=1.0)


@dataclass(frozen=True)
class Outer:
    name: str | None = option(Option("What it is called."))
    loud: bool = option(Option("Shout.", flags=("--loud",)), default=False)
    tags: tuple[str, ...] = option(Option("Any number.", metavar="TAG"), default=())
    hidden: int = option(Option("Not for people."), default=3)
    inner: Inner = field(default_factory=Inner)


@flags
def show(
    outer: Annotated[Outer, Without(("hidden",))],
    given: Annotated[Mapping[str, Any], Given(Request, without=("prompt",))],
) -> None:
    typer.echo(json.dumps([repr(outer), dict(given)]))


def said(*arguments: str) -> tuple[str, dict[str, Any]]:
    app = typer.Typer()
    app.command()(show)
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    outer, given = json.loads(result.output)
    return outer, given


def test_what_is_not_given_is_left_to_the_dataclass() -> None:
    assert said() == (repr(Outer()), {})


def test_flags_reach_their_fields_however_deep() -> None:
    outer, given = said(
        "--name", "a", "--loud", "--tags", "x", "--tags", "y", "--speed", "2.5",
        "--steps", "3", "-n", "2", "--no-verbatim",
    )  # fmt: skip
    assert outer == repr(Outer("a", True, ("x", "y"), inner=Inner(2.5)))
    assert given == {"steps": 3, "number": 2, "verbatim": False}


def leaves() -> list[tuple[str, Command]]:
    return [
        (name, leaf)
        for name, one in COMMANDS.items()
        for leaf in ([one] if isinstance(one, Command) else one.commands.values())
    ]


@pytest.mark.parametrize(("name", "command"), leaves(), ids=lambda value: str(value)[:20])
def test_a_command_does_what_the_list_says(name: str, command: Command) -> None:
    module, function = command.function.split(":")
    found = getattr(import_module(f"sakuga.commands.{module}"), function)
    assert (found.__doc__ or "").split("\n\n")[0] == command.help


def test_a_schema_says_what_a_request_accepts() -> None:
    schema = json_schema(Request)
    assert schema["required"] == ["prompt"]
    assert list(schema["properties"]) == [one.name for one in fields(Request)]
    steps, solver = schema["properties"]["steps"], schema["properties"]["solver"]
    assert (steps["type"], steps["minimum"], steps["maximum"]) == (["integer", "null"], 1, 200)
    assert solver["enum"][0] == "euler"
    assert solver["enum"][-1] is None
    assert schema["properties"]["shift"]["exclusiveMinimum"] == 0
    assert schema["properties"]["lora"] == {
        "description": schema["properties"]["lora"]["description"],
        "type": "array", "items": {"type": "string"}, "default": [],
    }  # fmt: skip
