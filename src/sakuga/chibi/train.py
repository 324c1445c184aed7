"""Training the embedded model: renders, autoencoder, judge, latents, transformer.

Every stage can stop at any moment and go on from what it saved: its weights and how much of
its time has passed. Optimisers start afresh; they find their pace again within seconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from sakuga.checkpoint.save import write_atomically, write_json
from sakuga.chibi.data import Gallery, PromptBatch, Renders, draw_renders, prompt_batches
from sakuga.chibi.judge import Judge, hits, judge_loss
from sakuga.chibi.measure import Painter, accuracy_table, measure, psnr
from sakuga.chibi.muon import Muon
from sakuga.chibi.package import unpack
from sakuga.chibi.prompts import habits, joined, write_prompt
from sakuga.chibi.scene import MAX_CHARACTERS, random_scene
from sakuga.chibi.tokenizer import save_tokenizers, train_tokenizers
from sakuga.model.nextdit import NextDiT
from sakuga.model.spec import CHIBI, ModelSpec
from sakuga.model.text import GemmaEncoder, JinaEncoder
from sakuga.model.vae import VAE

Log = Callable[[str], None]

_HELD_OUT = 2**31  # seeds from here on are never trained on
_FIGURE_WEIGHT, _FACE_WEIGHT = 2.0, 3.0  # added to the loss where figures and faces are
_SAVE_SECONDS, _CHECK_SECONDS = 60.0, 240.0  # between two saves, two checks of the accuracy
# Kernels differ with what the length of a prompt divides by; one without a prompt has one token.
_REHEARSED = (72, 65, 66, 68, 64, 1)
_NEAR_NOISE, _NEAR_NOISE_SHARE = 0.05, 0.12  # where backgrounds are decided


@dataclass(frozen=True, slots=True)
class Regime:
    """How much of everything: pictures in the pool, minutes and batch sizes of each stage.

    `workers`: processes that draw pictures, then write prompts; 0 for none beside this one.
    """

    pictures: int
    size: int
    workers: int
    vae_minutes: float
    judge_minutes: float
    transformer_minutes: float
    vae_batch: int
    judge_batch: int
    prompt_batch: int
    lr: float  # of the transformer
    compiled: bool
    measured: int  # drawings per character count at each check of the accuracy


REAL = Regime(
    pictures=120_000,
    size=256,
    workers=15,
    vae_minutes=6.0,
    judge_minutes=0.6,
    transformer_minutes=13.0,
    vae_batch=64,
    judge_batch=128,
    prompt_batch=512,
    lr=3e-3,
    compiled=True,
    measured=16,
)
SMOKE = Regime(
    pictures=64,
    size=128,
    workers=0,
    vae_minutes=0.1,
    judge_minutes=0.05,
    transformer_minutes=0.1,
    vae_batch=2,
    judge_batch=4,
    prompt_batch=2,
    lr=4e-3,
    compiled=False,
    measured=1,
)


@dataclass(slots=True)
class Pace:
    """How far a stage is, by the clock: `before` is the share done by earlier runs."""

    minutes: float
    before: float
    start: float

    @property
    def done(self) -> float:
        """Share of the stage that has passed, from 0; 1 and above means finished."""
        return self.before + (time.monotonic() - self.start) / 60 / max(self.minutes, 1e-9)

    def rate(self, warmup: float = 0.01, cooldown: float = 0.6) -> float:
        """Learning rate factor: a short rise, a plateau, a straight line to zero."""
        rise = (time.monotonic() - self.start) / 60 / max(self.minutes, 1e-9) / warmup
        return max(0.0, min(1.0, rise, (1 - self.done) / cooldown))


@dataclass(frozen=True, slots=True)
class Shelf:
    """The folder that holds what the stages leave behind."""

    folder: Path

    def progress(self) -> dict[str, float]:
        """Share of each stage that is done."""
        path = self.folder / "progress.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def pace(self, stage: str, minutes: float) -> Pace:
        """Where `stage` goes on."""
        return Pace(minutes, self.progress().get(stage, 0.0), time.monotonic())

    def save(self, stage: str, done: float, name: str, module: nn.Module) -> None:
        """Keep a module under its name, then note how far the stage is."""
        tensors = {k: v.detach().float().contiguous() for k, v in module.state_dict().items()}
        self.write(f"{name}.safetensors", tensors)
        write_json(self.folder / "progress.json", self.progress() | {stage: min(done, 1.0)})

    def write(self, file: str, tensors: dict[str, Tensor]) -> None:
        """Write tensors to a safetensors file, whole or not at all."""
        write_atomically(self.folder / file, lambda path: save_file(tensors, path))

    def load(self, name: str, module: nn.Module) -> bool:
        """Fill `module` from the shelf; False if nothing of that name lies there."""
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            return False
        module.load_state_dict(load_file(path))
        return True


class Text2Velocity(nn.Module):
    """The three networks that learn together: two readers and the transformer."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.gemma = GemmaEncoder(spec.gemma)
        self.jina = JinaEncoder(spec.jina)
        self.transformer = NextDiT(spec.transformer)

    def forward(self, latents: Tensor, t: Tensor, batch: PromptBatch) -> tuple[Tensor, Tensor]:
        """Velocity of (B, C, h, w) latents, and the refined caption (B, L, D) behind it."""
        _, length = batch.gemma.shape
        # One segment's layout broadcasts over a batch in which all segments are alike.
        height, width = latents.shape[-2:]
        layout = self.transformer.layout([length], [(height, width)], latents.device)
        features = self.gemma(batch.gemma).flatten(0, 1)
        caption = self.transformer.refine(features, layout.text)
        pooled = self.jina(batch.jina)
        velocity = self.transformer.velocity(latents, t, caption, layout, pooled)
        assert isinstance(velocity, Tensor)
        return velocity, caption.unflatten(0, (-1, length))


