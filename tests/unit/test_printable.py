"""What is shown on a terminal tells it nothing, whatever names a file holds, and is readable."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from adapters import FEW, factors, kohya_tensors, saved
from safetensors.torch import load_file, save_file
from tiny import TINY

from sakuga.adapters.fit import fit_adapters, transformer_targets
from sakuga.adapters.spec import parse_adapter
from sakuga.commands.convert import convert
from sakuga.commands.doctor.files import strangers
from sakuga.commands.doctor.finding import tell
from sakuga.commands.inspect import describe_file, inspect
from sakuga.commands.lora import as_text, read_shown
from sakuga.commands.streams import fold
from sakuga.errors import LayoutError, ModelNotFound
from sakuga.printable import columns, duration, readable, shown
from sakuga.weights.store import Store

EVIL = "\x1b[31mred\x07\n\u202ekcab"
SAFE = r"\x1b[31mred\x07\n\u202ekcab"


def printable(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        (EVIL, SAFE),
        ("図 ñ layers.0.weight 😀", "図 ñ layers.0.weight 😀"),
        ("\t\r\x9b\ud800\u2028", r"\t\r\x9b\ud800\u2028"),
    ],
)
def test_what_is_not_printable_is_written_out(text: str, safe: str) -> None:
    assert shown(text) == safe
    assert shown(safe) == safe


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 MB"), (940_400_000, "940 MB"), (10**9, "1.00 GB"), (7_534_000_000, "7.53 GB")],
)
def test_sizes_are_decimal_as_people_say_them(size: int, said: str) -> None:
    assert readable(size) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.08, "0.080 s"), (12.42, "12.4 s"), (100, "1:40 min"), (185.4, "3:05 min")],
)
def test_times_have_the_unit_that_people_say(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_columns_are_aligned_and_no_line_ends_in_blanks() -> None:
    rows = [("stage", "MB", ""), ("gemma", "7", "a"), ("x", "12", "")]
    assert list(columns(rows, right=(1,))) == ["stage  MB", "gemma   7  a", "x      12"]


def test_names_of_a_file_that_is_not_understood(tmp_path: Path) -> None:
    save_file({EVIL: torch.ones(2)}, tmp_path / "x.safetensors")
    (found,) = inspect(tmp_path / "x.safetensors")
    lines = list(describe_file(found))
    assert all(line.isprintable() for line in lines)
    assert any(line.endswith(SAFE) for line in lines)


def test_what_lies_beside_tensors_and_in_a_folder(tiny_model: Path, tmp_path: Path) -> None:
    vae = Path(shutil.copytree(tiny_model / "vae", tmp_path / "vae"))
    (vae / f"{EVIL}.py").write_text("")
    state = load_file(vae / "diffusion_pytorch_model.safetensors")
    torch.save({"model": state, EVIL: 1}, vae / "x.pt")
    (vae / "diffusion_pytorch_model.safetensors").unlink()
    (found,) = inspect(vae)
    lines = list(describe_file(found))
    assert all(line.isprintable() for line in lines)
    assert sum(SAFE in line for line in lines) == 2
    (told,) = convert(vae, tmp_path / "out", "original")
    assert printable(str(told))
    assert SAFE in str(told)


def test_names_of_an_adapter(tiny_model: Path, tmp_path: Path) -> None:
    odd = {f"{EVIL}.lora_A.weight": torch.ones(1, 2), f"{EVIL}.lora_B.weight": torch.ones(2, 1)}
    file = saved(tmp_path / f"{EVIL[:6]}.safetensors", kohya_tensors(factors(FEW), 2.0) | odd)
    said = as_text([read_shown(str(file), str(tiny_model))], as_json=False)
    assert printable(said)
    assert SAFE in said
    targets = transformer_targets(TINY.transformer)
    (fitted,) = fit_adapters([parse_adapter(str(file))], targets, partial=True)
    assert fitted.unmatched
    assert printable(str(fitted))
    assert r"\x1b" in str(fitted)
    torch.save({"adapter_state_dict": load_file(file), EVIL: 1}, tmp_path / "x.pt")
    (told,) = convert(tmp_path / "x.pt", tmp_path / "y.safetensors", None)
    assert printable(str(told))
    assert SAFE in str(told)


def test_other_files_that_the_doctor_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for end in (".py", ".pt"):
        (tmp_path / f"{EVIL}{end}").write_text("")
    tell(iter([strangers(tmp_path)]), as_json=False)
    said = capsys.readouterr().out
    assert printable(said)
    assert said.count(SAFE) == 2


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound) as caught:
        Store.open(tmp_path / EVIL)
    assert SAFE in str(caught.value)
    assert str(caught.value).isprintable()
    assert str(LayoutError("a", EVIL, "b")) == f"a; got {SAFE}. b."


def test_a_table_of_an_adapter_fits_a_page(tmp_path: Path) -> None:
    stem = "diffusion_model.layers.{}.attention.qkv"
    state = {}
    for number in (0, 11):
        name = stem.format(number)
        state[f"{name}.lora_A.weight"] = torch.ones(4, 48)
        state[f"{name}.lora_B.weight"] = torch.ones(96, 4)
        state[f"{name}.alpha"] = torch.tensor(2.0)
    save_file(state, tmp_path / "x.safetensors")
    text = as_text([read_shown(str(tmp_path / "x.safetensors"), None)], as_json=False)
    lines = list(fold(text, 80))
    assert all(len(line) <= 80 or " " not in line.strip() for line in lines)
    assert "  diffusion_model.layers.N.attention.qkv" in lines
    assert [" ".join(line.split()) for line in lines if line.startswith("2 ")] == [
        "2 LoRA 96x48 4 2 (a tensor of the file) 0.5"
    ]
