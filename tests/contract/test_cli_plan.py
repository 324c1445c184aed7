"""`sakuga plan` as people and programs use it, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial

import pytest

SMALL = ("--vram", "3GB", "--size", "1024x1024", "--batch", "2")


@pytest.fixture
def plan(run):
    return partial(run, "plan")


def test_a_plan_is_printed_with_its_stages_and_reasons(plan) -> None:
    done = plan(*SMALL)
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("gemma", "jina", "denoise", "decode", "blocks stream", "Peak", "estimated"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_a_program_gets_numbers(plan) -> None:
    told = json.loads(plan(*SMALL, "--json").stdout)
    assert told["peak_bytes"] == max(stage["peak_bytes"] for stage in told["stages"])
    assert told["peak_bytes"] <= told["usable_bytes"] < told["limit_bytes"] == 3 * 10**9
    assert told["seconds"] == pytest.approx(sum(stage["seconds"] for stage in told["stages"]))
    assert [stage["stage"] for stage in told["stages"]] == ["gemma", "jina", "denoise", "decode"]


def test_a_budget_too_small_names_the_one_that_works(plan) -> None:
    done = plan("--vram", "300MB", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["code"] == "budget_too_small"
    assert f"{-(-told['smallest_bytes'] // 10**6)}MB" in done.stderr
    again = plan("--vram", str(told["smallest_bytes"]), "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout)["limit_bytes"] == told["smallest_bytes"]


def test_the_table_answers_by_size_and_batch(plan) -> None:
    lines = plan("--table", "--vram", "16GB").stdout.splitlines()
    begin = next(at for at, line in enumerate(lines) if line.startswith("size"))
    rows = [line.split() for line in lines[begin + 1 : lines.index("", begin)]]
    answers = {(row[0], row[1]): row[2] for row in rows}
    assert len(rows) == 10
    assert set(answers.values()) == {"yes"}
    assert {("512x512", "4"), ("1024x1024", "8"), ("2048x2048", "1")} <= set(answers)
    assert any("no, over 18 GB" in line for line in lines)


def test_the_embedded_model_is_planned_from_its_headers(plan) -> None:
    told = json.loads(plan("--model", "chibi", "--card", "cpu", "--json").stdout)
    assert told["model"] == "chibi"
    assert told["work"]["evaluations"] == 10
    assert told["context_bytes"] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(("--vram", "8 apples"), "amount of memory"), (("--card", "voodoo2"), "known card"),
     (("--size", "1000x1000"), "multiple of 16"), (("--size", "wide"), "WIDTHxHEIGHT"),
     (("--preset", "sdxl"), "preset"), (("--dtype", "int8"), "dtype"),
     (("--weights", "nf4"), "storage format"), (("--model", "chibi", "--preset", "chibi"), "both")],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(plan, arguments: tuple[str, ...], says: str) -> None:
    done = plan(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert says in done.stderr


def test_a_plan_needs_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['sakuga', 'plan', '--vram', '8GB']\n"
        "from sakuga.commands.cli import app\n"
        "app(standalone_mode=False)\n"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules), 'heavy'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
