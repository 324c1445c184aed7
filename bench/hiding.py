"""From where on copies hide behind computing: evaluations in a run, as in a drawing.

A lone evaluation finds its first blocks already copied while the host waited for the one before;
within a run it does not. So these times, not those of single evaluations, are held against the
longer of computing and copying.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from measured import GIB, Scale, Sheet, Values, build, clean, measured
from torch import Tensor

from sakuga.memory.residency import on_card
from sakuga.model.nextdit import Group, Modulations, NextDiT

RUN = 4  # evaluations of one timing
BATCHES = (1, 2, 4, 8)
# What a drawing needs once does not lie on the card while it denoises.
ONCE = frozenset(
    {"adaLN_modulation", "context_refiner", "cap_embedder", "t_embedder", "time_text_embed",
     "clip_text_pooled_proj"}
)  # fmt: skip


def measure_hiding(sheet: Sheet, scale: Scale) -> None:
    """Copies alone, then all resident against all streamed, for more and more work a block."""
    model = build(NextDiT, scale.spec.transformer, scale).to("cpu")
    clean()
    alone = sheet.row("copies alone", lambda: copies(scale, model))
    small, large = scale.sides
    settings = [(small // 2, 1), *((small, batch) for batch in BATCHES), (large, 1)]
    for side, pictures in settings[1:3] if scale.quick else settings:
        stays: dict[str, Tensor] = {}
        name = f"{side} x{pictures}"
        resident = sheet.row(f"{name} resident", lambda a=(side, pictures), s=stays:
                             run(scale, model, a, len(model.blocks), s))
        streamed = sheet.row(f"{name} streamed", lambda a=(side, pictures), s=stays:
                             run(scale, model, a, 0, s))
        sheet.row(f"{name} over bound", lambda r=resident, s=streamed: bound(r, s, alone))


def bound(resident: Values, streamed: Values, alone: Values) -> Values:
    """Streaming against the longer of computing and copying, and against what stays."""
    ms, stays, copied = (float(str(one["ms"])) for one in (streamed, resident, alone))
    longer = max(stays, copied)
    return {
        "bound_ms": longer,
        "over_bound": round(ms / longer, 3),
        "over_resident": round(ms / stays, 3),
        "hidden": copied <= stays,
    }


@torch.inference_mode()
def run(
    scale: Scale, model: NextDiT, work: tuple[int, int], resident: int, stays: dict[str, Tensor]
) -> Values:
    """Time, peak and bits of evaluations in a run; the first of `stays` is compared to."""
    began = time.perf_counter()
    with on_card(model, model.blocks, scale.device, resident=resident, without=ONCE) as blocks:
        if scale.on_card:
            torch.cuda.synchronize()
        lending = time.perf_counter() - began
        group, _table = both_sides(scale, model, *work)
        values = in_a_run(lambda: model.denoise([group], blocks), scale)
        found = torch.cat([one.cpu() for one in model.denoise([group], blocks)])
    values |= {"lending_s": round(lending, 2), **pinned_memory(scale)}
    values |= {"finite": bool(found.isfinite().all())}
    return values | {"equal": torch.equal(found, stays.setdefault("first", found))}


@torch.inference_mode()
def copies(scale: Scale, model: NextDiT) -> Values:
    """All blocks through their slots, with nothing computed in between."""
    with on_card(model, model.blocks, scale.device, resident=0, without=ONCE) as blocks:
        values = in_a_run(lambda: sum(1 for _ in blocks), scale)
        before = blocks.copied
        assert sum(1 for _ in blocks) == len(model.blocks)
        size = blocks.copied - before
    return values | {"gb_per_s": round(size / float(str(values["ms"])) / 1e6, 2)}


def in_a_run(evaluate: Callable[[], object], scale: Scale) -> Values:
    """The time of one evaluation among several that follow each other."""

    def several() -> None:
        for _ in range(RUN):
            evaluate()

    values = measured(several, scale)
    times = {name: values[name] for name in ("ms", "spread_ms") if name in values}
    return values | {name: round(float(str(ms)) / RUN, 2) for name, ms in times.items()}


def both_sides(
    scale: Scale, model: NextDiT, side: int, pictures: int
) -> tuple[Group, Modulations]:
    """Prompt and negative of each picture, and the table that a whole drawing keeps."""
    spec, edge = scale.spec.transformer, side // scale.spec.vae.downscale
    draw = torch.Generator(scale.device).manual_seed(side)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, device=scale.device).to(scale.dtype)

    rows = 2 * scale.steps
    table = Modulations(
        tuple(random(rows, 4 * spec.dim) for _ in model.blocks), random(rows, spec.dim)
    )
    lengths = [length for length in scale.texts for _ in range(pictures)]
    layout = model.layout(lengths, [(edge, edge)] * len(lengths), scale.device)
    owners = torch.arange(len(lengths), device=scale.device) // pictures
    latents = random(len(lengths), spec.in_channels, edge, edge)
    return Group(latents, random(sum(lengths), spec.dim), layout, table.rows(owners)), table


def pinned_memory(scale: Scale) -> Values:
    """What the host has pinned for the card."""
    if not scale.on_card:
        return {}
    pinned = torch.cuda.host_memory_stats().get("allocated_bytes.current", 0)
    return {"pinned_gib": round(pinned / GIB, 2)}
