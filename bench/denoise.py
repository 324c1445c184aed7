"""Denoising with blocks that stay on the card, and blocks that stream: time, peak, bits.

Evaluations are timed in a run, as in a drawing: a lone one finds its first blocks already copied
while the host waited for the one before. Each is held against the longer of computing (all blocks
stay) and copying (nothing is computed), from little work a block to much.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from measured import GIB, Scale, Sheet, Values, build, clean, measured
from torch import Tensor

from sakuga.engine.denoise import HEADS, NOT_LENT
from sakuga.memory.residency import PinnedPool, on_device, streamed
from sakuga.model.nextdit import Group, Modulations, NextDiT
from sakuga.model.packing import packing_of

RUN = 4  # evaluations of one timing
FEW = 2  # timings of what takes long enough to be steady
SIZES = ((0.5, (1, 4, 8)), (1, (1, 2, 4, 8)), (2, (1,)))  # times the first side; pictures


def measure_denoise(sheet: Sheet, scale: Scale) -> None:
    """Copies alone; then at each size all blocks resident, and none; for one also in between."""
    model = build(NextDiT, scale.spec.transformer, scale).to("cpu")
    clean()
    pool = PinnedPool(scale.device) if scale.on_card else None
    blocks = len(model.blocks)
    alone = sheet.row("copies alone", lambda: copies(scale, model, pool))
    for side, pictures in settings(scale):
        one = (side, pictures) == (scale.sides[0], 1)
        levers = ((blocks, 1), (blocks // 2, 1), (0, 1), (0, 2)) if one else ((blocks, 1), (0, 1))
        stays: dict[str, Tensor] = {}
        name = f"{side} x{pictures}"
        rows = {
            (resident, parts): sheet.row(
                f"{name}, {resident} of {blocks} resident, parts {parts}",
                lambda a=(side, pictures, parts), r=resident, s=stays:
                run(scale, model, a, r, s, pool),
            )
            for resident, parts in levers
        }  # fmt: skip
        for parts in (1, 2) if one else (1,):
            sheet.row(
                f"{name}, streamed over bound, parts {parts}",
                lambda r=rows, p=parts: bound(r[blocks, 1], r[0, p], alone),
            )


def settings(scale: Scale) -> list[tuple[int, int]]:
    """Sides and numbers of pictures, the larger side last."""
    side = scale.sides[0]
    if scale.quick:
        return [(side, 1), (side, 2)]
    return [(int(side * times), pictures) for times, numbers in SIZES for pictures in numbers]


def bound(resident: Values, streaming: Values, alone: Values) -> Values:
    """Streaming against the longer of computing and copying, and against what stays."""
    ms, stays, copied = (float(str(one["ms"])) for one in (streaming, resident, alone))
    longer = max(stays, copied)
    return {
        "bound_ms": longer,
        "over_bound": round(ms / longer, 3),
        "over_resident": round(ms / stays, 3),
        "hidden": copied <= stays,
    }


@torch.inference_mode()
def run(
    scale: Scale,
    model: NextDiT,
    work: tuple[int, int, int],
    resident: int,
    stays: dict[str, Tensor],
    pool: PinnedPool | None,
) -> Values:
    """Time, peak and bits of evaluations in a run; the first of `stays` is compared to."""
    began = time.perf_counter()
    heavy = work[0] ** 2 * work[1] > scale.sides[0] ** 2
    with (
        on_device(model, scale.device, NOT_LENT),
        streamed(model.blocks, scale.device, resident, HEADS, pool) as blocks,
    ):
        if scale.on_card:
            torch.cuda.synchronize()
        lending = time.perf_counter() - began
        groups, _table = both_sides(scale, model, *work)
        values = in_a_run(lambda: model.denoise(groups, blocks), scale, FEW if heavy else None)
        found = torch.cat([one.cpu() for one in model.denoise(groups, blocks)])
    values |= {"lending_s": round(lending, 2)}
    if pool:
        values |= {"pinned_gib": round(pool.held / GIB, 2)}
    first = stays.setdefault("first", found)
    values |= {"finite": bool(found.isfinite().all()), "equal": torch.equal(found, first)}
    return values | {"relative_error": float((found - first).norm() / first.norm())}


@torch.inference_mode()
def copies(scale: Scale, model: NextDiT, pool: PinnedPool | None) -> Values:
    """All blocks through their slots, with nothing computed in between."""
    with streamed(model.blocks, scale.device, 0, HEADS, pool) as blocks:
        values = in_a_run(lambda: sum(1 for _ in blocks), scale)
        before = blocks.copied
        assert sum(1 for _ in blocks) == len(model.blocks)
        size = blocks.copied - before
    return values | {"gb_per_s": round(size / float(str(values["ms"])) / 1e6, 2)}


def in_a_run(evaluate: Callable[[], object], scale: Scale, repeats: int | None = None) -> Values:
    """The time of one evaluation among several that follow each other."""

    def several() -> None:
        for _ in range(RUN):
            evaluate()

    values = measured(several, scale, repeats)
    times = {name: values[name] for name in ("ms", "spread_ms") if name in values}
    return values | {name: round(float(str(ms)) / RUN, 2) for name, ms in times.items()}


def both_sides(
    scale: Scale, model: NextDiT, side: int, pictures: int, parts: int
) -> tuple[Sequence[Group], Modulations]:
    """Prompt and negative of each picture in `parts` groups; the table that a drawing keeps."""
    spec, edge = scale.spec.transformer, side // scale.spec.vae.downscale
    draw = torch.Generator(scale.device).manual_seed(side)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, device=scale.device).to(scale.dtype)

    rows = 2 * scale.steps
    table = Modulations(
        tuple(random(rows, 4 * spec.dim) for _ in model.blocks), random(rows, spec.dim)
    )
    captions = [random(length, spec.dim) for length in scale.texts for _ in range(pictures)]
    latents = random(len(captions), spec.in_channels, edge, edge)
    owners = torch.arange(len(captions), device=scale.device) // pictures
    groups, most = [], -(-len(captions) // parts)
    for start in range(0, len(captions), most):
        cut = slice(start, start + most)
        texts = captions[cut]
        lengths, sizes = [len(text) for text in texts], [(edge, edge)] * len(texts)
        packing = packing_of(model.spec, lengths, sizes, scale.device)
        groups.append(Group(latents[cut], torch.cat(texts), packing, table.rows(owners[cut])))
    return groups, table
