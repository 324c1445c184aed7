"""The rules of the house that tools can hold: style, types, imports, sizes, names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "sakuga").rglob("*.py"))
LONGEST_FUNCTION = 60  # lines: one screen
LONGEST_FILE = 450
LARGEST_CLASS = 150  # lines
MOST_METHODS = 12
MOST_PARAMETERS = 8
# Signatures that another library's users type; they are not ours to shorten.
FOREIGN = {"src/sakuga/engine/pipeline.py __call__"}
MOST_ROOMS = 18  # folders and files at the top of the package

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def nodes(source: Path) -> tuple[ast.AST, ...]:
    """Everything in a file, from the outside in; it is parsed once for all tests."""
    return tuple(ast.walk(ast.parse(source.read_text(encoding="utf-8"))))


def functions(source: Path) -> Iterator[Function]:
    return (node for node in nodes(source) if isinstance(node, Function))


def place(source: Path, function: Function) -> str:
    return f"{source.relative_to(ROOT)}:{function.lineno} {function.name}"


def parameters(function: Function) -> list[ast.arg]:
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return [parameter for parameter in every if parameter.arg not in {"self", "cls"}]


def test_a_function_fits_on_one_screen() -> None:
    lengths = {
        place(source, function): function.end_lineno - function.lineno + 1
        for source in SOURCES
        for function in functions(source)
    }
    assert {name: n for name, n in lengths.items() if n > LONGEST_FUNCTION} == {}


def test_a_file_has_one_subject() -> None:
    lengths = {
        str(source.relative_to(ROOT)): len(source.read_text(encoding="utf-8").splitlines())
        for source in SOURCES
    }
    assert {name: n for name, n in lengths.items() if n > LONGEST_FILE} == {}


def test_a_class_can_be_taken_in_at_once() -> None:
    sizes = {}
    for source in SOURCES:
        for node in nodes(source):
            if isinstance(node, ast.ClassDef):
                lines = node.end_lineno - node.lineno + 1
                methods = sum(isinstance(one, Function) for one in node.body)
                sizes[f"{source.relative_to(ROOT)} {node.name}"] = lines, methods
    large = {n: s for n, s in sizes.items() if s[0] > LARGEST_CLASS or s[1] > MOST_METHODS}
    assert large == {}


def test_the_top_floor_has_few_rooms() -> None:
    top = [path.name for path in (ROOT / "src" / "sakuga").iterdir()]
    rooms = [name for name in top if not name.startswith("__")]
    assert len(rooms) <= MOST_ROOMS


def test_no_two_public_classes_share_a_name() -> None:
    homes: dict[str, list[str]] = {}
    for source in SOURCES:
        for node in ast.iter_child_nodes(nodes(source)[0]):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(str(source.relative_to(ROOT)))
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def is_kernel(function: Function) -> bool:
    """Whether a card runs it: called once, by a launch that says what each argument is."""
    return any(ast.unparse(one).startswith("kernel(") for one in function.decorator_list)


def test_a_signature_can_be_remembered() -> None:
    counts = {
        place(source, function): len(parameters(function))
        for source in SOURCES
        for function in functions(source)
        if not is_kernel(function)
    }
    long = {name for name, n in counts.items() if n > MOST_PARAMETERS}
    assert {re.sub(r":\d+", "", name) for name in long} == FOREIGN


def test_kernels_are_few() -> None:
    kernels = [one.name for source in SOURCES for one in functions(source) if is_kernel(one)]
    assert len(kernels) <= 6


def wraps_another(function: Function) -> bool:
    """Whether it stands for another function, whose signature it then has."""
    return any("wraps" in ast.unparse(decorator) for decorator in function.decorator_list)


def test_no_signature_takes_unnamed_keywords() -> None:
    loose = [
        place(source, function)
        for source in SOURCES
        for function in functions(source)
        if function.args.kwarg is not None and not wraps_another(function)
    ]
    assert loose == []
    wrappers = [one for source in SOURCES for one in functions(source) if wraps_another(one)]
    assert len(wrappers) == 2


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
