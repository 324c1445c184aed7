"""Receipts that tests of what pictures say share."""

from __future__ import annotations

from dataclasses import replace

from sakuga.api.receipt import Plan, Receipt, SentTexts, TokenCounts
from sakuga.api.request import Request
from sakuga.api.resolved import resolve
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