def train_chibi(out: Path, regime: Regime, device: str, log: Log, seed: int = 0) -> None:
    """Run, or go on with, every stage; results and state lie in `out`.

    Seeds fix the data, not the result: stages last a given time, however fast the machine is.
    """
    shelf = Shelf(out)
    out.mkdir(parents=True, exist_ok=True)
    where = torch.device(device)
    torch.set_float32_matmul_precision("high")
    # cuDNN plans attention anew for every length of prompt, ten milliseconds each time.
    torch.backends.cuda.enable_cudnn_sdp(False)
    teach_tokenizers(out, seed)
    model = open_model(shelf, regime, where)
    whereabouts = nn.Linear(CHIBI.transformer.dim, 2).to(where)
    if not (out / "latents.safetensors").exists():
        gallery = Gallery(regime.pictures, regime.size, where)
        gallery.fill(seed, regime.workers)
        held_out = draw_renders((_HELD_OUT, seed), 4 * regime.vae_batch, regime.size)
        vae = train_vae(gallery, held_out, regime, shelf, log)
        train_judge(gallery, held_out, regime, shelf, log)
        if regime.compiled:
            rehearse(model, whereabouts, regime)
            log("transformer compiled")
        encode_gallery(vae, gallery, shelf)
        log("pictures encoded")
    train_transformer(model, whereabouts, Lesson.open(out, where), regime, shelf, log)


def teach_tokenizers(out: Path, seed: int) -> None:
    """Learn both tokenizers from written prompts, unless they are there already."""
    if (out / "tokenizer_2" / "tokenizer.json").exists():
        return
    rng, scenes = Random(seed), np.random.default_rng(seed)

    def texts() -> Iterator[str]:
        for _ in range(40_000):
            yield joined(write_prompt(random_scene(scenes), rng, habits(rng)))

    save_tokenizers(out, *train_tokenizers(texts(), CHIBI.gemma.vocab_size))


