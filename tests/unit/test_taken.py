"""What of another program's drawing can be asked is taken, and the rest is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from receipts import RECEIPT
from sakuga.api.infotext import Infotext, read_infotext
from sakuga.api.parameters import write_infotext
from sakuga.api.receipt import AdapterRecord
from sakuga.api.request import SCHEDULES, SOLVER_NAMES, Request
from sakuga.api.resolved import resolve
from sakuga.api.taken import taken_from
from sakuga.model.spec import CHIBI, NEWBIE_3_5B


def test_a_text_of_a1111_is_taken_whole() -> None:
    text = (
        "1girl <lora:x:0.8>\nNegative prompt: low\nSteps: 20, Sampler: Euler, "
        "Schedule type: Karras, CFG scale: 7.5, Seed: 123, Size: 512x768, Model: some, Clip skip: 2"
    )
    taken = taken_from(read_infotext(text))
    assert taken.values == {
        "prompt": "1girl", "negative": "low", "steps": 20, "solver": "euler", "guidance": 7.5,
        "seed": 123, "width": 512, "height": 768,
    }  # fmt: skip
    assert taken.left == (
        "Schedule type 'Karras'", "Model 'some'", "Clip skip '2'",
        "LoRA 'x:0.8' (name its file with --lora)",
    )  # fmt: skip
    assert taken.open == ()


def test_what_is_out_of_range_or_has_no_counterpart_is_left() -> None:
    settings = {
        "Steps": "1000", "Seed": "-2", "CFG scale": "nan", "Sampler": "Euler a", "Size": "0x8",
        "Variation" * 50_000: "x" * 500_000,
    }  # fmt: skip
    taken = taken_from(Infotext("", "", settings))
    assert taken.values == {}
    assert len(taken.left) == 6
    assert max(map(len, taken.left)) < 120
    assert taken.open == ("prompt",)
    assert taken_from(Infotext("a", "", {})).open == (
        "seed", "steps", "guidance", "width", "solver",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "solver"),
    [
        ("Euler", "euler"), ("euler", "euler"), ("k_euler", "euler"), ("Heun", "heun2"),
        ("DPM++ 2M", "dpm2"), ("dpmpp_2m", "dpm2"), ("k_dpmpp_2m", "dpm2"),
        ("res_multistep", "res_multistep"), ("Res Multistep", "res_multistep"),
        ("Euler a", None), ("euler_ancestral", None), ("DPM++ 2M SDE", None), ("", None),
    ],
)  # fmt: skip
def test_samplers_are_known_by_their_names_elsewhere(name, solver) -> None:
    assert taken_from(Infotext("", "", {"Sampler": name})).values.get("solver") == solver


@pytest.mark.parametrize("solver", SOLVER_NAMES)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_setting_of_ours_comes_back_from_the_text_alone(solver, schedule) -> None:
    asked = Request(
        "1girl", "low", 3, 256, 320, 2, steps=9, guidance=1 / 3, solver=solver, shift=5.1,
        schedule=schedule, renorm=0.5, truncation=0.25, uncond="keep-pooled",
        system='Draw: "this", Steps: 9\nSeed: 8', text_mode="comfy", max_tokens=99,
        verbatim=solver != "euler", as_xml=solver == "euler",
    )  # fmt: skip
    request = resolve(asked, CHIBI.drawing)
    lora = AdapterRecord("style.safetensors", "ab" * 32, 0.8)
    receipt = replace(RECEIPT, request=request, seed=4, index=1, adapters=(lora,))
    taken = taken_from(read_infotext(write_infotext(receipt)))
    again = resolve(Request(**taken.values), CHIBI.drawing)
    assert again == replace(request, seed=4, number=1)
    assert taken.left == ("Model 'chibi'", "LoRA 'style:0.8' (name its file with --lora)")
    assert taken.open == ()


def test_a_size_that_the_model_cannot_draw_is_left_with_its_reason() -> None:
    text = read_infotext("1girl\nSteps: 5, Seed: 1, Size: 832x1216")
    taken = taken_from(text, CHIBI.drawing)
    assert "width" not in taken.values
    assert taken.left == ("Size '832x1216' (width must be a multiple of 16 from 128 to 512)",)
    assert taken_from(text, NEWBIE_3_5B.drawing).values["height"] == 1216
