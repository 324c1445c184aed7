"""The examples are prompts that the embedded model can draw, every word of them."""

from __future__ import annotations

import json
from pathlib import Path

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.xml"))


def test_the_examples_have_no_error_and_no_unknown_word(run) -> None:
    said = run("lint", "--json", *EXAMPLES)
    assert said.returncode == 0, said.stdout + said.stderr
    findings = json.loads(said.stdout)
    serious = [
        one for one in findings if one["severity"] != "info" or one["rule"] == "unknown-word"
    ]
    assert serious == []
