"""docs/server.md: what it shows is run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from servers import RunningServer

PAGE = (Path(__file__).parents[2] / "docs" / "server.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```(sh|python)\n(.*?)```", PAGE, re.S)


def test_there_are_examples_of_each_kind() -> None:
    assert sorted(kind for kind, _ in EXAMPLES) == ["python", "python", "sh", "sh"]


@pytest.mark.parametrize("index", range(len(EXAMPLES)))
def test_an_example_runs(server: RunningServer, tmp_path: Path, index: int) -> None:
    kind, text = EXAMPLES[index]
    text = text.replace("7788", str(server.port))
    command = ["sh", "-ec", text] if kind == "sh" else [sys.executable, "-c", text]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert ended.returncode == 0, ended.stderr
    for file in tmp_path.glob("*.json"):
        assert (
            "error" not in json.loads(file.read_text(encoding="utf-8")) or file.name == "job.json"
        )
    for file in tmp_path.glob("*.png"):
        assert file.read_bytes().startswith(b"\x89PNG")
