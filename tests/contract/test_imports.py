"""What starts in a blink imports nothing heavy, and starts in a blink."""

from __future__ import annotations

import resource
import subprocess
import sys
from importlib import metadata

import pytest

from sakuga.checkpoint.catalog import EMBEDDED_FOLDER

PROMPT = "<character_1><appearance>blue_hair</appearance></character_1>"
HEAVY = {"torch", "transformers", "numpy", "PIL", "safetensors", "pydantic", "rich.progress"}
COMMANDS = (
    ["--help"],
    ["--version"],
    ["draw", "--help"],
    ["lint", "-"],
    ["lint", "--json", "--model", "newbie-3.5b", "-"],
    ["format", "-"],
    ["words"],
    ["show", "--help"],
    ["inspect", str(EMBEDDED_FOLDER)],
    ["convert", "--help"],
    ["train", "chibi", "--help"],
    ["doctor", "--help"],
    ["fetch", "--help"],
)


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda given: " ".join(given[:2]))
def test_a_command_that_draws_nothing_imports_nothing_heavy(arguments) -> None:
    script = (
        "import sys\n"
        "from sakuga.commands.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", script, *arguments]
    said = subprocess.run(command, input=PROMPT, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert said.stderr.splitlines()[-1] == "[]"


def test_a_drawing_loads_no_more_of_torch_than_it_runs() -> None:
    """Dynamo takes as long to import as torch itself, transformers twice as long."""
    script = (
        "import sys\n"
        "from sakuga.commands.doctor.smoke import smoke\n"
        "from sakuga.checkpoint.catalog import EMBEDDED_FOLDER\n"
        "print(smoke(EMBEDDED_FOLDER, 'cpu', 'float32').colour)\n"
        "print(sorted({'transformers', 'torch._dynamo', 'torch._inductor'} & set(sys.modules)))\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert said.stdout.split() == ["green", "[]"], said.stderr


def test_a_prompt_shorter_than_the_limit_loads_no_tokenizer(words_model) -> None:
    script = (
        "import sys\n"
        "from sakuga.commands.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        "    assert 'tokenizers' not in sys.modules\n"
    )
    command = [sys.executable, "-c", script, "lint", "--model", str(words_model), "-"]
    said = subprocess.run(command, input=PROMPT, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr


@pytest.mark.parametrize("text", [PROMPT, PROMPT.replace("blue_hair", "blue_hair, " * 99)])
def test_lint_imports_no_reader_of_weights(text: str) -> None:
    """They take a tenth of a second; the tokenizer of most models is in a file of its own."""
    script = (
        "import sys\n"
        "from sakuga.commands.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "print('sakuga.weights.store' in sys.modules, file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", script, "lint", "-"]
    said = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert said.stderr == "False\n"


def test_lint_starts_in_a_blink() -> None:
    """0.3 s on a quiet machine; CPU time, and half as much again, where others are busy."""
    command = [sys.executable, "-m", "sakuga", "lint", "--model", "newbie-3.5b", "-"]

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, input=PROMPT.encode(), stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(10)) <= 0.45  # the least of ten: others come and go


def test_importing_the_package_does_nothing_but_define() -> None:
    script = (
        "import sys, threading\n"
        "before = set(sys.modules)\n"
        "import sakuga, sakuga.api.request, sakuga.commands.cli\n"
        "assert threading.active_count() == 1\n"
        "assert 'torch' not in sys.modules\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert said.returncode == 0, said.stderr


def test_the_version_costs_no_torch() -> None:
    script = "import sakuga, sys; print(sakuga.__version__, 'torch' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert said.split() == [metadata.version("sakuga"), "False"]
