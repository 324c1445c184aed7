"""The tree that the documents draw is the tree on the disk, and every room has its layer."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "sakuga"


def modules_on_disk() -> set[str]:
    every = PACKAGE.rglob("*.py")
    return {str(path.relative_to(PACKAGE)) for path in every if not path.name.startswith("__")}


def contracts() -> list[dict[str, Any]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    every: list[dict[str, Any]] = settings["tool"]["importlinter"]["contracts"]
    return every


def torch_free() -> list[str]:
    """The modules that the contract keeps from torch; a package stands for what it holds."""
    (named,) = (
        contract["source_modules"]
        for contract in contracts()
        if "torch" in contract.get("forbidden_modules", ())
    )
    every = [
        "sakuga." + module.removesuffix(".py").replace("/", ".") for module in modules_on_disk()
    ]
    return sorted(name for name in every if name in named or name.rpartition(".")[0] in named)


def in_a_layer(module: str, layers: list[str]) -> bool:
    """Whether `module` ("prompt/lint.py") or its package is named in a layer."""
    name = "sakuga." + module.removesuffix(".py").replace("/", ".")
    named = {part.strip() for layer in layers for part in re.split(r"[|:]", layer)}
    return name in named or name.rpartition(".")[0] in named - {"sakuga"}


def test_the_drawn_tree_is_the_tree() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = page.split("```")[1]
    drawn = dict(re.findall(r"^  (\S+\.py) +(\S.*)$", block, flags=re.MULTILINE))
    assert set(drawn) == modules_on_disk()


def test_every_room_has_its_layer() -> None:
    (layers,) = (contract["layers"] for contract in contracts() if contract["type"] == "layers")
    homeless = {module for module in modules_on_disk() if not in_a_layer(module, layers)}
    assert homeless == set()


def test_a_room_below_torch_imports_without_it() -> None:
    script = (
        "import importlib, sys\n"
        f"for name in {torch_free()}:\n"
        "    importlib.import_module(name)\n"
        "    heavy = sorted({'torch', 'transformers'} & set(sys.modules))\n"
        "    assert not heavy, (name, heavy)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
