"""`sakuga lora` as people and programs use it, in a process of its own."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from safetensors.torch import save_file

MODULE = "layers.0.attention.qkv"


@pytest.fixture
def lora(run):
    return partial(run, "lora")


@pytest.fixture(scope="module")
def style(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA for one linear of the tiny model, alpha half the rank."""
    import torch

    folder = tmp_path_factory.mktemp("adapters") / "style"
    folder.mkdir()
    torch.manual_seed(0)
    save_file({f"base_model.model.{MODULE}.lora_A.weight": torch.randn(4, 32),
               f"base_model.model.{MODULE}.lora_B.weight": torch.randn(64, 4)},
              folder / "adapter_model.safetensors")  # fmt: skip
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 2}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_show_says_kind_rank_alpha_scale_and_what_matches(
    lora, style: Path, tiny_model: Path
) -> None:
    done = lora("show", style, "--model", tiny_model)
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("LoRA", MODULE.replace("0", "N"), "64x32", "2 (adapter_config.json)", "0.5",
                 "1 of 1 modules match"):  # fmt: skip
        assert word in done.stdout


def test_show_is_for_programs_too_and_fails_where_the_model_is_another(lora, style: Path) -> None:
    done = lora("show", style, "--json", "--model", "newbie-3.5b")
    assert done.returncode == 1
    (told,) = json.loads(done.stdout)
    assert told["parts"][0]["rank"] == 4
    assert told["changes"] == []
    assert "[3840, 2304]" in told["problem"]


def test_show_imports_nothing_heavy(style: Path, tiny_model: Path) -> None:
    script = (
        "import sys\n"
        "from sakuga.commands.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "assert not {'torch', 'numpy', 'safetensors'} & set(sys.modules)\n"
    )
    run = [sys.executable, "-c", script, "lora", "show", str(style), "--model", str(tiny_model)]
    said = subprocess.run(run, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr


def test_merge_then_extract_comes_back(lora, style: Path, tiny_model: Path, tmp_path: Path) -> None:
    merged = tmp_path / "merged.safetensors"
    done = lora("merge", f"{style}:0.5", "--model", tiny_model, "--out", merged)
    assert (done.returncode, done.stderr) == (0, "")
    assert "changes 1 module (1 lora)" in done.stdout
    out = tmp_path / "again"
    done = lora("extract", tiny_model, merged, "--out", out, "--rank", 4, "--device", "cpu")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("1 linears, error 0.00%")
    shown = lora("show", out, "--model", tiny_model, "--json")
    (told,) = json.loads(shown.stdout)
    assert told["changes"] == [{"module": MODULE, "rows": None, "kind": "lora", "strength": 1.0}]


def test_a_slip_of_the_pen_ends_with_two(lora, style: Path) -> None:
    done = lora("show", f"{style}:strong")
    assert done.returncode == 2
    assert "FILE[:STRENGTH]" in done.stderr


def test_a_trainers_checkpoint_is_applied_after_the_command_that_is_named(
    lora, run, tiny_model: Path, tmp_path: Path
) -> None:
    import torch

    torch.manual_seed(0)
    tensors = {f"base_model.model.{MODULE}.lora_A.weight": torch.randn(4, 32),
               f"base_model.model.{MODULE}.lora_B.weight": torch.randn(64, 4)}  # fmt: skip
    file = tmp_path / "checkpoint 1.pt"
    torch.save({"step": 1, "adapter_type": "lora", "adapter_state_dict": tensors}, file)
    refused = lora("show", file)
    assert refused.returncode == 1
    command = refused.stderr.partition("Convert it once: ")[2].strip().rstrip(".")
    program, *arguments = shlex.split(command)
    assert program == "sakuga"
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 module under the names they had" in done.stdout
    assert "alpha assumed: as large as the rank" in done.stdout
    shown = lora("show", arguments[-1], "--model", tiny_model)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "1 of 1 modules match" in shown.stdout


def test_what_cannot_be_written_ends_with_one_line(
    lora, style: Path, tiny_model: Path, tmp_path: Path
) -> None:
    (base,) = (tiny_model / "transformer").glob("*.safetensors")
    before = base.read_bytes()
    for out in (tmp_path / f"{'n' * 300}.safetensors", base):
        done = lora("merge", style, "--model", tiny_model, "--out", out, "--force")
        assert done.returncode in (1, 2)
        assert "Traceback" not in done.stderr
    assert base.read_bytes() == before
