"""A receipt is told to people whole, each text once, and what differs between two by name."""

from __future__ import annotations

from dataclasses import replace

from receipts import RECEIPT, asking
from sakuga.api.page import describe_picture, differences
from sakuga.api.receipt import AdapterRecord, SentTexts
from sakuga.api.said import receipt_from, texts_of


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


def test_a_text_is_told_once() -> None:
    receipt = asking("<n>rin</n>")
    same = replace(receipt, texts=SentTexts("Draw. <n>rin</n>", "<n>rin</n>", "", ""))
    assert [row for row in describe_picture(same) if "<n>rin" in row[1]] == [
        ("prompt", "<n>rin</n>")
    ]
    assert dict(describe_picture(same))["Gemma read"] == "Draw. [and the prompt]"
    other = replace(receipt, texts=SentTexts("Draw. <n>Rin</n>", "<n>Rin</n>", "", ""))
    page = dict(describe_picture(other))
    assert page["Jina read"] == "<n>Rin</n>"
    assert page["Gemma read"] == "Draw. [and what Jina read]"
    alone = replace(receipt, texts=SentTexts("a", "b", "", ""))
    assert dict(describe_picture(alone))["Gemma read"] == "a"
