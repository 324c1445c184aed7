"""Draws one 1024x1024 picture at the real size with random weights, and measures it.

Weights decide neither time nor memory, so none are needed: this shows that the 3.5 B model, both
encoders and the autoencoder run on one card and that nothing overflows.

    python bench/real_size.py OUT.json [--steps 28] [--side 1024]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import nn

from sakuga.model.layers import Segments
from sakuga.model.nextdit import NextDiT
from sakuga.model.spec import NEWBIE_3_5B
from sakuga.model.text import GemmaEncoder, JinaEncoder
from sakuga.model.vae import VAE
from sakuga.sample.guidance import guided
from sakuga.sample.solvers import grid, solve

DEVICE = torch.device("cuda")
TEXT_TOKENS = (256, 40)  # prompt and negative, as in the table of figures


def build(make: type[nn.Module], spec: object) -> nn.Module:
    """A network in bfloat16 on the card, matrices at std 1/sqrt(fan in), norms near one."""
    with torch.device("meta"):
        module = make(spec)
    module = module.to(torch.bfloat16).to_empty(device=DEVICE)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if p.ndim >= 2:
                p.normal_(std=p[0].numel() ** -0.5)
            else:
                p.fill_(0.0 if name.endswith("bias") or "gemma" in name else 1.0)
    return module.eval().requires_grad_(False)


class Stopwatch:
    """Seconds and peak bytes of each stage."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, float]] = {}

    def stage(self, name: str, work):
        """Run `work` and note what it took."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        result = work()
        torch.cuda.synchronize()
        self.rows[name] = {
            "seconds": round(time.perf_counter() - start, 3),
            "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 3),
        }
        return result


@torch.inference_mode()
def main() -> None:
    """Draw, measure, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--side", type=int, default=1024)
    options = parser.parse_args()
    torch.manual_seed(0)
    spec, watch = NEWBIE_3_5B, Stopwatch()
    gemma = watch.stage("build gemma", lambda: build(GemmaEncoder, spec.gemma))
    jina = watch.stage("build jina", lambda: build(JinaEncoder, spec.jina))
    transformer = watch.stage("build transformer", lambda: build(NextDiT, spec.transformer))
    vae = watch.stage("build vae", lambda: build(VAE, spec.vae))
    ids = [torch.randint(3, 200_000, (1, length), device=DEVICE) for length in TEXT_TOKENS]
    segments = Segments(TEXT_TOKENS)

    features = watch.stage("gemma", lambda: torch.cat([gemma(one)[0] for one in ids]))
    pooled = watch.stage("jina", lambda: torch.cat([jina(one) for one in ids]))
    caption = watch.stage("captions", lambda: transformer.caption(features, segments))

    def both(x: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor]:
        times = torch.full((2,), t, device=DEVICE)
        pair = torch.cat((x, x)).to(torch.bfloat16)
        return transformer(pair, times, caption, segments, pooled).float().chunk(2)

    side = options.side // spec.vae.downscale
    noise = torch.randn(1, spec.vae.latent_channels, side, side).to(DEVICE)
    velocity = guided(both, spec.drawing.guidance)

    def denoise() -> torch.Tensor:
        x = noise
        for step in solve(velocity, x, grid(options.steps, shift=spec.drawing.shift), "euler"):
            x = step.x
        return x

    watch.stage("denoise, first", denoise)
    latents = watch.stage("denoise", denoise)
    pixels = watch.stage("decode", lambda: vae.decode(latents.to(torch.bfloat16)))
    finite = all(bool(x.isfinite().all()) for x in (features, pooled, latents, pixels))
    report = {
        "card": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "size": list(pixels.shape),
        "steps": options.steps,
        "finite": finite,
        "step_ms": round(1000 * watch.rows["denoise"]["seconds"] / options.steps, 1),
        "stages": watch.rows,
    }
    options.out.write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))
    if not finite:
        raise SystemExit("a stage gave NaN or infinity")


if __name__ == "__main__":
    main()
