"""Our side of the memory bench: the card's own rates, the autoencoder, whole pictures."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from measured import GIB, Scale, Sheet, Values, build, clean, measured
from torch import Tensor
from torch.nn import functional as F

from sakuga.api.events import Decoded, Encoded, Finished, Planned, Result, Stepped
from sakuga.api.receipt import Plan
from sakuga.api.request import Request
from sakuga.engine.engine import Engine
from sakuga.memory.ledger import Ledger
from sakuga.memory.report import Recorder
from sakuga.memory.stages import STAGES
from sakuga.model.vae import VAE

PROMPT = ", ".join(
    f"{hair}_hair, {eyes}_eyes"
    for hair in ("blue", "red", "long", "short")
    for eyes in ("green", "brown", "closed", "grey") * 8
)
NEGATIVE = "low quality, worst quality, blurry, bad hands"
STRIPS = {
    1: ((1, False), (4, False), (8, False), (16, False), (8, True), (16, True)),
    4: ((1, False), (8, False), (16, False), (32, False), (16, True), (32, True)),
}


def measure_rates(sheet: Sheet, scale: Scale) -> None:
    """What the link and the chip do at best, and what libraries keep for themselves."""
    if not scale.on_card:
        return
    sheet.row("cublas workspace", lambda: workspace(scale))
    sheet.row("attention beside its output", lambda: attention_extra(scale))
    sheet.row("context and libraries", context)
    sheet.row("copy from pinned memory", lambda: copy_rate(scale, pinned=True))
    sheet.row("copy from pageable memory", lambda: copy_rate(scale, pinned=False))
    sheet.row("matrix product", lambda: product_rate(scale))


def workspace(scale: Scale) -> Values:
    """Bytes that stay allocated after the first products of this process."""
    a = torch.randn(4096, 2304, device=scale.device, dtype=scale.dtype)
    bias = torch.randn(4096, device=scale.device, dtype=scale.dtype)
    before = torch.cuda.memory_allocated()
    a @ a.T
    plain = torch.cuda.memory_allocated() - before
    F.linear(a, a, bias)
    return {"plain_bytes": plain, "with_bias_bytes": torch.cuda.memory_allocated() - before}


@torch.inference_mode()
def attention_extra(scale: Scale) -> Values:
    """Bytes that attention holds beside its output, over heads x tokens: 4 is one float32 each."""
    spec = scale.spec.transformer
    heads, length = spec.n_heads, 4096 + scale.texts[0]
    q = torch.randn(1, length, heads, spec.head_dim, device=scale.device, dtype=scale.dtype)
    q = q.transpose(1, 2)
    k = q[:, : spec.n_kv_heads]
    F.scaled_dot_product_attention(q, k, k, enable_gqa=True)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    out = F.scaled_dot_product_attention(q, k, k, enable_gqa=True)
    extra = torch.cuda.max_memory_allocated() - before - out.nbytes
    return {"bytes": extra, "bytes_per_head_and_token": extra / (heads * length)}


def context() -> Values:
    """What the device holds that the allocator does not know of."""
    clean()
    free, total = torch.cuda.mem_get_info()
    return {"gib": (total - free - torch.cuda.memory_reserved()) / GIB}


def copy_rate(scale: Scale, pinned: bool) -> Values:
    """GB/s to the card in pieces of one block."""
    size = 155_714_048
    hosts = [torch.randint(0, 255, (size,), dtype=torch.uint8) for _ in range(4)]
    if pinned:
        hosts = [host.pin_memory() for host in hosts]
    slot = torch.empty(size, dtype=torch.uint8, device=scale.device)
    values = measured(lambda: [slot.copy_(host, non_blocking=True) for host in hosts], scale)
    return {"gb_per_s": round(4 * size / float(values["ms"]) / 1e6, 2)}


def product_rate(scale: Scale) -> Values:
    """TFLOP/s of a large product of random matrices."""
    a, b = (torch.randn(8192, 8192, device=scale.device, dtype=scale.dtype) for _ in range(2))
    values = measured(lambda: a @ b, scale)
    return {"tflop_per_s": round(2 * 8192**3 / float(values["ms"]) / 1e9, 1)}


def measure_decode(sheet: Sheet, scale: Scale) -> None:
    """The decoder alone on the card, whole and in strips, against its own whole picture."""
    for side in scale.sides:
        edge = side // scale.spec.vae.downscale
        shape = (1, scale.spec.vae.latent_channels, edge, edge)
        latents = torch.randn(shape, generator=torch.Generator().manual_seed(side))
        latents = latents.to(scale.device, scale.dtype)
        vae = build(VAE, scale.spec.vae, scale)
        del vae.encoder
        clean()
        whole = pictures_of(scale, vae, latents)
        for strips, recompute in STRIPS[(side // scale.sides[0]) ** 2]:
            name = f"decode {side}, strips {strips}{', recomputed' * recompute}"
            sheet.row(
                name,
                lambda v=vae, x=latents, w=whole, s=strips, r=recompute: decode(
                    scale, v, x, w, s, r
                ),
            )
        del vae, latents, whole
        clean()


@dataclass(frozen=True, slots=True)
class Whole:
    """One picture decoded whole: as measured, and in float32, which says what rounding costs."""

    image: Tensor
    exact: Tensor


@torch.inference_mode()
def pictures_of(scale: Scale, vae: VAE, latents: Tensor) -> Whole:
    """Both, on the host, with the weights as they were afterwards."""
    image = vae.decode(latents).float().cpu()
    exact = vae.float().decode(latents.float()).cpu()
    vae.to(scale.dtype)  # exact: float32 holds every value of a shorter format
    clean()
    return Whole(image, exact)


@torch.inference_mode()
def decode(
    scale: Scale, vae: VAE, latents: Tensor, whole: Whole, strips: int, recompute: bool
) -> Values:
    """Time, peak, difference, and what the simulated card says the peak is.

    `from_float32` is relative; that of one strip is the rounding that all of them share.
    """
    values = measured(lambda: vae.decode(latents, strips, recompute), scale)
    image = vae.decode(latents, strips, recompute).float().cpu()
    apart = (levels(image, whole.exact) - levels(whole.image, whole.exact)).abs()
    values["max_level"] = int(apart.max())
    values["within_1"] = round(float((apart <= 1).float().mean()), 6)
    values["identical"] = round(float((apart == 0).float().mean()), 6)
    values["from_float32"] = float((image - whole.exact).norm() / whole.exact.norm())
    counted = sum(p.nbytes for p in vae.parameters())
    counted += ledger_peak(scale, latents, strips, recompute)
    values["ledger_gib"] = round(counted / GIB, 4)
    return values


def levels(image: Tensor, scale_of: Tensor) -> Tensor:
    """Pixels from 0 to 255. Random weights leave [-1, 1], so `scale_of` says what spans them.

    One picture gives the span to all that are compared: with a span of its own, a single
    extreme pixel would move every level of it.
    """
    low, high = scale_of.amin(), scale_of.amax()
    return ((image - low) / (high - low) * 255).round().clamp(0, 255).int()


def ledger_peak(scale: Scale, latents: Tensor, strips: int, recompute: bool) -> int:
    """Bytes beside the weights, by counting tensors alone."""
    with torch.device("meta"):
        vae = VAE(scale.spec.vae).to(scale.dtype)
        like = torch.empty_like(latents, device="meta")
    with Ledger() as ledger:
        vae.decode(like, strips, recompute)
    return ledger.peak + latents.nbytes


def drawn(engine: Engine, request: Request) -> tuple[Values, Tensor, Plan]:
    """Draw; seconds of each stage, the peak of each, pixels, and the plan as it was run."""
    values: Values = {}
    results: list[Result] = []
    marks: list[float] = []
    device, before = engine.device, time.perf_counter()
    device.peak()
    reserved: list[int] = []
    retries = allocator_retries()

    def peak() -> int:
        reserved.append(torch.cuda.max_memory_reserved() if device.on_card else 0)
        return device.peak()  # which lets both begin anew

    recorder = Recorder(device.memory, peak, interval=0)
    with engine.observed(recorder.on):
        for event in engine.generate(request):
            if isinstance(event, Stepped):
                marks.append(time.perf_counter())
            if isinstance(event, Encoded):
                values["tokens"] = (event.tokens.gemma, event.tokens.negative_gemma)
            if isinstance(event, Finished):
                results.append(event.result)
            if stage := ended(event):
                now = time.perf_counter()
                values[f"{stage}_s"] = round(now - before, 3)
                before = now
    recorder.close()
    peaks = {stage.name: recorder.peaks.get(stage.name, 0) / GIB for stage in STAGES}
    values |= {f"{name}_gib": round(peak, 4) for name, peak in peaks.items()}
    values["peak_gib"] = round(max(peaks.values()), 4)
    values["seconds"] = round(results[-1].seconds, 3)
    if len(marks) > 2:
        # Without the last: a host that waits within steps is told of it with the one before.
        values["step_ms"] = round(1000 * (marks[-2] - marks[0]) / (len(marks) - 2), 2)
    if device.on_card:
        values["reserved_gib"] = round(max(reserved) / GIB, 4)
        values["retries"] = allocator_retries() - retries
    receipt = results[0].receipt
    if receipt.notes:
        values["notes"] = receipt.notes
    pixels = [torch.frombuffer(bytearray(one.picture.rgb), dtype=torch.uint8) for one in results]
    return values, torch.stack(pixels), receipt.plan


def allocator_retries() -> int:
    """Times so far that the allocator had to give back what it cached before it had room."""
    return torch.cuda.memory_stats().get("num_alloc_retries", 0) if torch.cuda.is_available() else 0


def ended(event: object) -> str | None:
    """The part of a drawing whose end an event says."""
    if isinstance(event, Planned):
        return "open"
    if isinstance(event, Encoded):
        return "encode"
    if isinstance(event, Stepped) and event.index == event.of:
        return "denoise"
    return "decode" if isinstance(event, Decoded) else None


def asked(
    scale: Scale, side: int, number: int = 1, steps: int | None = None, begin: str = ""
) -> Request:
    """A request with texts of the measured lengths; `begin` makes its prompt another one."""
    return Request(
        begin + PROMPT, negative=NEGATIVE, seed=7, width=side, height=side, number=number,
        steps=steps or scale.steps, system="", verbatim=True, max_tokens=scale.texts[0],
    )  # fmt: skip
