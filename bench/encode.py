"""Encoding a prompt and a negative with Gemma: resident, and layer by layer through two slots."""

from __future__ import annotations

import torch
from measured import Scale, Sheet, Values, build, clean, measured
from torch import Tensor

from sakuga.memory.residency import PinnedPool, streamed
from sakuga.model.text import GemmaEncoder


def measure_encode(sheet: Sheet, scale: Scale) -> None:
    """Gemma with all of its layers on the card, some, and none; only a staging buffer is pinned."""
    gemma = build(GemmaEncoder, scale.spec.gemma, scale).to("cpu")
    clean()
    ids = [
        torch.randint(3, scale.spec.gemma.vocab_size, (1, length),
                      generator=torch.Generator().manual_seed(length))
        for length in scale.texts
    ]  # fmt: skip
    layers, stays = len(gemma.model.layers), dict[str, list[Tensor]]()
    for resident in (layers, layers // 2, 0):
        sheet.row(f"gemma, {resident} of {layers} layers resident",
                  lambda r=resident: run(scale, gemma, ids, r, stays))  # fmt: skip


@torch.inference_mode()
def run(
    scale: Scale, gemma: GemmaEncoder, ids: list[Tensor], resident: int,
    stays: dict[str, list[Tensor]],
) -> Values:  # fmt: skip
    """Time, peak and bits of one pass over both texts; a streamed layer is copied in it."""
    pool = PinnedPool(scale.device) if scale.on_card else None
    with streamed(gemma.model.layers, scale.device, resident, pool=pool, again=False) as layers:
        values = measured(lambda: gemma.encode(ids, layers, scale.device), scale)
        found = [one.cpu() for one in gemma.encode(ids, layers, scale.device)]
    first = stays.setdefault("first", found)
    return values | {"equal": all(map(torch.equal, found, first))}