def train_vae(
    gallery: Gallery, held_out: Renders, regime: Regime, shelf: Shelf, log: Log
) -> VAE:
    """Teach the autoencoder to keep pictures through 16 channels at an eighth of the size."""
    device, generator = gallery.pixels.device, torch.Generator().manual_seed(1)
    vae, average = VAE(CHIBI.vae).to(device), VAE(CHIBI.vae).to(device)
    shelf.load("vae", vae)
    average.load_state_dict(vae.state_dict())
    nn.utils.convert_conv2d_weight_memory_format(vae, torch.channels_last)
    pace = shelf.pace("vae", regime.vae_minutes)
    optimisers = make_optimisers(vae, skip=("conv_in", "conv_out"), lr=2e-3)
    loss_of = torch.compile(vae_loss) if regime.compiled else vae_loss
    step = 0
    while pace.done < 1:
        gallery.wait(regime.vae_batch)
        index = gallery.sample(regime.vae_batch, generator).to(device)
        pixels = to_unit(gallery.pixels[index]).contiguous(memory_format=torch.channels_last)
        with half_precision(device):
            loss = loss_of(vae, pixels)
        loss.backward()
        advance(vae, optimisers, pace.rate(), average, decay=0.998)
        step += 1
        if step % 500 == 0 or pace.done >= 1:
            quality = psnr(average, to_unit(held_out.pixels[:64].to(device)))
            log(f"vae {pace.done:.2f} step {step} loss {loss.item():.5f} psnr {quality:.2f} dB "
                f"pool {gallery.ready}")
            shelf.save("vae", pace.done, "vae", average)
    return average


def vae_loss(vae: VAE, pixels: Tensor) -> Tensor:
    """Squared and absolute error, and a light pull of the latents towards a unit normal."""
    mean, logvar = vae.moments(pixels)
    mean, logvar = mean.float(), logvar.float().clamp(-20, 5)
    latents = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
    error: Tensor = vae.decoder(latents).float() - pixels
    divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return error.square().mean() + 0.1 * error.abs().mean() + 1e-5 * divergence


def train_judge(
    gallery: Gallery, held_out: Renders, regime: Regime, shelf: Shelf, log: Log
) -> None:
    """Teach the judge on renders, blurred and shaken a little so that it forgives soft lines."""
    device, generator = gallery.pixels.device, torch.Generator().manual_seed(2)
    judge = Judge().to(device)
    shelf.load("judge", judge)
    pace = shelf.pace("judge", regime.judge_minutes)
    optimiser = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.01)
    step = 0
    while pace.done < 1:
        gallery.wait(regime.judge_batch)
        index = gallery.sample(regime.judge_batch, generator)
        pixels = roughen(to_unit(gallery.pixels[index.to(device)]))
        boxes = shaken(gallery.boxes[index][:, :, 0].to(device))
        with half_precision(device):
            loss = judge_loss(judge, pixels, boxes, gallery.codes[index].to(device))
        loss.backward()
        take_step([optimiser], pace.rate())
        step += 1
        if step % 200 == 0:
            log(f"judge {pace.done:.2f} step {step} loss {loss.item():.4f}")
    judge.eval()
    shelf.save("judge", pace.done, "judge", judge)
    boxes = held_out.boxes[:, :, 0].to(device)
    read = hits(judge, to_unit(held_out.pixels.to(device)), boxes, held_out.codes.to(device))
    log("judge on held-out renders: " + ", ".join(
        f"{slot} {100 * right.nanmean().item():.2f}%" for slot, right in read.items()
    ))


def roughen(pixels: Tensor) -> Tensor:
    """Blur half of the pictures lightly, and add a little noise to all."""
    soft = F.avg_pool2d(pixels, 3, stride=1, padding=1, count_include_pad=False)
    share = torch.rand(len(pixels), 1, 1, 1, device=pixels.device)
    mixed = torch.lerp(pixels, soft, (2 * share - 1).clamp(min=0))
    return mixed + 0.06 * torch.rand_like(share) * torch.randn_like(pixels)


def shaken(boxes: Tensor) -> Tensor:
    """Move and stretch boxes (B, 4, 4) by a few percent of their size."""
    size = torch.cat((boxes[..., 2:] - boxes[..., :2],) * 2, dim=-1)
    return boxes + 0.03 * size * torch.randn_like(boxes)


