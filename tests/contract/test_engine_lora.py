"""Adapters through the whole engine: the picture, its receipt, its plan."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engines import open_engine
from sakuga.adapters.fit import transformer_targets
from sakuga.adapters.merge import merge
from sakuga.adapters.spec import parse_adapters
from sakuga.api.engine_spec import Budget, EngineSpec
from sakuga.api.events import Finished, Planned, Result, Warned
from sakuga.api.request import Request
from sakuga.commands.lora import open_transformer
from sakuga.engine.engine import Engine
from sakuga.errors import BindError, BudgetTooSmall

ASKED = Request("<character_1><appearance>blue_hair</appearance></character_1>", seed=1)


@pytest.fixture(scope="module")
def style(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A LoRA for every linear of the tiny transformer: embedders, adaLN, final layer and all."""
    draw = torch.Generator().manual_seed(0)
    weights = load_file(next((tiny_model / "transformer").glob("*.safetensors")))
    tensors = {}
    for key, value in weights.items():
        if value.dim() == 2:
            stem = "base_model.model." + key.removesuffix(".weight")
            rows, columns = value.shape
            tensors[f"{stem}.lora_A.weight"] = torch.randn(3, columns, generator=draw) * 0.2
            tensors[f"{stem}.lora_B.weight"] = torch.randn(rows, 3, generator=draw) * 0.2
    folder = tmp_path_factory.mktemp("adapters") / "style"
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": 3}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def opened(model: Path, *, vram: str = "auto") -> Engine:
    return open_engine(model, budget=Budget(vram=vram))


def with_lora(*lora: object) -> Request:
    return replace(ASKED, lora=tuple(map(str, lora)))


def drawn(engine: Engine, ask: Request = ASKED) -> Result:
    return next(one.result for one in engine.generate(ask) if isinstance(one, Finished))


def test_an_adapter_draws_what_the_merged_model_draws(
    style: Path, tiny_model: Path, tmp_path: Path
) -> None:
    merged = tmp_path / "merged"
    shutil.copytree(tiny_model, merged)
    (file,) = (merged / "transformer").glob("*.safetensors")
    specs = parse_adapters([f"{style}:0.5"])
    merge(open_transformer(str(tiny_model)), specs, file, force=True)
    bare, folded = (drawn(opened(model)).picture.rgb for model in (tiny_model, merged))
    result = drawn(opened(tiny_model), with_lora(f"{style}:0.5"))
    off = [abs(a - b) for a, b in zip(result.picture.rgb, folded, strict=True)]
    assert max(off) <= 1  # where float32 rounds to another level
    assert sum(off) <= 0.01 * len(off)
    assert sum(abs(a - b) for a, b in zip(bare, folded, strict=True)) > len(off)
    (told,) = result.receipt.adapters
    assert (told.file, told.strength, told.alpha) == ("style", 0.5, None)


def test_an_adapter_of_a_quantised_model_draws_what_the_merged_file_draws(tmp_path: Path) -> None:
    """The transformer of the embedded model lies in int8, which a sum would not fit again."""
    draw = torch.Generator().manual_seed(0)
    base = open_transformer("chibi")
    linears = {name: shape for name, shape in transformer_targets(base.spec).items()
               if len(shape) == 2}  # fmt: skip
    tensors = {}
    for name, (rows, columns) in linears.items():
        tensors[f"{name}.lora_down.weight"] = torch.randn(4, columns, generator=draw) * 0.03
        tensors[f"{name}.lora_up.weight"] = torch.randn(rows, 4, generator=draw) * 0.03
        tensors[f"{name}.alpha"] = torch.tensor(4.0)
    style, out = tmp_path / "style.safetensors", tmp_path / "merged.safetensors"
    save_file(tensors, style)
    told = str(merge(base, parse_adapters([str(style)]), out))
    assert f"changed: {len(linears)} int8 -> float32" in told
    ask = Request("<character_1><appearance>blue_hair</appearance></character_1>",
                  seed=1, steps=3, width=128, height=128)  # fmt: skip
    engine, merged = open_engine(), Engine.open(EngineSpec(transformer=str(out), device="cpu"))
    bare, view, folded = (
        drawn(one, asked).picture.rgb
        for one, asked in ((engine, ask), (engine, replace(ask, lora=(str(style),))), (merged, ask))
    )
    assert max(abs(a - b) for a, b in zip(view, folded, strict=True)) <= 1
    assert max(abs(a - b) for a, b in zip(bare, view, strict=True)) > 20


