"""Where torch may be imported, and that nothing else loads it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "src" / "sakuga"

# Whole folders, and in the others the files that compute; all else starts in a blink.
WITH_TORCH = {
    "sample", "engine",
    "weights/folded", "weights/ggml", "weights/quantise", "weights/stored", "weights/unfold",
    "model/attention", "model/coders", "model/fused/kernel", "model/fused/norms",
    "model/fused/rotary", "model/fused/swiglu", "model/layers", "model/nextdit",
    "model/packing", "model/text", "model/vae",
    "checkpoint/bind", "checkpoint/convert", "checkpoint/quantising", "checkpoint/save",
    "memory/attention", "memory/device", "memory/flat", "memory/ledger", "memory/pinned",
    "memory/residency",
    "adapters/apply", "adapters/convert", "adapters/deltas", "adapters/extract", "adapters/merge",
    "batch/texts", "batch/worker",
    "commands/bench", "commands/convert", "commands/doctor/graphics",
    "commands/doctor/smoke", "commands/doctor/values",
    "chibi/binding/bench", "chibi/binding/draw", "chibi/binding/heads", "chibi/binding/page",
    "chibi/binding/quick", "chibi/binding/scorers", "chibi/binding/sheets", "chibi/binding/trial",
    "chibi/binding/verdict",
    "chibi/data", "chibi/judge", "chibi/losses", "chibi/measure", "chibi/muon", "chibi/optimise",
    "chibi/package", "chibi/progress", "chibi/text2velocity", "chibi/train",
}  # fmt: skip


def modules() -> list[str]:
    """Every module, as "weights/store"."""
    paths = (path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
    return sorted(str(path.with_suffix("")) for path in paths if not path.name.startswith("__"))


def imports_at_once(module: str) -> set[str]:
    """What a module imports when it is imported, by dotted name."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    named: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            named.add(str(node.module))
    return named


def test_nothing_but_what_computes_loads_torch() -> None:
    free = [
        "sakuga." + name.replace("/", ".")
        for name in modules()
        if not {name, name.split("/")[0]} & WITH_TORCH
    ]
    script = (
        "import importlib, sys\n"
        f"for name in {free}:\n"
        "    importlib.import_module(name)\n"
        "    heavy = sorted({'torch', 'transformers'} & set(sys.modules))\n"
        "    assert not heavy, (name, heavy)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr


def test_who_may_load_torch_does() -> None:
    computing = {"sakuga." + name.replace("/", ".") for name in WITH_TORCH}
    for name in WITH_TORCH - {"sample", "engine"}:
        named = imports_at_once(name)
        torch = {one for one in named if one.split(".")[0] == "torch"}
        ours = {one for one in named if one in computing or one.startswith("sakuga.engine.")}
        assert torch | ours, f"{name} is listed, and imports nothing that computes"
