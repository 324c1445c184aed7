"""Lumina-Image 2.0 by diffusers, recorded as golden files and held against ours.

`python -m wild.kin FOLDER` writes the golden files of `tests/parity/golden` there; the names of
their tensors and what the numbers mean are those of its other files.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, Lumina2Pipeline
from kin_folder import KIN, write_kin
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sakuga.api.engine_spec import EngineSpec
from sakuga.api.events import Finished
from sakuga.api.request import Request
from sakuga.engine.denoise import noise
from sakuga.engine.engine import Engine
from wild.files import Row

PROMPT, NEGATIVE = "1girl, blue hair, red eyes, smile", "night, long hair"
STEPS = 8
EXACT, SAMPLED = 1e-5, 1e-4  # of the largest value: of a stage, and after the steps
# As small as can be while every field is told apart.
SMALL = replace(
    KIN,
    transformer=replace(
        KIN.transformer, dim=24, n_layers=2, n_refiner_layers=1, axes_dims=(2, 2, 2)
    ),
    vae=replace(KIN.vae, block_out_channels=(4, 4, 4, 4)),
)
CALLS: tuple[dict[str, Any], ...] = (
    {"guidance_scale": 4.0, "cfg_normalization": True, "cfg_trunc_ratio": 1.0},
    {"guidance_scale": 3.0, "cfg_normalization": False, "cfg_trunc_ratio": 1.0},
    {"guidance_scale": 4.0, "cfg_normalization": True, "cfg_trunc_ratio": 0.5},
)
COMPONENTS = ("transformer", "text_encoder", "vae")


@torch.inference_mode()
def record(folder: Path, seed: int, size: tuple[int, int]) -> tuple[dict[str, Tensor], Any]:
    """What diffusers makes of a folder: tensors as in a golden file, and what the case says.

    size: (width, height) in pixels.
    """
    pipe = Lumina2Pipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    width, height = size
    draw = torch.Generator().manual_seed(seed)
    latents = torch.randn((1, KIN.vae.latent_channels, height // 8, width // 8), generator=draw)
    tensors = {"input/latents": latents, **_weights(folder)}
    for name, text in (("prompt", f"{pipe.system_prompt} <Prompt Start> {PROMPT}"),
                       ("negative", NEGATIVE)):  # fmt: skip
        ids = pipe.tokenizer(text, return_tensors="pt").input_ids
        states = pipe.text_encoder(ids, output_hidden_states=True).hidden_states
        tensors |= {f"input/ids.{name}": ids[0], f"output/{name}": states[-2][0]}
        tensors[f"output/{name}.layers"] = torch.cat(states[:-1])
    for number, call in enumerate(CALLS):
        with _Stages(pipe.transformer) as stages:
            steps, image = _drawn(pipe, latents, size, call)
        if number == 0:
            length = len(tensors["input/ids.prompt"])
            tensors |= {f"output/{name}": value for name, value in stages.told(length).items()}
        tensors |= {f"output/{number}/steps": steps, f"output/{number}/image": image}
    about = {
        "kind": "lumina2", "calls": CALLS, "steps": STEPS, "shift": pipe.scheduler.config.shift,
        "config": {name: json.loads((folder / name / "config.json").read_text())
                   for name in COMPONENTS},
    }  # fmt: skip
    return {name: value.contiguous().clone() for name, value in tensors.items()}, about


def _drawn(
    pipe: Lumina2Pipeline, latents: Tensor, size: tuple[int, int], call: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """The latents after each step, and what the decoder makes of the last, in -1..1."""
    steps: list[Tensor] = []

    def keep(
        _pipe: object, _step: int, _time: object, given: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        steps.append(given["latents"].clone())
        return given

    made = pipe(
        PROMPT, negative_prompt=NEGATIVE, width=size[0], height=size[1], latents=latents.clone(),
        num_inference_steps=STEPS, output_type="latent", callback_on_step_end=keep, **call,
    ).images  # fmt: skip
    vae: AutoencoderKL = pipe.vae
    image = vae.decode(made / vae.config.scaling_factor + vae.config.shift_factor).sample
    return torch.cat(steps), image


class _Stages:
    """What the modules of a transformer give in its first evaluation, under the prompt."""

    def __init__(self, transformer: nn.Module) -> None:
        self.modules = {
            "embedded": transformer.time_caption_embed,
            "context_refiner": transformer.context_refiner[-1],
            "x_embedder": transformer.x_embedder,
            "noise_refiner": transformer.noise_refiner[-1],
            "layer0": transformer.layers[0],
            "layer_last": transformer.layers[-1],
            "final_layer": transformer.norm_out,
            "velocity": transformer,
        }
        self.found: dict[str, Any] = {}
        self.hooks: list[Any] = []

    def __enter__(self) -> _Stages:
        def keep(name: str) -> Any:
            def hook(_module: object, _given: object, made: Any) -> None:
                self.found.setdefault(name, made)

            return hook

        self.hooks = [one.register_forward_hook(keep(name)) for name, one in self.modules.items()]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def told(self, length: int) -> dict[str, Tensor]:
        """Of captions only the `length` real tokens; padding fills them up to 256."""
        time, caption = self.found.pop("embedded")
        stages = {"t_embedder": time, "cap_embedder": caption[:, :length], **self.found}
        stages["context_refiner"] = stages["context_refiner"][:, :length]
        stages["velocity"] = stages["velocity"][0]
        return stages


def _weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a model under weights/<component>/<their name there>."""
    return {
        f"weights/{name}/{key}": value
        for name in COMPONENTS
        for file in sorted((folder / name).glob("*.safetensors"))
        for key, value in load_file(file).items()
    }