@torch.inference_mode()
def encode_gallery(vae: VAE, gallery: Gallery, shelf: Shelf) -> None:
    """Keep scaled latents of all pictures with their truth, as soon as each is drawn.

    The scale gives latents unit variance; one that is on the shelf already stays, because a
    transformer may have learned with it.
    """
    parts, drawn = [], 0
    for pixels in gallery.pixels.split(256):
        drawn += len(pixels)
        gallery.wait(drawn)
        with half_precision(pixels.device):
            parts.append(vae.moments(to_unit(pixels))[0].to(torch.bfloat16))
    raw = torch.cat(parts)
    file = shelf.folder / "vae.json"
    if not file.exists():
        sample = raw[:: max(1, len(raw) // 4096)].float()
        scale = {
            "scaling_factor": 1 / sample.std().item(),
            "shift_factor": sample.mean().item(),
        }
        write_json(file, scale)
    spec = open_vae(shelf).spec
    latents = (raw - spec.shift_factor) * spec.scaling_factor
    shelf.write(
        "latents.safetensors",
        {"latents": latents, "codes": gallery.codes, "boxes": gallery.boxes},
    )


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the transformer learns from: scaled latents (B, C, h, w), codes and boxes of each."""

    latents: Tensor
    codes: Tensor
    boxes: Tensor

    @classmethod
    def open(cls, folder: Path, device: torch.device) -> Lesson:
        """Read what `encode_gallery` kept; latents go to `device`."""
        tensors = load_file(folder / "latents.safetensors")
        return cls(tensors["latents"].to(device), tensors["codes"], tensors["boxes"])


def open_vae(shelf: Shelf) -> VAE:
    """The trained autoencoder with the scale of its latents."""
    vae = VAE(replace(CHIBI.vae, **json.loads((shelf.folder / "vae.json").read_text())))
    shelf.load("vae", vae)
    return vae


def open_model(shelf: Shelf, regime: Regime, device: torch.device) -> Text2Velocity:
    """The readers and the transformer as the shelf has them, blocks compiled if asked for."""
    model = Text2Velocity(CHIBI).to(device)
    shelf.load("text2velocity", model)
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
    side = regime.size // CHIBI.vae.downscale
    latents = torch.zeros(1, CHIBI.vae.latent_channels, side, side, device=device)
    blank = Lesson(latents.bfloat16(), torch.empty(0), torch.empty(0))
    for length in _REHEARSED:
        ids = torch.full((count, length), 2)
        batch = PromptBatch(
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
    shelf: Shelf,
    log: Log,
) -> None:
    """Teach the readers and the transformer the flow from noise to latents (arXiv 2210.02747)."""
    device = lesson.latents.device
    average = Text2Velocity(CHIBI).to(device).eval()
    average.load_state_dict(model.state_dict())
    judge, vae = Judge().to(device).eval(), open_vae(shelf).to(device).eval()
    shelf.load("judge", judge)
    painter = Painter.open(shelf.folder, average.gemma, average.jina, average.transformer, vae)
    pace = shelf.pace("transformer", regime.transformer_minutes)
    skip = ("embed", "adaLN", "final_layer", "pooled_proj", "time_text")
    optimisers = [
        *make_optimisers(model, skip=skip, lr=regime.lr),
        torch.optim.AdamW(whereabouts.parameters(), lr=1e-3),
    ]
    batches = prompt_batches(
        lesson.codes,
        lesson.boxes,
        shelf.folder,
        regime.prompt_batch,
        seed=int(1000 * pace.before),
        workers=regime.workers,
    )
    step, saved, checked = 0, time.monotonic(), time.monotonic()
    while pace.done < 1:
        batch = next(batches).to(device)
        with half_precision(device):
            loss = flow_loss(model, whereabouts, lesson, batch)
        loss.backward()
        advance(model, optimisers, pace.rate(), average, decay=0.999)
        step += 1
        if step % 200 == 0:
            seen = step * regime.prompt_batch
            log(f"transformer {pace.done:.3f} step {step} seen {seen} loss {loss.item():.4f}")
        if time.monotonic() - saved > _SAVE_SECONDS or pace.done >= 1:
            shelf.save("transformer", pace.done, "text2velocity", average)
            saved = time.monotonic()
        if time.monotonic() - checked > _CHECK_SECONDS or pace.done >= 1:
            log(check_accuracy(painter, judge, regime.measured))
            checked = time.monotonic()


def check_accuracy(painter: Painter, judge: Judge, pictures: int) -> str:
    """How well `pictures` drawings of one to four characters each show what they should."""
    scores = [measure(painter, judge, count, pictures, _HELD_OUT) for count in (1, 2, 3, 4)]
    return accuracy_table(scores)


def flow_loss(
    model: Text2Velocity, whereabouts: nn.Linear, lesson: Lesson, batch: PromptBatch
) -> Tensor:
    """Error of the velocity, weighted towards figures and faces, plus that of the whereabouts.

    The second term asks each refined caption token where the character it describes stands.
    It exists in training alone, and brings binding sooner: picture tokens then find the tags
    of their own character in one look instead of by way of its position.
    """
    device = lesson.latents.device
    picture = lesson.latents[batch.index].float()
    noise, t = torch.randn_like(picture), sample_times(len(picture), device)
    mix = t.view(-1, 1, 1, 1)
    velocity: Tensor
    velocity, caption = model(mix * picture + (1 - mix) * noise, t, batch)
    error = (velocity.float() - (picture - noise)).square().mean(dim=1)
    weight = importance(batch.boxes, picture.shape[-1])
    missed: Tensor = (whereabouts(caption).float() - batch.place).square().sum(dim=-1)
    owned = batch.owned.float()
    lost = (missed * owned).sum() / owned.sum().clamp(min=1)
    return (error * weight).mean() / weight.mean() + lost


def sample_times(count: int, device: torch.device) -> Tensor:
    """Times of training: leaning towards noise, with a share of their own next to it."""
    u = torch.rand(count, device=device)
    leaning = u / (u + 2.0 * (1 - u))
    near = torch.rand(count, device=device) < _NEAR_NOISE_SHARE
    return torch.where(near, _NEAR_NOISE * u, leaning)


def importance(boxes: Tensor, side: int) -> Tensor:
    """Loss weights (B, side, side) from boxes (B, 4, 2, 4): more on figures, most on faces."""
    centre = (torch.arange(side, device=boxes.device) + 0.5) / side
    x0, y0, x1, y1 = boxes.unbind(-1)
    inside_x = (centre >= x0[..., None]) & (centre < x1[..., None])
    inside_y = (centre >= y0[..., None]) & (centre < y1[..., None])
    inside = (inside_y[..., :, None] & inside_x[..., None, :]).any(dim=1).float()
    return 1 + _FIGURE_WEIGHT * inside[:, 0] + _FACE_WEIGHT * inside[:, 1]


def make_optimisers(
    module: nn.Module, skip: tuple[str, ...], lr: float
) -> list[torch.optim.Optimizer]:
    """Muon for hidden matrices and kernels, AdamW for all that is thin, or named in `skip`."""
    hidden: list[Tensor] = []
    rest: list[Tensor] = []
    for name, p in module.named_parameters():
        thin = p.ndim < 2 or any(part in name for part in skip)
        (rest if thin else hidden).append(p)
    return [
        Muon(hidden, lr=lr, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=lr / 4, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def advance(
    module: nn.Module,
    optimisers: list[torch.optim.Optimizer],
    rate: float,
    average: nn.Module,
    decay: float,
) -> None:
    """One step along clipped gradients, and one of the average towards the module."""
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    take_step(optimisers, rate)
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - decay)


def take_step(optimisers: list[torch.optim.Optimizer], rate: float) -> None:
    """One step of every optimiser at `rate` times its own learning rate."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * rate
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)


def half_precision(device: torch.device) -> torch.autocast:
    """Compute in bfloat16 on a card, in float32 on the CPU."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def to_unit(pixels: Tensor) -> Tensor:
    """Bytes to [-1, 1] in float32."""
    return pixels.float() / 127.5 - 1


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
