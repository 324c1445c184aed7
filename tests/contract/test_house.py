"""The rules of the house that tools can hold: style, types, imports, sizes, names."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "sakuga").rglob("*.py"))
LONGEST_FUNCTION = 60  # lines: one screen
MOST_PARAMETERS = 8

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: Path) -> Iterator[Function]:
    tree = ast.parse(source.read_text(encoding="utf-8"))
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def place(source: Path, function: Function) -> str:
    return f"{source.relative_to(ROOT)}:{function.lineno} {function.name}"


def is_command(function: Function) -> bool:
    """Whether typer made it a command, where each flag has to be a parameter."""
    return any("command" in ast.unparse(decorator) for decorator in function.decorator_list)


def first_line(function: Function) -> int:
    """Where reading begins; of a command it is the body, since its signature lists the flags."""
    return function.body[0].lineno if is_command(function) else function.lineno


def parameters(function: Function) -> list[ast.arg]:
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return [parameter for parameter in every if parameter.arg not in {"self", "cls"}]


def test_a_function_fits_on_one_screen() -> None:
    lengths = {
        place(source, function): function.end_lineno - first_line(function) + 1
        for source in SOURCES
        for function in functions(source)
    }
    assert {name: n for name, n in lengths.items() if n > LONGEST_FUNCTION} == {}


def test_a_signature_can_be_remembered() -> None:
    counts = {
        place(source, function): len(parameters(function))
        for source in SOURCES
        for function in functions(source)
        if not is_command(function)
    }
    assert {name: n for name, n in counts.items() if n > MOST_PARAMETERS} == {}


def test_no_signature_takes_unnamed_keywords() -> None:
    loose = [
        place(source, function)
        for source in SOURCES
        for function in functions(source)
        if function.args.kwarg is not None
    ]
    assert loose == []


@pytest.mark.parametrize(
    "command",
    [["ruff", "check", "--no-cache", "."], ["mypy"], ["lint-imports", "--no-cache"]],
    ids=lambda command: command[0],
)
def test_the_tools_find_nothing(command: list[str]) -> None:
    tool = Path(sys.executable).with_name(command[0])
    said = subprocess.run(
        [tool, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stdout + said.stderr


def test_a_folder_sets_the_marker_of_its_tests(request: pytest.FixtureRequest) -> None:
    known = {line.split(":")[0] for line in request.config.getini("markers")}
    files = ROOT.glob("tests/**/test_*.py")
    folders = {path.relative_to(ROOT / "tests").parts[0] for path in files}
    assert folders <= known
    assert request.node.get_closest_marker("contract") is not None
