"""What a consumer of the engine relies on, shown on a tiny model of the real classes."""

from __future__ import annotations

import gc
import json
import re
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engines import open_engine
from sakuga.api.events import Decoded, Encoded, Finished, Planned, Result, Stepped, Warned
from sakuga.api.request import SOLVER_NAMES, Request
from sakuga.api.resolved import Resolved
from sakuga.api.said import receipt_from
from sakuga.engine import denoise
from sakuga.engine.engine import Engine
from sakuga.errors import (
    ModelNotFound,
    NonFiniteOutput,
    OutOfMemory,
    PromptRefused,
    RequestError,
    SpecMismatch,
)
from sakuga.files.texts import read_texts
from sakuga.model.nextdit import FinalLayer
from sakuga.model.spec import VAESpec
from sakuga.sample import solvers
from sakuga.sample.solvers import find_solver

PROMPT = "<character_1><appearance>red_eyes, blue_hair</appearance></character_1>"
ASK = Request(PROMPT, seed=5, steps=3)


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Engine:
    return open_engine(tiny_model)


def faulty(model: Path, faults: str) -> Engine:
    return open_engine(model, faults=faults)


def results(engine: Engine, request: Request) -> list[Result]:
    return [event.result for event in engine.generate(request) if isinstance(event, Finished)]


def ask(**changes) -> Request:
    return Request(**{"prompt": PROMPT, "seed": 5, "steps": 3, **changes})


def test_events_come_in_order(engine) -> None:
    events = list(engine.generate(ask(number=2)))
    kinds = [type(event) for event in events]
    assert kinds == [Planned, Encoded, Stepped, Stepped, Stepped, Decoded, Finished, Finished]
    steps = [event for event in events if isinstance(event, Stepped)]
    assert [(step.index, step.of) for step in steps] == [(1, 3), (2, 3), (3, 3)]


def test_a_picture_has_the_size_that_was_asked(engine) -> None:
    (result,) = results(engine, ask(width=96, height=32))
    assert (result.picture.width, result.picture.height) == (96, 32)
    assert len(result.picture.rgb) == 96 * 32 * 3
    assert len(set(result.picture.rgb)) > 50


def test_the_same_request_gives_the_same_pixels(engine) -> None:
    (first,), (second,) = results(engine, ASK), results(engine, ASK)
    assert first.picture == second.picture
    (other,) = results(engine, ask(seed=6))
    assert other.picture != first.picture


def test_another_engine_gives_the_same_pixels(engine, tiny_model) -> None:
    (first,), (second,) = results(engine, ASK), results(faulty(tiny_model, ""), ASK)
    assert first.picture == second.picture


def test_a_picture_starts_from_the_same_noise_alone_and_in_a_batch(engine) -> None:
    vae = engine.model.vae
    batch = denoise.noise(engine.resolve(ask(number=3)), vae)
    for i in range(3):
        alone = denoise.noise(engine.resolve(ask(seed=5 + i)), vae)
        assert torch.equal(batch[i], alone[0])


def test_noise_is_what_torch_draws_for_the_seed(engine) -> None:
    noise = denoise.noise(engine.resolve(ask(width=64, height=32)), engine.model.vae)
    expected = torch.randn(16, 4, 8, generator=torch.Generator().manual_seed(5))
    assert torch.equal(noise[0], expected)


def test_pictures_of_a_batch_are_those_drawn_alone(engine) -> None:
    batch = results(engine, ask(number=2))
    for i, result in enumerate(batch):
        (alone,) = results(engine, ask(seed=5 + i))
        assert result.receipt.seed == alone.receipt.seed == 5 + i
        pairs = zip(result.picture.rgb, alone.picture.rgb, strict=True)
        assert max(abs(a - b) for a, b in pairs) <= 1  # kernels may round by shape


