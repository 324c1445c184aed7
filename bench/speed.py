"""Measures evaluations of the transformer: ours by each way to compute them, and diffusers'.

    python bench/speed.py OUT [--quick] [--tiny] [--compiled]
    python bench/speed.py OUT --write docs/speed.md

One process on one card, so that all rows compare; OUT/speed.json has every figure, and after
--write the document its tables. --quick leaves out the large sizes, --compiled adds diffusers
under torch.compile (minutes), --tiny runs the same code at the embedded model's size on the CPU.

Weights are random: they decide no time. The peer needs diffusers on PYTHONPATH; without it its
rows say so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from denoise import both_sides
from measured import REAL, TINY, Scale, Sheet, Values, build, clean, measured
from memory_page import card_of
from peers import caption, lumina
from speed_page import write_speed
from torch import Tensor

from sakuga.memory.attention import machine
from sakuga.model.attention import usable
from sakuga.model.fused.kernel import references
from sakuga.model.layers import TORCH
from sakuga.model.nextdit import Group, Modulations, NextDiT

SIZES = ((0.5, 1), (1, 1), (2, 1), (1, 4))  # times the first side; pictures
SEEDS = 20  # inputs whose velocities are held against float32
KINDS = {
    "attention": ("flash", "sdpa", "fmha", "attention"),
    "products": ("nvjet", "gemm", "cutlass", "cublas", "splitk"),
    "our kernels": ("_norm_scale", "_gate_add", "_norm_rotate", "_gated"),
    "copies": ("copy", "memcpy", "memset", "cat"),
}


def main() -> None:
    """Measure and print; or write the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--compiled", action="store_true", help="diffusers under torch.compile too")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "speed.json"
    if options.write:
        write_speed(json.loads(file.read_text()), options.write)
        return
    scale = replace(TINY if options.tiny else REAL, quick=options.quick)
    sheet = Sheet(file)
    sheet.row("machine", lambda: {**card_of(), **(machine(scale.device) if scale.on_card else {})})
    measure_ours(sheet, scale)
    measure_diffusers(sheet, scale, compiled=options.compiled)


def sizes(scale: Scale) -> Iterator[tuple[int, int]]:
    """Sides and numbers of pictures."""
    for times, pictures in SIZES[: 2 if scale.quick else None]:
        yield int(scale.sides[0] * times), pictures


@torch.inference_mode()
def measure_ours(sheet: Sheet, scale: Scale) -> None:
    """Torch's operations and our kernels, by every back-end of attention; shares and errors."""
    model = build(NextDiT, scale.spec.transformer, scale)
    names = [one.name for one in usable(scale.device, scale.dtype)]
    for side, pictures in sizes(scale):
        groups, _table = both_sides(scale, model, side, pictures, 1)
        with references():
            sheet.row(
                f"ours {side} x{pictures}, torch, {TORCH}", lambda g=groups: times(model, g, scale)
            )
        for name in names if scale.on_card else ():
            chosen = attending(groups, name)
            sheet.row(
                f"ours {side} x{pictures}, kernels, {name}",
                lambda g=chosen: times(model, g, scale),
            )
    groups, _table = both_sides(scale, model, scale.sides[0], 1, 1)
    with references():
        sheet.row("shares, torch", lambda: shares(model, groups, scale))
    sheet.row("shares, kernels", lambda: shares(model, groups, scale))
    sheet.row("errors", lambda: errors(model, scale))


def attending(groups: Sequence[Group], name: str) -> list[Group]:
    """Groups whose attention a back-end computes."""
    return [replace(one, packing=one.packing.attending(lambda _: name)) for one in groups]


def times(model: NextDiT, groups: Sequence[Group], scale: Scale) -> Values:
    """First call, median, peak, and what the host takes to ask for one evaluation."""
    began = time.perf_counter()
    model.denoise(groups)
    wait(scale)
    first = time.perf_counter() - began
    values = measured(lambda: model.denoise(groups), scale, 9)
    began = time.perf_counter()
    model.denoise(groups)
    asked = time.perf_counter() - began
    wait(scale)
    return {**values, "first_ms": round(1000 * first), "host_ms": round(1000 * asked, 2)}


def wait(scale: Scale) -> None:
    """Until the card is done."""
    if scale.on_card:
        torch.cuda.synchronize()


