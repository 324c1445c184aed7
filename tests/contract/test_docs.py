"""The documents say what the code does, and their links lead somewhere."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sakuga import errors
from sakuga.errors import SakugaError

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_generated_parts_are_fresh() -> None:
    run = [sys.executable, ROOT / "docs" / "generate.py", "--check"]
    said = subprocess.run(run, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_the_readme_opens_with_the_picture_and_the_two_commands() -> None:
    start = (ROOT / "README.md").read_text(encoding="utf-8")[:1200]
    assert start.index("two_characters.png") < start.index("make draw") < start.index("make test")


def test_continuous_integration_runs_the_test_command() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_page_of_errors_has_the_troubles_people_report() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    troubles = {line.split("|")[1].strip(): line for line in page.splitlines() if "|" in line}
    for seen, done in {
        "`CUDA out of memory`": "sakuga plan",
        "`TypeError: ... indices must be integers`": "whole numbers",
        "`ModuleNotFoundError: flash_attn`": "torch's own",
        "The picture is blurred, broken, grey or black": "sakuga lint",
    }.items():
        assert done in troubles[seen]


def test_every_error_stands_with_an_example_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    found = importlib.import_module("provoked").examples()
    parents = {errors.WeightsError}  # raised as one of its heirs alone
    kinds = {kind for kind in vars(errors).values() if inspect.isclass(kind)} & _tree(SakugaError)
    assert set(found) == kinds - parents
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    for written in importlib.import_module("provoked").WRITTEN:
        assert written.fix.removesuffix(".") in sources


def _tree(kind: type[SakugaError]) -> set[type[SakugaError]]:
    return {kind}.union(*map(_tree, kind.__subclasses__()))
