"""The features of Gemma from a GGUF file, by our reader and by transformers' own."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from sakuga.checkpoint.bind import bind
from sakuga.checkpoint.folder import open_component
from sakuga.model.text import GemmaEncoder
from sakuga.tokenizer.tokens import Tokenizer
from wild.files import Row
from wild.words import EXAMPLES

LONGEST = 900  # tokens; past the window of 512 that most layers look through
TOLERANCE = 1e-5  # of the largest feature; the weights are the same to the bit


@torch.inference_mode()
def compare(gguf: Path, tokenizer: Path) -> list[Row]:
    """`hidden_states[-2]` of a few prompts in float32, and how long loading took."""
    start = time.perf_counter()
    component = open_component(gguf, "text_encoder")
    with torch.device("meta"):
        ours = GemmaEncoder(component.spec)
    report = bind(ours.model, component, dtype=torch.float32)
    took = time.perf_counter() - start
    start = time.perf_counter()
    theirs = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    slower = time.perf_counter() - start
    counts = ", ".join(f"{count} {fate}" for fate, count in report.counts.items())
    rows = [
        Row("keys", f"{len(report.entries)}: {counts}", len(report.entries) == 236),
        Row("loading", f"{took:.1f} s, transformers {slower:.1f} s", True),
    ]
    words = Tokenizer.open(tokenizer)
    texts = {file.name: file.read_text("utf-8") for file in sorted(EXAMPLES.glob("*.xml"))}
    several = {**dict(list(texts.items())[:3]), "all examples": "".join(texts.values())}
    for name, text in several.items():
        ids = torch.tensor([words.encode(text).ids[:LONGEST]])
        want = theirs(ids, output_hidden_states=True).hidden_states[-2]
        rows.append(_row(f"hidden_states[-2] of {name}", ours.eval()(ids), want))
    return rows


def _row(name: str, got: Tensor, want: Tensor) -> Row:
    error = ((got - want).abs().max() / want.abs().max()).item()
    found = f"{want.shape[1]} tokens of {want.shape[2]}, off by {error:.1e}"
    return Row(name, found, bool(torch.isfinite(want).all()) and error <= TOLERANCE)
