"""What a picture says about itself can be read back, and cannot be forged by a prompt."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sakuga.api.page import describe_picture, differences
from sakuga.api.receipt import AdapterRecord, Plan, Receipt, SentTexts, TokenCounts
from sakuga.api.request import Request
from sakuga.api.resolved import resolve
from sakuga.errors import RequestError
from sakuga.files.png import Picture, encode_png
from sakuga.files.texts import read_texts
from sakuga.model.spec import CHIBI

RECEIPT = Receipt(
    model="chibi",
    request=resolve(Request("1girl, smile", seed=7, number=2, steps=16), CHIBI.drawing),
    index=1,
    seed=8,
    texts=SentTexts("Draw 1girl", "1girl\n2", "", ""),
    tokens=TokenCounts(4, 4, 2, 2, 512, past="late"),
    solver="euler: Euler 1768",
    guidance="v",
    plan=Plan("cpu", "AVX2", "float32", 2, 2),
    weights={"transformer": "ab" * 32},
    versions={"sakuga": "0.1", "torch": "2"},
)


def asking(prompt: str, negative: str = "") -> Receipt:
    request = replace(RECEIPT.request, prompt=prompt, negative=negative)
    return replace(RECEIPT, request=resolve(request, CHIBI.drawing))


@given(st.text(), st.text())
def test_any_prompt_comes_back_from_a_file(tmp_path_factory, prompt, negative) -> None:
    path = tmp_path_factory.getbasetemp() / "any.png"
    receipt = asking(prompt, negative)
    path.write_bytes(encode_png(Picture(1, 1, b"abc"), texts_of(receipt)))
    assert receipt_from(read_texts(path), "any.png") == receipt


@given(st.text(), st.text())
def test_a_prompt_stays_on_its_line(prompt, negative) -> None:
    lines = parameters(asking(prompt, negative)).splitlines()
    assert len(lines) == 2 + bool(negative)
    assert lines[-1].startswith("Steps: ")
    assert not lines[0].startswith("Negative prompt:")


def test_settings_are_those_other_programs_look_for() -> None:
    last = parameters(RECEIPT).splitlines()[-1]
    pairs = dict(re.findall(r'([\w ]+): ("[^"]*"|[^,]+)(?:, |$)', last))
    assert pairs == {
        "Steps": "16", "Sampler": "euler", "Schedule type": "shifted", "CFG scale": "3.0",
        "Seed": "8", "Size": "256x256", "Model hash": "ababababab", "Model": "chibi",
        "Shift": "3.0", "Version": "sakuga 0.1",
    }  # fmt: skip


def test_a_value_with_a_comma_is_quoted() -> None:
    assert 'Model: "a, b"' in parameters(replace(RECEIPT, model="a, b"))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"model": 1}', "[" * 100_000])
def test_a_receipt_that_is_none_is_refused(text) -> None:
    with pytest.raises(RequestError):
        receipt_from({"sakuga": text}, "a.png")


def test_a_key_nobody_knows_is_refused() -> None:
    form = json.loads(texts_of(RECEIPT)["sakuga"]) | {"sead": 1}
    with pytest.raises(RequestError, match="Did you mean 'seed'"):
        receipt_from({"sakuga": json.dumps(form)}, "a.png")


def test_equal_receipts_differ_in_nothing() -> None:
    assert differences(RECEIPT, RECEIPT) == ()


def test_differences_are_named() -> None:
    now = replace(
        RECEIPT,
        plan=replace(RECEIPT.plan, threads=4),
        versions={"sakuga": "0.1", "numpy": "2"},
        weights={"transformer": "cd" * 32},
        texts=SentTexts("", "", "", ""),
    )
    assert differences(RECEIPT, now) == (
        "version of numpy: none then, 2 now",
        "version of torch: 2 then, none now",
        "plan: threads: 2 then, 4 now",
        "weights of transformer: abababababab... then, cdcdcdcdcdcd... now",
        "texts: the encoders read other text than then",
    )


def test_the_page_for_people_leaves_nothing_out() -> None:
    page = dict(describe_picture(RECEIPT))
    assert page["budget"] == "no limit"
    tight = replace(RECEIPT.plan, limit=4 * 10**9, kept=True, pinned=10**9)
    assert dict(describe_picture(replace(RECEIPT, plan=tight)))["budget"] == (
        "4.00 GB, networks stay from stage to stage, at most 1.00 GB of the host pinned"
    )
    assert page["picture"] == "2 of 2"
    assert page["prompt"] == "1girl, smile"
    assert page["tokens"] == "4 for Gemma, past the trained 512 from 'late', 4 for Jina"
    assert page["sha256 of transformer"] == "ab" * 32
    assert {"steps", "guidance", "solver", "shift", "renorm", "truncation"} <= set(page)


def test_adapters_are_told_in_order_and_make_a_difference() -> None:
    one = AdapterRecord("style.safetensors", "cd" * 32, 0.8, 4.0, ("layers.0-11=0.5",))
    two = AdapterRecord("face", "ef" * 32, -1.0, config_sha256="01" * 32)
    receipt = replace(RECEIPT, adapters=(one, two))
    assert receipt_from(texts_of(receipt), "a.png") == receipt
    rows = [text for label, text in describe_picture(receipt) if label == "adapter"]
    assert rows == ["style.safetensors:0.8:alpha=4:layers.0-11=0.5", "face:-1"]
    assert differences(receipt, receipt) == ()
    for other in ((), (one,), (two, one), (replace(one, strength=0.7), two)):
        assert any("adapters" in each for each in differences(receipt, replace(
            receipt, adapters=other)))  # fmt: skip


def test_a_receipt_from_before_there_were_adapters_is_read() -> None:
    form = json.loads(texts_of(RECEIPT)["sakuga"])
    del form["adapters"]
    assert receipt_from({"sakuga": json.dumps(form)}, "a.png") == RECEIPT
