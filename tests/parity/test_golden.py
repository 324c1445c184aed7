"""Our mathematics against the original's, and the script that compares them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

HERE = Path(__file__).parent
SCRIPT = HERE.parents[1] / "scripts" / "parity"
FILES = sorted((HERE / "golden").glob("*.safetensors"))
SMALL = HERE / "golden" / "sampling_closed_form.safetensors"
TEXT = HERE / "golden" / "jina_text.safetensors"


@pytest.fixture
def replay(monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    from replay import __main__

    return __main__


@pytest.fixture
def altered(tmp_path):
    """Write a golden file again with some of it changed."""

    def write(file, tensors=None, **about):
        with safe_open(file, framework="pt") as data:
            keys = data.keys()
            whole = {key: data.get_tensor(key) for key in keys}
            case = json.loads(data.metadata()["case"]) | about
        whole |= tensors(whole) if tensors else {}
        changed = tmp_path / file.name
        save_file(whole, changed, {"case": json.dumps(case)})
        return changed

    return write


def test_every_case_of_this_stage_is_here():
    kinds = "abcde"
    expected = {f"nextdit_forward_{kind}" for kind in kinds} | {
        "nextdit_cfg", "sampling_closed_form", "sampling_nextdit", "jina_text", "gemma_text", "vae",
        "jina_text_official", "vae_bfl", "lumina2",
        "lora", "lokr_full", "lokr_lowrank",
    }  # fmt: skip
    assert {file.stem for file in FILES} == expected


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_tensor_holds(replay, file):
    rows = replay.rows_of(file)
    assert [f"{row.name}: {row.error} {row.note}" for row in rows if not row.held] == []
    with safe_open(file, framework="pt") as data:
        outputs = {key.removeprefix("output/") for key in data.keys() if key.startswith("output/")}  # noqa: SIM118
    assert {row.name for row in rows} == outputs
    assert {row.name for row in rows if row.excepted} <= {"last_hidden_state"}


def test_the_script_prints_each_tensor_and_one_summary():
    done = subprocess.run([SCRIPT, TEXT, SMALL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *table, summary = done.stdout.splitlines()
    assert len(table) == 44
    assert all((" held" in line and "1e-05" in line) or "5e-05" in line for line in table)
    assert summary.startswith("parity: all held; 44 tensors of 2 files compared, 0 excepted")


def test_the_script_fails_as_a_whole_when_one_file_does(tmp_path):
    call = [SCRIPT, TEXT, tmp_path / "missing.safetensors"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("FAILED: 1 did not hold; 3 tensors of 2 files")


def nudged(key, amount):
    return lambda whole: {key: whole[key] + amount}


def spoiled(key, value):
    def change(whole):
        tensor = whole[key].clone()
        tensor.view(-1)[0] = value
        return {key: tensor}

    return change


@pytest.mark.parametrize(
    "change",
    [
        nudged("output/pooled", 1e-3),
        nudged("weights/model.emb_ln.bias", 1e-2),
        spoiled("output/pooled", float("nan")),
        spoiled("weights/model.emb_ln.bias", float("nan")),
        spoiled("output/sequence", float("inf")),
        lambda whole: {"output/pooled": whole["output/pooled"][:1].clone()},
        lambda whole: {"output/unheard_of": torch.zeros(1)},
        lambda whole: {"weights/model.unheard_of": torch.zeros(1)},
        lambda whole: {"input/attention_mask": whole["input/attention_mask"].flip(1)},
    ],
)
def test_whatever_is_off_fails(replay, altered, change):
    rows = replay.rows_of(altered(TEXT, change))
    assert not all(row.held for row in rows)


@pytest.mark.parametrize(
    "about",
    [
        {"kind": "unheard_of"},
        {"dtype": "bfloat16"},
        {"lens": [14, 5, 8]},
        {"config": {"hidden_size": 48}},
    ],
)
def test_a_case_that_asks_for_the_unknown_fails(replay, altered, about):
    [row] = replay.rows_of(altered(TEXT, **about))
    assert not row.held
    assert row.note


@pytest.mark.parametrize(("key", "value"), [("unheard_of", 1), ("hidden_act", "relu")])
def test_an_unknown_setting_is_not_passed_over(replay, altered, key, value):
    config = replay.read_case(TEXT).about["config"] | {key: value}
    [row] = replay.rows_of(altered(TEXT, config=config))
    assert key in row.note
    assert not row.held


@pytest.mark.parametrize(("value", "held"), [(7.0, True), (float("nan"), False)])
def test_padding_that_was_never_compared_may_hold_anything_but_nan(replay, altered, value, held):
    rows = replay.rows_of(altered(TEXT, lambda whole: {
        "output/sequence": whole["output/sequence"].masked_fill(
            whole["input/attention_mask"][..., None] == 0, value)
    }))  # fmt: skip
    assert all(row.held for row in rows) is held


@pytest.mark.parametrize(
    ("ours", "golden", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 3.0], [1.0, 2.0], 0.5),
        ([0.0], [0.0], 0.0),
        ([1e-9], [0.0], float("inf")),
        ([], [], 0.0),
    ],
)
def test_errors_are_relative_to_the_largest_value(replay, ours, golden, error):
    from replay.case import relative_error

    assert relative_error(torch.tensor(ours), torch.tensor(golden)) == error


def test_nothing_to_compare_is_a_failure_and_no_file_is_a_misuse(replay, tmp_path, capsys):
    empty = tmp_path / "empty.safetensors"
    save_file({"input/x": torch.zeros(1)}, empty, {"case": json.dumps({"kind": "vae"})})
    assert replay.main([str(empty)]) == 1
    assert replay.main([]) == 2
    assert "usage" in capsys.readouterr().err
    assert "replay" in sys.modules


@pytest.mark.parametrize(
    ("component", "change", "stage"),
    [
        ("text_encoder", {"attn_logit_softcapping": None}, "prompt"),
        ("text_encoder", {"sliding_window": 4096}, "prompt"),
        ("text_encoder", {"query_pre_attn_scalar": 12}, "prompt"),
        ("text_encoder", {"rope_theta": 20_000.0}, "prompt"),
        ("text_encoder", {"rms_norm_eps": 1e-4}, "prompt"),
        ("transformer", {"sakuga": {"qk_norm_eps": 1e-6}}, "velocity"),
        ("transformer", {"norm_eps": 1e-4}, "velocity"),
        ("vae", {"shift_factor": 0.12}, "0/image"),
    ],
    ids=str,
)
def test_each_number_of_lumina_is_felt(replay, altered, component, change, stage):
    file = HERE / "golden" / "lumina2.safetensors"
    with safe_open(file, framework="pt") as data:
        config = json.loads(data.metadata()["case"])["config"]
    changed = altered(file, config=config | {component: config[component] | change})
    (row,) = [row for row in replay.rows_of(changed) if row.name == stage]
    assert not row.held
    assert row.error > 1e-4


def test_what_lumina_normalises_and_truncates_is_felt(replay, altered):
    file = HERE / "golden" / "lumina2.safetensors"
    with safe_open(file, framework="pt") as data:
        calls = json.loads(data.metadata()["case"])["calls"]
    for change in (
        {"cfg_normalization": False},
        {"cfg_trunc_ratio": 0.25},
        {"guidance_scale": 3.9},
    ):
        others = [calls[0] | change, *calls[1:]]
        rows = {row.name: row for row in replay.rows_of(altered(file, calls=others))}
        assert not rows["0/steps"].held
        assert rows["1/steps"].held