@pytest.mark.parametrize(
    "change",
    [
        {"guidance": 1.0},
        {"guidance": 5.0},
        {"negative": "long_hair"},
        {"uncond": "keep-pooled"},
        {"renorm": 0.5},
        {"truncation": 0.3},
        {"solver": "midpoint"},
        {"shift": 6.0},
        {"schedule": "linear_quadratic"},
        {"system": "Paint."},
        {"text_mode": "comfy"},
        {"max_tokens": 3},
        {"verbatim": True, "prompt": PROMPT.replace(", ", " ,")},
        {"recipe": "demo"},
    ],
    ids=str,
)
def test_every_option_reaches_the_picture(engine, change) -> None:
    (plain,), (changed,) = results(engine, ASK), results(engine, ask(**change))
    assert plain.picture != changed.picture


def test_by_default_guidance_runs_to_the_end_whatever_the_solver(engine) -> None:
    request = {"solver": "heun2", "steps": 1}  # its second evaluation is at t = 1
    (always,), (not_at_1,) = (
        results(engine, ask(**request, **end)) for end in ({}, {"truncation": 0.999})
    )
    assert always.picture != not_at_1.picture
    assert always.receipt.guidance == "v_uncond + 3·(v_cond - v_uncond)"


def test_guidance_without_a_negative_branch_never_reads_the_negative(engine) -> None:
    (one,), (other,) = (
        results(engine, ask(guidance=1.0, negative=text)) for text in ("", "long_hair")
    )
    assert one.picture == other.picture


def test_the_order_of_blocks_and_fields_changes_nothing(engine) -> None:
    a, b = "<character_1><n>a</n></character_1>", "<general_tags><style>x</style></general_tags>"
    (one,), (other,) = results(engine, ask(prompt=a + b)), results(engine, ask(prompt=b + a))
    assert one.picture == other.picture


@pytest.mark.parametrize("solver", SOLVER_NAMES)
def test_every_solver_draws(engine, solver) -> None:
    for schedule in ("shifted", "linear_quadratic"):
        (result,) = results(engine, ask(solver=solver, schedule=schedule))
        assert result.receipt.solver.startswith(f"{solver}: ")


def test_a_request_names_the_solvers_there_are() -> None:
    assert set(SOLVER_NAMES) == set(solvers.SOLVERS)
    for name in SOLVER_NAMES:
        least = int(name[-1]) if name.startswith("dpm") else 1
        assert find_solver(name, least).min_steps == least


def test_a_receipt_says_how_the_picture_was_made(engine) -> None:
    (receipt,) = [result.receipt for result in results(engine, ask(truncation=0.5, renorm=1.0))]
    assert (receipt.model, receipt.seed, receipt.index) == ("tiny", 5, 0)
    assert receipt.request.guidance == 3.0
    assert receipt.texts.gemma.startswith("Draw. <Prompt Start> <character_1>")
    assert receipt.texts.jina.startswith("<character_1>")
    assert receipt.texts.negative_gemma == ""
    assert receipt.tokens.gemma > receipt.tokens.negative_gemma > 0
    assert receipt.guidance == (
        "v_uncond + 3·(v_cond - v_uncond), norm at most 1·|v_cond|; v_cond from t = 0.5"
    )
    assert set(receipt.weights) == {"transformer", "text_encoder", "text_encoder_2", "vae"}
    assert all(len(digest) == 64 for digest in receipt.weights.values())
    assert {"sakuga", "torch"} == set(receipt.versions)
    assert (receipt.plan.device, receipt.plan.dtype) == ("cpu", "float32")
    assert str(engine.checkpoint.path) not in str(receipt)


def test_the_first_word_past_the_trained_length_is_named(engine) -> None:
    text = "<general_tags><style>" + "blue_hair, " * 600 + "last</style></general_tags>"
    (result,) = results(engine, ask(prompt=text))
    assert result.receipt.tokens.gemma > 512
    assert result.receipt.tokens.past in text
    (cut,) = results(engine, ask(prompt=text, max_tokens=512))
    assert cut.receipt.tokens.gemma == 512