def shares(model: NextDiT, groups: Sequence[Group], scale: Scale) -> Values:
    """Milliseconds of one evaluation by kind of kernel, and how many were launched."""
    if not scale.on_card:
        return {"skipped": "a CPU launches no kernels"}
    model.denoise(groups)
    wait(scale)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        model.denoise(groups)
        wait(scale)
    found: Values = {}
    for event in seen.key_averages():
        name = event.key.lower()
        fits = (kind for kind, words in KINDS.items() if any(word in name for word in words))
        kind = next(fits, "elementwise")
        found[kind] = round(float(found.get(kind, 0)) + event.self_device_time_total / 1000, 3)
        found["launches"] = int(found.get("launches", 0)) + event.count
    return found


def errors(model: NextDiT, scale: Scale) -> Values:
    """Velocity errors against float32, relative, the mean of fresh inputs: torch's and ours."""
    side = scale.sides[0] // 2
    seeds = SEEDS if scale.on_card else 1
    made = [both_sides(replace(scale, texts=(scale.texts[0] + i, 40)), model, side, 1, 1)[0]
            for i in range(seeds)]  # fmt: skip
    with references():
        eager = [model.denoise(groups)[0] for groups in made]
    ours = [model.denoise(groups)[0] for groups in made]
    model.float()
    with references():
        exact = [model.denoise([in_float32(one) for one in groups])[0] for groups in made]
    model.to(scale.dtype)
    pairs = {"torch": eager, "kernels": ours}
    means = {name: sum(map(off, found, exact)) / seeds for name, found in pairs.items()}
    return {**means, "ratio": means["kernels"] / (means["torch"] or 1), "inputs": seeds}


def in_float32(group: Group) -> Group:
    """A group with all its numbers in float32."""
    table = group.modulations
    made = Modulations(tuple(one.float() for one in table.blocks), table.final.float(), table.index)
    return replace(
        group, latents=group.latents.float(), caption=group.caption.float(), modulations=made
    )


def off(found: Tensor, exact: Tensor) -> float:
    """The relative difference."""
    return float((found.float() - exact).norm() / exact.norm())


@torch.inference_mode()
def measure_diffusers(sheet: Sheet, scale: Scale, *, compiled: bool) -> None:
    """The same blocks there: guidance in two passes and in one padded one, eager and compiled."""
    if importlib.util.find_spec("diffusers") is None:
        sheet.row("diffusers", lambda: {"skipped": "diffusers is not installed"})
        return
    clean()
    model = lumina(scale)
    for kind in ("eager", "compiled") if compiled else ("eager",):
        if kind == "compiled":
            model.compile()
        for side, pictures in sizes(scale):
            for form, pair in (("two passes", two_passes), ("one padded pass", one_pass)):
                work = pair(model, scale, side, pictures)
                sheet.row(
                    f"diffusers {kind} {side} x{pictures}, {form}",
                    lambda w=work: first_and_next(w, scale),
                )


def first_and_next(work: Callable[[], object], scale: Scale) -> Values:
    """The time of the first call, then the median of more."""
    began = time.perf_counter()
    work()
    wait(scale)
    first = time.perf_counter() - began
    return {**measured(work, scale, 9), "first_ms": round(1000 * first)}


def two_passes(
    model: torch.nn.Module, scale: Scale, side: int, pictures: int
) -> Callable[[], object]:
    """Each side of the guidance by itself, as its pipeline does."""
    latents, t = noise(scale, side, pictures)
    sides = [
        tuple(part.expand(pictures, *part.shape[1:]) for part in caption(scale, length))
        for length in scale.texts
    ]
    return lambda: [model(latents, t, text, mask, return_dict=False)[0] for text, mask in sides]


def one_pass(
    model: torch.nn.Module, scale: Scale, side: int, pictures: int
) -> Callable[[], object]:
    """Both sides at once, the shorter text padded and masked."""
    latents, t = noise(scale, side, 2 * pictures)
    longest = max(scale.texts)
    text, _ = caption(scale, longest)
    rows = [length for length in scale.texts for _ in range(pictures)]
    mask = torch.stack([torch.arange(longest, device=scale.device) < length for length in rows])
    texts = text.expand(len(rows), -1, -1)
    return lambda: model(latents, t, texts, mask, return_dict=False)[0]


def noise(scale: Scale, side: int, pictures: int) -> tuple[Tensor, Tensor]:
    """Latents and their times."""
    edge = side // scale.spec.vae.downscale
    latents = torch.randn(pictures, 16, edge, edge, device=scale.device, dtype=scale.dtype)
    return latents, torch.full((pictures,), 0.5, device=scale.device)


if __name__ == "__main__":
    main()
