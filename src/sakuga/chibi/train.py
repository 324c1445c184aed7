"""Training the embedded model: renders, autoencoder, judge, latents, transformer.

Every stage can stop at any moment and go on from what it saved: its weights and how much of
its time has passed. Optimisers start afresh; they find their pace again within seconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sakuga.checkpoint.save import write_json
from sakuga.chibi.data import (
    Gallery,
    Lesson,
    Pool,
    PromptBatch,
    Renders,
    draw_renders,
    prompt_batches,
    to_unit,
)
from sakuga.chibi.judge import Judge, hits, judge_loss
from sakuga.chibi.losses import flow_loss, vae_loss
from sakuga.chibi.measure import Painter, accuracy_table, measure, psnr
from sakuga.chibi.optimise import advance, half_precision, make_optimisers, take_step
from sakuga.chibi.package import unpack
from sakuga.chibi.progress import TrainingFolder
from sakuga.chibi.prompts import habits, joined, write_prompt
from sakuga.chibi.regime import REAL, SMOKE, Regime
from sakuga.chibi.scene import MAX_CHARACTERS, random_scene
from sakuga.chibi.text2velocity import Text2Velocity
from sakuga.chibi.tokenizer import save_tokenizers, train_tokenizers
from sakuga.model.spec import CHIBI
from sakuga.model.vae import VAE

Log = Callable[[str], None]

_HELD_OUT = 2**31  # seeds from here on are never trained on
_SAVE_SECONDS, _CHECK_SECONDS = 60.0, 240.0  # between two saves, two checks of the accuracy
# Kernels differ with what the length of a prompt divides by; one without a prompt has one token.
_REHEARSED = (72, 64, 1)


def train_chibi(out: Path, regime: Regime, device: str, log: Log, seed: int = 0) -> None:
    """Run, or go on with, every stage; results and state lie in `out`.

    Seeds fix the data, not the result: stages last a given time, however fast the machine is.
    """
    folder = TrainingFolder(out)
    out.mkdir(parents=True, exist_ok=True)
    where = torch.device(device)
    torch.set_float32_matmul_precision("high")
    # cuDNN plans attention anew for every length of prompt, ten milliseconds each time.
    torch.backends.cuda.enable_cudnn_sdp(False)
    teach_tokenizers(out, seed, regime.texts)
    model = open_model(folder, regime, where)
    whereabouts = nn.Linear(CHIBI.transformer.dim, 2).to(where)
    if not (out / "latents.safetensors").exists():
        gallery = Gallery(regime.pictures, regime.sizes, where)
        gallery.fill(seed, regime.workers)
        usual = gallery.pools[0]
        held_out = draw_renders((_HELD_OUT, seed), 4 * regime.vae_batch, usual.size)
        vae = train_vae(usual, held_out, regime, folder, log)
        train_judge(gallery, held_out, regime, folder, log)
        if regime.compiled:
            rehearse(model, whereabouts, regime)
            log("transformer compiled")
        encode_gallery(vae, gallery, folder)
        log("pictures encoded")
    train_transformer(model, whereabouts, Lesson.open(out, where), regime, folder, log)


def teach_tokenizers(out: Path, seed: int, count: int) -> None:
    """Learn both tokenizers from `count` written prompts, unless they are there already."""
    if (out / "tokenizer_2" / "tokenizer.json").exists():
        return
    rng, scenes = Random(seed), np.random.default_rng(seed)

    def texts() -> Iterator[str]:
        for _ in range(count):
            yield joined(write_prompt(random_scene(scenes), rng, habits(rng)))

    save_tokenizers(out, *train_tokenizers(texts(), CHIBI.gemma.vocab_size))


def train_vae(
    pool: Pool, held_out: Renders, regime: Regime, folder: TrainingFolder, log: Log
) -> VAE:
    """Teach the autoencoder to keep pictures through 16 channels at an eighth of the size."""
    device, generator = pool.pixels.device, torch.Generator().manual_seed(1)
    vae, average = VAE(CHIBI.vae).to(device), VAE(CHIBI.vae).to(device)
    folder.load("vae", vae)
    average.load_state_dict(vae.state_dict())
    nn.utils.convert_conv2d_weight_memory_format(vae, torch.channels_last)
    optimisers = make_optimisers(vae, skip=("conv_in", "conv_out"), lr=2e-3)
    loss_of = torch.compile(vae_loss) if regime.compiled else vae_loss
    pace = folder.pace("vae", regime.vae_minutes)
    step = 0
    while pace.done < 1:
        index = pool.sample(regime.vae_batch, generator).to(device)
        pixels = to_unit(pool.pixels[index]).contiguous(memory_format=torch.channels_last)
        with half_precision(device):
            loss = loss_of(vae, pixels)
        loss.backward()
        advance(vae, optimisers, pace.rate(), average, decay=0.998)
        step += 1
        if step % 500 == 0 or pace.done >= 1:
            quality = psnr(average, to_unit(held_out.pixels[:64].to(device)))
            log(
                f"vae {pace.done:.2f} step {step} loss {loss.item():.5f} psnr {quality:.2f} dB "
                f"pool {pool.ready}"
            )
            folder.save("vae", pace.done, "vae", average)
    return average


def train_judge(
    gallery: Gallery, held_out: Renders, regime: Regime, folder: TrainingFolder, log: Log
) -> None:
    """Teach the judge on renders, blurred and shaken a little so that it forgives soft lines."""
    device, generator = gallery.pools[0].pixels.device, torch.Generator().manual_seed(2)
    judge = Judge().to(device)
    folder.load("judge", judge)
    optimiser = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.01)
    pace = folder.pace("judge", regime.judge_minutes)
    step = 0
    while pace.done < 1:
        pool = gallery.pick(generator)
        index = pool.sample(regime.judge_batch, generator)
        pixels = roughen(to_unit(pool.pixels[index.to(device)]))
        boxes = shaken(pool.boxes[index][:, :, 0].to(device))
        with half_precision(device):
            loss = judge_loss(judge, pixels, boxes, pool.codes[index].to(device))
        loss.backward()
        take_step([optimiser], pace.rate())
        step += 1
        if step % 200 == 0:
            log(f"judge {pace.done:.2f} step {step} loss {loss.item():.4f}")
    judge.eval()
    folder.save("judge", pace.done, "judge", judge)
    boxes = held_out.boxes[:, :, 0].to(device)
    read = hits(judge, to_unit(held_out.pixels.to(device)), boxes, held_out.codes.to(device))
    log(
        "judge on held-out renders: "
        + ", ".join(f"{slot} {100 * right.nanmean().item():.2f}%" for slot, right in read.items())
    )


def roughen(pixels: Tensor) -> Tensor:
    """Blur half of the pictures lightly, and add a little noise to all."""
    soft = F.avg_pool2d(pixels, 3, stride=1, padding=1, count_include_pad=False)
    share = torch.rand(len(pixels), 1, 1, 1, device=pixels.device)
    mixed = torch.lerp(pixels, soft, (2 * share - 1).clamp(min=0))
    return mixed + 0.06 * torch.rand_like(share) * torch.randn_like(pixels)


def shaken(boxes: Tensor) -> Tensor:
    """Move and stretch boxes (B, M, 4) by a few percent of their size."""
    size = torch.cat((boxes[..., 2:] - boxes[..., :2],) * 2, dim=-1)
    return boxes + 0.03 * size * torch.randn_like(boxes)


@torch.inference_mode()
def encode_gallery(vae: VAE, gallery: Gallery, folder: TrainingFolder) -> None:
    """Keep scaled latents of all pictures with their truth, as soon as each is drawn.

    The scale gives latents unit variance; one that is in the folder already stays, because a
    transformer may have learned with it.
    """
    raw = [_moments(vae, pool) for pool in gallery.pools]
    file = folder.path / "vae.json"
    if not file.exists():
        sample = raw[0][:: max(1, len(raw[0]) // 4096)].float()
        scale = {
            "scaling_factor": 1 / sample.std().item(),
            "shift_factor": sample.mean().item(),
        }
        write_json(file, scale)
    spec = open_vae(folder).spec
    kept: dict[str, Tensor] = {}
    for i, (pool, means) in enumerate(zip(gallery.pools, raw, strict=True)):
        kept[f"latents.{i}"] = (means - spec.shift_factor) * spec.scaling_factor
        kept |= {f"codes.{i}": pool.codes, f"boxes.{i}": pool.boxes}
    folder.write("latents.safetensors", kept)


def _moments(vae: VAE, pool: Pool) -> Tensor:
    parts, drawn = [], 0
    for pixels in pool.pixels.split(128):
        drawn += len(pixels)
        pool.wait(drawn)
        with half_precision(pixels.device):
            parts.append(vae.moments(to_unit(pixels))[0].to(torch.bfloat16))
    return torch.cat(parts)


def open_vae(folder: TrainingFolder) -> VAE:
    """The trained autoencoder with the scale of its latents."""
    vae = VAE(replace(CHIBI.vae, **json.loads((folder.path / "vae.json").read_text())))
    folder.load("vae", vae)
    return vae


def open_model(folder: TrainingFolder, regime: Regime, device: torch.device) -> Text2Velocity:
    """The readers and the transformer as the folder has them, blocks compiled if asked for."""
    model = Text2Velocity(CHIBI).to(device)
    folder.load("text2velocity", model)
    if regime.compiled:
        # Past the default limit of variants, blocks would run eagerly.
        torch._dynamo.config.recompile_limit = 64
        dit = model.transformer
        for block in (*dit.noise_refiner, *dit.context_refiner, *dit.layers):
            block.compile(dynamic=True)
    return model


def rehearse(model: Text2Velocity, whereabouts: nn.Linear, regime: Regime) -> None:
    """Let the blocks compile on blank prompts, while other processes still draw."""
    device, count = whereabouts.weight.device, regime.prompt_batch
    width, height = (side // CHIBI.vae.downscale for side in regime.sizes[0].size)
    latents = torch.zeros(1, CHIBI.vae.latent_channels, height, width, device=device)
    blank = Lesson((latents.bfloat16(),), (torch.empty(0),), (torch.empty(0),))
    for length in _REHEARSED:
        ids = torch.full((count, length), 2)
        batch = PromptBatch(
            pool=0,
            index=torch.zeros(count, dtype=torch.long),
            boxes=torch.zeros(count, MAX_CHARACTERS, 2, 4),
            gemma=ids,
            jina=ids,
            place=torch.zeros(count, length, 2),
            owned=torch.zeros(count, length, dtype=torch.bool),
        )
        with half_precision(device):
            flow_loss(model, whereabouts, blank, batch.to(device)).backward()
    model.zero_grad(set_to_none=True)
    whereabouts.zero_grad(set_to_none=True)


def train_transformer(
    model: Text2Velocity,
    whereabouts: nn.Linear,
    lesson: Lesson,
    regime: Regime,
    folder: TrainingFolder,
    log: Log,
) -> None:
    """Teach the readers and the transformer the flow from noise to latents (arXiv 2210.02747)."""
    device = lesson.latents[0].device
    average = Text2Velocity(CHIBI).to(device).eval()
    average.load_state_dict(model.state_dict())
    judge, vae = Judge().to(device).eval(), open_vae(folder).to(device).eval()
    folder.load("judge", judge)
    painter = Painter.open(folder.path, average.gemma, average.jina, average.transformer, vae)
    skip = ("embed", "adaLN", "final_layer", "pooled_proj", "time_text")
    optimisers = [
        *make_optimisers(model, skip=skip, lr=regime.lr),
        torch.optim.AdamW(whereabouts.parameters(), lr=1e-3),
    ]
    pace = folder.pace("transformer", regime.transformer_minutes)
    batches = prompt_batches(
        lesson,
        folder.path,
        regime.prompt_batch,
        seed=int(1000 * pace.before),
        workers=regime.workers,
    )
    step, seen, saved, checked = 0, 0, time.monotonic(), time.monotonic()
    while pace.done < 1:
        batch = next(batches).to(device)
        with half_precision(device):
            loss = flow_loss(model, whereabouts, lesson, batch)
        loss.backward()
        advance(model, optimisers, pace.rate(), average, decay=0.999)
        step, seen = step + 1, seen + len(batch.index)
        if step % 200 == 0:
            log(f"transformer {pace.done:.3f} step {step} seen {seen} loss {loss.item():.4f}")
        if time.monotonic() - saved > _SAVE_SECONDS or pace.done >= 1:
            folder.save("transformer", pace.done, "text2velocity", average)
            saved = time.monotonic()
        if time.monotonic() - checked > _CHECK_SECONDS or pace.done >= 1:
            log(check_accuracy(painter, judge, regime.measured))
            checked = time.monotonic()


def check_accuracy(painter: Painter, judge: Judge, pictures: int) -> str:
    """How well `pictures` drawings of one to four characters each show what they should."""
    scores = [measure(painter, judge, count, pictures, _HELD_OUT) for count in (1, 2, 3, 4)]
    return accuracy_table(scores)


def main(out: Path, device: str = "auto", smoke: bool = False, packaged: bool = False) -> None:
    """Train the embedded model in `out`, or go on there, and say how it goes.

    `smoke`: a minute at most of everything, to see it run. `packaged`: begin with the networks
    that ship with sakuga; the autoencoder and the judge then stay as they are.
    """
    start = time.monotonic()
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if packaged and not (out / "progress.json").exists():
        unpack(out)

    def log(message: str) -> None:
        sys.stdout.write(f"{time.monotonic() - start:7.1f} s  {message}\n")
        sys.stdout.flush()

    # Going on from the packaged networks, other pictures than those they have learned from.
    train_chibi(out, SMOKE if smoke else REAL, device, log, seed=int(packaged))