@pytest.mark.parametrize(
    "change", [{"width": 60}, {"height": 144}, {"steps": 0}, {"guidance": 21.0}, {"seed": -2}]
)
def test_what_cannot_be_drawn_is_refused_before_any_work(engine, change) -> None:
    with pytest.raises(RequestError):
        next(engine.generate(ask(**change)))


def test_a_text_no_tool_should_parse_is_refused(engine) -> None:
    with pytest.raises(PromptRefused):
        results(engine, ask(prompt="<!DOCTYPE x><a/>"))


def test_previews_show_the_picture_to_come(engine) -> None:
    events = list(engine.generate(ask(width=64, height=32, number=2)))
    steps = [event for event in events if isinstance(event, Stepped)]
    for step in steps:
        assert [(p.width, p.height, len(p.rgb)) for p in step.previews] == [(8, 4, 96)] * 2
    assert steps[0].previews != steps[1].previews


def test_the_example_of_the_readme_draws(tmp_path, monkeypatch) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(example.replace("seed=7", "seed=7, width=128, height=128, steps=1"), {})
    receipt = receipt_from(read_texts(Path("smile.png")), "smile.png")
    assert (receipt.model, receipt.seed, receipt.request.steps) == ("chibi", 7, 1)


def test_a_consumer_who_just_walks_away_releases_all(engine, monkeypatch) -> None:
    alive = []
    noise = denoise.noise
    monkeypatch.setattr(denoise, "noise", lambda *asked: alive.append(weakref.ref(made := noise(
        *asked))) or made)  # fmt: skip
    for event in engine.generate(ask(steps=50)):
        if isinstance(event, Stepped):
            break
    assert [ref() for ref in alive] == [None]


def test_a_consumer_may_stop_at_any_step_and_all_is_released(engine, monkeypatch) -> None:
    alive = []
    noise = denoise.noise

    def watched(request: Resolved, vae: VAESpec) -> torch.Tensor:
        made = noise(request, vae)
        alive.append(weakref.ref(made))
        return made

    monkeypatch.setattr(denoise, "noise", watched)
    calls = []
    transformer = engine.networks["transformer"]
    hook = transformer.final_layer.register_forward_hook(lambda *_: calls.append(1))
    events = engine.generate(ask(steps=50))
    for event in events:
        if isinstance(event, Stepped) and event.index == 2:
            break
    events.close()
    hook.remove()
    del event
    gc.collect()
    assert len(calls) == 2
    assert [ref() for ref in alive] == [None]
    monkeypatch.undo()
    (before,), (after,) = results(engine, ASK), results(engine, ASK)
    assert before.picture == after.picture


@pytest.mark.parametrize("place", ["gemma", "step1", "step3", "decode"])
def test_one_nan_is_drawn_again_and_two_end_it(engine, tiny_model, place) -> None:
    events = list(faulty(tiny_model, f"nan@{place}").generate(ASK))
    (warning,) = [event for event in events if isinstance(event, Warned)]
    assert warning.code == "non_finite"
    (expected,) = results(engine, ASK)
    assert events[-1].result.picture == expected.picture
    broken = faulty(tiny_model, f"nan@{place}:2")
    with pytest.raises(NonFiniteOutput, match=place.replace("step", "step ")):
        results(broken, ASK)
    (after,) = results(broken, ASK)
    assert after.picture == expected.picture


def test_a_stage_drawn_again_is_drawn_in_float32(engine, tiny_model) -> None:
    low = open_engine(tiny_model, dtype="bfloat16", faults="nan@step2")
    seen = []

    def note(module: torch.nn.Module, args: object, out: torch.Tensor) -> None:
        if isinstance(module, FinalLayer):
            seen.append(out.dtype)

    hook = torch.nn.modules.module.register_module_forward_hook(note)
    (result,) = results(low, ASK)
    hook.remove()
    assert seen == [torch.bfloat16] * 2 + [torch.float32] * 3
    assert next(low.networks["transformer"].parameters()).dtype == torch.bfloat16
    assert result.receipt.notes == ("NaN or infinity at step 2; once more in float32.",)