def write(file: Path, seed: int, size: tuple[int, int], spec: Any = SMALL) -> Path:
    """Record a model of random weights as a golden file."""
    with tempfile.TemporaryDirectory() as name:
        model = write_kin(Path(name) / "Lumina-Image-2.0", seed, spec)
        tensors, about = record(model, seed, size)
    save_file(tensors, file, {"case": json.dumps(about)})
    return file


def compare() -> list[Row]:
    """Models of other weights and sizes: every stage, and whole drawings of the folder."""
    from replay.__main__ import rows_of

    rows = []
    with tempfile.TemporaryDirectory() as name:
        for seed, size, spec in ((11, (96, 64), SMALL), (12, (64, 160), KIN)):
            file = write(Path(name) / f"{seed}.safetensors", seed, size, spec)
            rows += [
                Row(f"Lumina 2, seed {seed}, {row.name}", f"{row.error:.1e} {row.note}", row.held)
                for row in rows_of(file)
            ]
            model = write_kin(Path(name) / "Lumina-Image-2.0" / str(seed), seed, spec)
            rows.append(_engine(model, seed))
    return rows


def _engine(model: Path, seed: int) -> Row:
    """The same folder, opened and drawn by both from text to pixels."""
    size = (256, 320)
    engine = Engine.open(EngineSpec(str(model), device="cpu", dtype="float32"))
    asked = Request(
        PROMPT, negative=NEGATIVE, seed=seed, width=size[0], height=size[1], steps=STEPS
    )
    *_, last = engine.generate(asked)
    assert isinstance(last, Finished)
    pipe = Lumina2Pipeline.from_pretrained(model, torch_dtype=torch.float32)
    latents = noise(engine.resolve(asked), engine.model.vae)
    with torch.inference_mode():
        image = pipe(
            PROMPT, negative_prompt=NEGATIVE, width=size[0], height=size[1], latents=latents,
            num_inference_steps=STEPS, output_type="np",
        ).images[0]  # fmt: skip
    ours = torch.frombuffer(bytearray(last.result.picture.rgb), dtype=torch.uint8).double()
    apart = (ours / 255 - torch.from_numpy(image).double().flatten()).abs().max().item()
    return Row(f"Lumina 2, seed {seed}, whole", f"{apart * 255:.2f} of 255", apart * 255 < 1)


if __name__ == "__main__":
    write(Path(sys.argv[1]) / "lumina2.safetensors", 7, (64, 48))
