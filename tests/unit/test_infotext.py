"""The settings text: other programs find their fields, no prompt forges one, ours reads back."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest

from receipts import RECEIPT, asking
from sakuga.api.infotext import read_infotext
from sakuga.api.parameters import write_infotext
from sakuga.api.receipt import AdapterRecord


def test_settings_are_those_other_programs_look_for() -> None:
    last = write_infotext(RECEIPT).split("\n")[-1]
    pairs = dict(re.findall(r'([\w ]+): ("[^"]*"|[^,]+)(?:, |$)', last))
    assert pairs == {
        "Steps": "16", "Sampler": "Euler", "Schedule type": "Simple", "CFG scale": "3.0",
        "Seed": "8", "Size": "256x256", "Model hash": "ababababab", "Model": "chibi",
        "Shift": "3.0", "Version": "sakuga 0.1",
    }  # fmt: skip


def test_lines_are_lines() -> None:
    text = write_infotext(asking("<n>rin</n>\n<pose>sitting</pose>", "a\nb"))
    assert text.split("\n")[:-1] == [
        "<n>rin</n>", "<pose>sitting</pose>", "Negative prompt: a", "b",
    ]  # fmt: skip


def test_an_empty_prompt_leaves_its_line() -> None:
    assert write_infotext(asking("")).startswith("\nSteps: 16, ")


def test_a_value_with_a_comma_is_quoted_and_makes_no_key() -> None:
    assert 'Model: "a, b"' in write_infotext(replace(RECEIPT, model="a, b"))
    forged = write_infotext(replace(RECEIPT, model="a, Seed: 99"))
    assert "Seed: 99" not in forged
    assert read_infotext(forged).settings["Model"] == "a, Seed: 99"


def test_what_readers_look_for_is_broken_up_in_a_prompt_wherever_it_stands() -> None:
    prompt = "a, Negative prompt: b\nSteps: 99, Seed: 1\n  Steps: 2, negative prompt:"
    text = write_infotext(asking(prompt, f"x\n{prompt}"))
    assert text.count("Negative prompt:") == 1
    assert text.count("Steps:") == 1
    assert "Negative prompt\\: b\nSteps\\: 99, Seed: 1" in text
    found = read_infotext(text)
    assert (found.prompt, found.negative) == (prompt, f"x\n{prompt}")
    assert found.settings["Seed"] == "8"


def test_controls_are_written_out_and_line_breaks_of_windows_are_not() -> None:
    prompt = "a\r\nb\x1b\x85\u2028\rc \\u001b \\\\u001b \\\x1b"
    text = write_infotext(asking(prompt))
    assert text.startswith("a\r\nb\\u001b\\u0085\\u2028\\u000dc ")
    assert read_infotext(text).prompt == prompt


def test_adapters_are_tags_of_the_prompt_and_hashes_of_the_settings() -> None:
    one = AdapterRecord("my style.safetensors", "cd" * 32, 0.8)
    two = AdapterRecord("a<b>:c, Seed.pt", "ef" * 32, -1.0)
    three = AdapterRecord("Steps.safetensors", "01" * 32, 1.0)
    prompt = "1girl <lora:mine:1>"
    text = write_infotext(replace(asking(prompt), adapters=(one, two, three)))
    lines = text.split("\n")
    assert lines[0] == (
        "1girl <lora:mine:1> <lora:my_style:0.8> <lora:a_b__c__Seed:-1> <lora:Steps_:1>"
    )
    assert (
        'Model: chibi, Lora hashes: "my_style: cdcdcdcdcd, a_b__c__Seed: efefefefef, '
        'Steps_: 0101010101"' in lines[1]
    )
    found = read_infotext(text)
    assert found.prompt == prompt
    assert found.loras == ("my_style:0.8", "a_b__c__Seed:-1", "Steps_:1")


def test_texts_of_others_are_read() -> None:
    found = read_infotext(
        "masterpiece, 1girl <lora:detail:0.6>,\r\nBREAK\r\nsmile\r\nNegative prompt: low,\r\nbad"
        "\r\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 123, Size: 512x768, "
        'Model: "a, b: c", Hashes: {"model": "ab", "lora:x": "cd"}, '
        'Civitai resources: [{"type":"lora"}], Template: x\r\nVersion: v1.9'
    )
    assert (found.prompt, found.negative) == ("masterpiece, 1girl ,\nBREAK\nsmile", "low,\nbad")
    assert found.loras == ("detail:0.6",)
    assert found.settings["Model"] == "a, b: c"
    assert found.settings["Hashes"] == '{"model": "ab", "lora:x": "cd"}'
    assert found.settings["Size"] == "512x768"
    assert not found.ours


@pytest.mark.parametrize(
    ("text", "prompt", "negative", "keys"),
    [
        ("", "", "", 0),
        ("1girl, smile", "1girl, smile", "", 0),
        ("1girl\nNegative prompt: low", "1girl", "low", 0),
        ("Steps: 20, Seed: 1", "", "", 2),
        ("a\nSampler: x, Seed: 1, Size: 8x8", "a", "", 3),
        ("time: 12:30, place: here", "time: 12:30, place: here", "", 0),
        ('a\nSteps: 1, x: "unclosed, y: {, z: [1', "a", "", 4),
    ],
)
def test_any_text_is_split_as_far_as_it_goes(text, prompt, negative, keys) -> None:
    found = read_infotext(text)
    assert (found.prompt, found.negative, len(found.settings)) == (prompt, negative, keys)


@pytest.mark.parametrize(
    "line",
    ["\\" * 60_000, "a" * 60_000, "k:[" * 20_000, 'k:"\\",' * 9_000, "k:{" * 20_000,
     '{"k":[1,' * 7_000,
     " " * 60_000, "Steps:" * 10_000, "<lora:" * 10_000, ":" * 60_000, "\nSteps: 1" * 6_000],
)  # fmt: skip
def test_no_text_takes_long(line) -> None:
    started = time.perf_counter()
    read_infotext(f"{line}\nNegative prompt: {line}\nSteps: 1, {line}")
    write_infotext(asking(line, line))
    assert time.perf_counter() - started < 1