@pytest.mark.parametrize("place", ["gemma", "jina", "step2", "decode"])
def test_running_out_of_memory_on_every_rung_is_told_and_survived(tiny_model, place) -> None:
    broken = faulty(tiny_model, f"oom@{place}:9")
    with pytest.raises(OutOfMemory, match="smaller size"):
        results(broken, ASK)
    broken.observers = ()
    assert len(results(broken, ASK)) == 1


def test_float16_is_for_the_transformer_alone(tiny_model) -> None:
    half = open_engine(tiny_model, dtype="float16")
    for name in ("text_encoder", "text_encoder_2", "vae", "transformer"):
        kinds = {parameter.dtype for parameter in half.networks[name].parameters()}
        assert kinds == {torch.float16 if name == "transformer" else torch.float32}


@pytest.mark.parametrize("words", [{"device": "tpu"}, {"device": "cuda:99"}, {"dtype": "int4"}])
def test_an_unknown_device_or_dtype_is_refused(tiny_model, words) -> None:
    with pytest.raises(RequestError):
        open_engine(tiny_model, **words)


def test_a_model_that_is_not_there_says_how_to_get_it() -> None:
    with pytest.raises(ModelNotFound, match="Hugging Face"):
        open_engine("newbie-3.5b")
    with pytest.raises(ModelNotFound, match="Known by name: chibi"):
        open_engine("no/such/folder")


@pytest.mark.parametrize("plan", ["nan", "nan@nowhere", "boom@decode", "nan@step0", "nan@decode:x"])
def test_a_plan_of_faults_is_read_strictly(tiny_model, plan) -> None:
    with pytest.raises(RequestError, match="WHAT@WHERE"):
        faulty(tiny_model, plan)


def edited(model: Path, folder: Path, edit: Callable[[dict], object]) -> Engine:
    """An engine for a copy of a model whose Gemma tokenizer is another one."""
    shutil.copytree(model, folder)
    file = folder / "tokenizer" / "tokenizer.json"
    parsed = json.loads(file.read_text(encoding="utf-8"))
    edit(parsed)
    file.write_text(json.dumps(parsed), encoding="utf-8")
    return open_engine(folder)


def test_a_tokenizer_of_more_words_than_rows_is_refused(tiny_model, tmp_path) -> None:
    engine = edited(
        tiny_model, tmp_path / "more", lambda it: it["model"]["vocab"].update(zzgirl=99_999)
    )
    with pytest.raises(SpecMismatch, match="100,000 tokens for"):
        next(engine.generate(ASK))


def test_a_tokenizer_without_words_is_refused(tiny_model, tmp_path) -> None:
    def empty(parsed: dict) -> None:
        parsed.clear()
        parsed["model"] = {"type": "BPE", "vocab": {}, "merges": []}

    with pytest.raises(SpecMismatch, match="0 tokens for"):
        next(edited(tiny_model, tmp_path / "none", empty).generate(ASK))


def test_a_tokenizer_of_another_encoder_is_told_of(tiny_model, tmp_path) -> None:
    def other(parsed: dict) -> None:
        jina = tiny_model / "tokenizer_2" / "tokenizer.json"
        parsed |= json.loads(jina.read_text(encoding="utf-8"))

    engine = edited(tiny_model, tmp_path / "swapped", other)
    events = list(engine.generate(ASK))
    (warned,) = [event for event in events if isinstance(event, Warned)]
    assert warned.code == "tokenizer"
    assert "The tokenizer seems to be another encoder's: an empty text is" in warned.message
    assert events[-1].result.receipt.notes == (warned.message,)