def test_the_smallest_budget_counts_the_adapters_and_gives_the_same_picture(
    style: Path, tiny_model: Path
) -> None:
    smallest = {}
    for lora in ((), (style,)):
        with pytest.raises(BudgetTooSmall) as error:
            drawn(opened(tiny_model, vram="1MB"), with_lora(*lora))
        smallest[lora] = error.value.smallest
    assert smallest[()] < smallest[style,]
    tight = drawn(opened(tiny_model, vram=str(smallest[style,])), with_lora(style))
    ample = drawn(opened(tiny_model, vram="1GB"), with_lora(style))
    denoise = {stage.stage: stage for stage in tight.receipt.plan.stages}["denoise"]
    assert denoise.resident == 0
    assert tight.picture.rgb == ample.picture.rgb


def test_what_does_not_fit_is_an_error_before_any_work(style: Path) -> None:
    with pytest.raises(BindError):
        next(open_engine().generate(with_lora(style)))
    with pytest.raises(BindError):
        open_engine(lora=(str(style),))


def test_an_assumed_alpha_is_warned_of(style: Path, tiny_model: Path, tmp_path: Path) -> None:
    lone = tmp_path / "lone.safetensors"
    shutil.copy(style / "adapter_model.safetensors", lone)
    first, second, *_ = opened(tiny_model).generate(with_lora(lone))
    assert isinstance(first, Planned)
    assert isinstance(second, Warned)
    assert "alpha assumed" in second.message


# Draws without, with one adapter, with another, without; tells of every file that is opened.
TURNS = """
import json, sys
from sakuga.api.engine_spec import EngineSpec
from sakuga.api.events import Finished
from sakuga.api.request import Request
from sakuga.engine.engine import Engine
folder, prompt, *turns = sys.argv[1:]
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
engine = Engine.open(EngineSpec(folder, device="cpu", threads=1))
for turn in turns:
    opened.clear()
    request = Request(prompt, seed=1, lora=tuple(filter(None, [turn])))
    *_, last = engine.generate(request)
    told = [one for one in opened if one.startswith(folder)]
    print(json.dumps([last.result.picture.rgb.hex(), told]))
"""


def test_adapters_change_from_request_to_request_without_the_base_being_opened_again(
    style: Path, tiny_model: Path
) -> None:
    turns = ["", f"{style}:0.5", f"{style}:1", "", f"{style}:0.5"]
    command = [sys.executable, "-c", TURNS, str(tiny_model), ASKED.prompt, *turns]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    (first, *pictures), (loaded, *again) = zip(
        *(json.loads(line) for line in said.stdout.splitlines()), strict=True
    )
    assert any(file.endswith(".safetensors") for file in loaded)
    assert again == [[]] * 4
    assert pictures[2] == first
    assert pictures[0] == pictures[3] != first
    assert pictures[1] not in (first, pictures[0])


def test_the_adapters_of_an_engine_come_before_those_of_a_request(
    style: Path, tiny_model: Path
) -> None:
    both = drawn(open_engine(tiny_model, lora=(f"{style}:0.5",)), with_lora(f"{style}:0.25"))
    asked = drawn(opened(tiny_model), with_lora(f"{style}:0.5", f"{style}:0.25"))
    assert both.picture == asked.picture
    assert [one.strength for one in both.receipt.adapters] == [0.5, 0.25]
    assert both.receipt.request.lora == ()  # no path is told to whoever sees the picture
