"""Two hundred pictures in one process, on a card: the last needs no more memory than the fifth."""

from __future__ import annotations

import torch

from engines import open_engine
from sakuga.api.events import Finished
from sakuga.api.request import Request

MIB = 2**20
PICTURES = 200
WARM = 5  # by then the libraries have loaded, and the allocator knows every size
PROMPTS = ("1girl, blue_hair", "2girls, red_eyes, night", "1boy, green_hair, smile")


def test_two_hundred_pictures_leave_nothing_behind() -> None:
    engine = open_engine("chibi", device="cuda")
    allocated, reserved = [], []
    for index in range(PICTURES):
        # Prompts of several lengths, so that sizes change as they do for people.
        prompt = PROMPTS[index % len(PROMPTS)]
        ask = Request(prompt, seed=index, width=128, height=128, steps=2)
        assert isinstance(list(engine.generate(ask))[-1], Finished)
        allocated.append(torch.cuda.memory_allocated())
        reserved.append(torch.cuda.memory_reserved())
    for readings in (allocated, reserved):
        assert max(readings[WARM:]) - readings[WARM - 1] <= 16 * MIB
