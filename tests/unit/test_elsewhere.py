"""Other programs' flags and values: each names what is meant here."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import sakuga
from sakuga.api.codec import unknown
from sakuga.api.elsewhere import FLAGS, meant, named_elsewhere
from sakuga.api.engine_spec import Budget
from sakuga.api.request import SOLVER_NAMES, Request
from sakuga.errors import RequestError

DTYPES = ("auto", "float32", "float16", "bfloat16")
WEIGHTS = ("auto", "bfloat16", "int8", "float8_e4m3", "int4")
DRAW = ("--guidance", "--solver", "--schedule", "--number", "--steps", "--seed", "--negative",
        "--size", "--out", "--dtype", "--weights", "--vram", "--lora", "--model")  # fmt: skip


@pytest.mark.parametrize(("flag", "ours"), [
    ("--cfg", "--guidance"), ("--cfg-scale", "--guidance"), ("--guidance_scale", "--guidance"),
    ("--sampler", "--solver"), ("--sampling-method", "--solver"), ("--batch-size", "--number"),
    ("--num_inference_steps", "--steps"), ("--negative-prompt", "--negative"),
    ("--output", "--out"), ("--medvram", "--vram"), ("-m", "--model"), ("-W", "--size"),
])  # fmt: skip
def test_a_flag_names_ours(flag: str, ours: str) -> None:
    assert named_elsewhere(flag, DRAW) == f"Here it is {ours}."


def test_a_flag_is_answered_with_what_the_command_has() -> None:
    assert named_elsewhere("--batch-size", ("--batch",)) == "Here it is --batch."
    assert named_elsewhere("--batch-size", ("--json",)) is None
    assert named_elsewhere("--nonsense", DRAW) is None
    assert "first argument" in str(named_elsewhere("--prompt", DRAW))


def test_no_flag_has_two_answers() -> None:
    names = [name for group in FLAGS for name in group]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize(("got", "known", "said"), [
    ("bf16", DTYPES, "Did you mean 'bfloat16'?"),
    ("fp16", DTYPES, "Did you mean 'float16'?"),
    ("int8", DTYPES, "Weights are kept in 8 bits by --weights int8."),
    ("fp8", WEIGHTS, "Did you mean 'float8_e4m3'?"),
    ("Q4_K_M", WEIGHTS, "Did you mean 'int4'?"),
    ("heun", SOLVER_NAMES, "Did you mean 'heun2'?"),
])  # fmt: skip
def test_a_value_names_ours(got: str, known: tuple[str, ...], said: str) -> None:
    assert unknown("it", got, known).fix == said


@pytest.mark.parametrize("name", ["euler_ancestral", "dpmpp_2m", "DPM++ 2M", "euler_a", "unipc"])
def test_samplers_that_are_not_here_are_not_likened_to_others(name: str) -> None:
    assert "not here" in str(meant(name, SOLVER_NAMES))
    assert "Did you mean" not in unknown("solver", name, SOLVER_NAMES).fix


def test_a_file_is_told_of_no_flag() -> None:
    assert meant("int8", ("keep", "float32")) is None


@pytest.mark.parametrize(("call", "said"), [
    (lambda: Request("x", cfg=5), "Here it is guidance=."),  # type: ignore[call-arg]
    (lambda: Request("x", num_inference_steps=5), "Here it is steps=."),  # type: ignore[call-arg]
    (lambda: Request("x", negatve="y"), "Did you mean negative=?"),  # type: ignore[call-arg]
    (lambda: sakuga.draw("x", guidance_scale=5), "Here it is guidance=."),  # type: ignore[call-arg]
    (lambda: sakuga.open(budget="4GB"), "Here it is vram=."),  # type: ignore[call-arg]
    (lambda: sakuga.open(lora="a.safetensors"), "a Request has lora=."),  # type: ignore[call-arg]
    (lambda: Budget(nonsense=1), "Known: vram, weights, "),  # type: ignore[call-arg]
])  # fmt: skip
def test_a_keyword_names_ours(call: Callable[[], object], said: str) -> None:
    with pytest.raises(RequestError) as refused:
        call()
    assert said in str(refused.value)
