"""Denoising with blocks that stay on the card, and blocks that stream."""

from __future__ import annotations

import torch
from measured import GIB, Scale, Sheet, Values, build, clean, measured
from torch import Tensor

from sakuga.denoiser import Denoiser
from sakuga.memory.residency import on_card
from sakuga.model.nextdit import NextDiT
from sakuga.model.text import Conditioning

TIME = 0.3
HOST_ONLY = frozenset({"adaLN_modulation", "context_refiner"})  # their work is done beforehand


def measure_denoise(sheet: Sheet, scale: Scale) -> None:
    """One evaluation of both sides: resident, half resident, streamed, and the copies alone."""
    model = build(NextDiT, scale.spec.transformer, scale)
    blocks = len(model.blocks)
    for side in scale.sides:
        model.to(scale.device)
        with torch.inference_mode():
            runs = {parts: denoiser(scale, model, side, parts) for parts in (1, 2)}
        model.cpu()
        clean()
        whole = None
        for resident, parts in ((blocks, 1), (blocks, 2), (blocks // 2, 1), (0, 1), (0, 2)):
            name = f"denoise {side}, {resident} of {blocks} resident, parts {parts}"
            found: list[Tensor] = []
            sheet.row(name, lambda r=resident, p=parts, f=found, w=whole, run=runs:
                      evaluate(scale, model, run[p], r, f, w))
            if whole is None and found:
                [whole] = found
        del runs
        clean()
    sheet.row("all copies of one evaluation", lambda: copies(scale, model))


def denoiser(scale: Scale, model: NextDiT, side: int, parts: int) -> Denoiser:
    """A request of one picture, its step invariants already made."""
    spec, draw = scale.spec.transformer, torch.Generator().manual_seed(1)
    positive, negative = (
        Conditioning(
            torch.randn(length, spec.cap_feat_dim, generator=draw).to(scale.device, scale.dtype),
            torch.randn(spec.clip_text_dim, generator=draw).to(scale.device, scale.dtype),
        )
        for length in scale.texts
    )
    edge = side // scale.spec.vae.downscale
    return Denoiser(model, (positive, negative), 1, (edge, edge), [TIME], parts=parts)


@torch.inference_mode()
def evaluate(
    scale: Scale,
    model: NextDiT,
    run: Denoiser,
    resident: int,
    found: list[Tensor],
    whole: Tensor | None,
) -> Values:
    """Time and peak of an evaluation, and how far it is from `whole`."""
    edge, channels = run.size[0], scale.spec.vae.latent_channels
    noise = torch.randn(1, channels, edge, edge, generator=torch.Generator().manual_seed(2))
    noise = noise.to(scale.device)
    with on_card(
        model, model.blocks, scale.device, resident=resident, without=HOST_ONLY
    ) as blocks:
        run.blocks = blocks
        values = measured(lambda: run.both(noise, TIME), scale)
        result = torch.cat(run.both(noise, TIME)).cpu()
    found.append(result)
    if whole is not None:
        values["equal_bits"] = torch.equal(result, whole)
        values["relative_error"] = float((result - whole).norm() / whole.norm())
    return values


@torch.inference_mode()
def copies(scale: Scale, model: NextDiT) -> Values:
    """The same copies with nothing computed between them."""
    with on_card(model, model.blocks, scale.device, resident=0, without=HOST_ONLY) as blocks:
        values = measured(lambda: sum(1 for _ in blocks), scale)
        before = blocks.copied
        _ = sum(1 for _ in blocks)
        values["gib"] = round((blocks.copied - before) / GIB, 3)
    return values
