"""The examples are prompts that the embedded model can draw, every word of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.xml"))


def test_the_examples_have_no_error_and_no_unknown_word() -> None:
    run = [sys.executable, "-m", "sakuga", "lint", "--json", *EXAMPLES]
    said = subprocess.run(run, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    findings = json.loads(said.stdout)
    serious = [
        one for one in findings if one["severity"] != "info" or one["rule"] == "unknown-word"
    ]
    assert serious == []
