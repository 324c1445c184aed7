"""A process that goes on drawing keeps nothing of what it has drawn."""

from __future__ import annotations

import gc

import torch

from engines import open_engine
from sakuga.api.request import Request
from sakuga.engine.engine import Engine
from sakuga.memory.host import resident_bytes

MIB = 2**20
PROMPTS = ("1girl, blue_hair", "2girls, red_eyes, night")


def draw(engine: Engine, index: int) -> None:
    """Draw one small picture, each unlike the last."""
    prompt = PROMPTS[index % len(PROMPTS)]
    for _ in engine.generate(Request(prompt, seed=index, width=128, height=128, steps=2)):
        pass


def live_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def test_drawing_again_keeps_no_tensor_and_no_memory() -> None:
    engine = open_engine("chibi")
    for index in range(4):  # weights, and what libraries keep from their first call
        draw(engine, index)
    tensors, resident = live_tensors(), resident_bytes()
    for index in range(4, 12):
        draw(engine, index)
    assert live_tensors() == tensors
    # An allocator may keep a freed page; the tensors of one drawing alone are 13 MiB.
    assert resident_bytes() - resident <= 16 * MIB


def test_a_drawing_that_is_abandoned_keeps_nothing_either() -> None:
    engine = open_engine("chibi")
    draw(engine, 0)
    tensors = live_tensors()
    for index in range(3):
        drawing = engine.generate(Request(PROMPTS[0], seed=index, width=128, height=128, steps=2))
        for event in drawing:
            if event.event == "stepped":
                break
        drawing.close()
    del drawing, event
    assert live_tensors() == tensors
