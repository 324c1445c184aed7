"""Lumina-Image 2.0 by diffusers: its folder's three components, opened and run stage by stage."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from replay.case import Case, Sheet, pick
from replay.nextdit import keep
from sakuga.checkpoint.bind import bind
from sakuga.checkpoint.folder import open_component
from sakuga.model.layers import Segments
from sakuga.model.nextdit import NextDiT
from sakuga.model.packing import packing_of
from sakuga.model.text import GemmaEncoder
from sakuga.model.vae import VAE
from sakuga.sample.guidance import guided
from sakuga.sample.solvers import grid, solve

BUILDERS: dict[str, Any] = {
    "transformer": NextDiT, "text_encoder": GemmaEncoder, "vae": VAE,
}  # fmt: skip
CALL = ("guidance_scale", "cfg_normalization", "cfg_trunc_ratio")
SAMPLED = 1e-4  # after eight steps; every other stage is held to the usual 1e-5


def replay(case: Case, sheet: Sheet) -> None:
    """Replay both texts, one evaluation in stages, and every sampling down to its image."""
    transformer, gemma, vae = (opened(case, name) for name in BUILDERS)
    texts = [_read(gemma, case, sheet, name) for name in ("prompt", "negative")]
    latents, steps = case.input("latents"), case.about["steps"]
    times = grid(steps, "euler", "shifted", case.about["shift"])
    _stages(transformer, sheet, latents, texts[0], times[0])
    for number, given in enumerate(case.about["calls"]):
        call = pick(given, CALL, {}, "a call")
        field = _field(transformer, texts, call, times)
        states = [step.x for step in solve(field, latents, times, "euler")]
        sheet.compare(f"{number}/steps", torch.cat(states), tolerance=SAMPLED)
        sheet.compare(f"{number}/image", vae.decode(states[-1]), tolerance=SAMPLED)


def opened(case: Case, name: str) -> Any:
    """A component from its published names and config, as any folder's."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "config.json").write_text(json.dumps(case.about["config"][name]))
        save_file(case.named(f"weights/{name}/"), folder / "model.safetensors")
        part = open_component(folder, name)
        with torch.device("meta"):
            module: nn.Module = BUILDERS[name](part.spec)
        inner = module.model if isinstance(module, GemmaEncoder) else module
        bind(inner, part, dtype=torch.float32)
    # Copies: what is mapped ends with the folder.
    inner.load_state_dict({k: v.clone() for k, v in inner.state_dict().items()}, assign=True)
    return module.eval()


def _read(gemma: GemmaEncoder, case: Case, sheet: Sheet, name: str) -> Tensor:
    """The features (L, W) of a text, compared layer by layer."""
    found: list[Tensor] = []
    hooks = [
        one.register_forward_hook(lambda _module, _args, made: found.append(made))
        for one in (gemma.model.embed_tokens, *gemma.model.layers)
    ]
    features = gemma(case.input(f"ids.{name}")[None])[0]
    for hook in hooks:
        hook.remove()
    sheet.compare(f"{name}.layers", torch.cat(found))
    sheet.compare(name, features)
    return features


def _stages(
    transformer: NextDiT, sheet: Sheet, latents: Tensor, text: Tensor, t: float
) -> None:  # fmt: skip
    """One evaluation of the conditional velocity, and what its modules gave."""
    modules = {
        "t_embedder": transformer.t_embedder, "cap_embedder": transformer.cap_embedder,
        "context_refiner": transformer.context_refiner[-1], "x_embedder": transformer.x_embedder,
        "noise_refiner": transformer.noise_refiner[-1], "layer0": transformer.layers[0],
        "layer_last": transformer.layers[-1],
    }  # fmt: skip
    found: dict[str, Tensor] = {}
    hooks = [module.register_forward_hook(keep(found, name)) for name, module in modules.items()]
    time, segments = torch.tensor([t]), Segments((len(text),))
    caption = transformer.caption(text, segments)
    velocity = transformer(latents, time, caption, segments, None)
    for hook in hooks:
        hook.remove()
    sizes = [(latents.shape[-2], latents.shape[-1])]
    packing = packing_of(transformer.spec, segments.lengths, sizes, "cpu")
    found["final_layer"] = transformer.final_layer(
        found["layer_last"], packing.joint, transformer.modulations(time, None).of_end
    )
    for name, value in found.items():
        golden = sheet.case.output(name)
        sheet.compare(name, value if golden is None else value.reshape(golden.shape))
    sheet.compare("velocity", velocity)


def _field(
    transformer: NextDiT, texts: list[Tensor], call: dict[str, Any], times: tuple[float, ...]
) -> Any:
    """The guided velocity of a call; its truncation counts steps, ours is a time."""
    sides = []
    for text in texts:
        segments = Segments((len(text),))
        sides.append((transformer.caption(text, segments), segments))

    def velocity(x: Tensor, t: float, side: int) -> Tensor:
        caption, segments = sides[side]
        out: Tensor = transformer(x, torch.full((len(x),), t), caption, segments, None)
        return out

    count = len(times) - 1
    alone = next((i for i in range(count) if (i + 1) / count > call["cfg_trunc_ratio"]), None)
    return guided(
        lambda x, t: (velocity(x, t, 0), velocity(x, t, 1)),
        call["guidance_scale"],
        truncation=None if alone is None else times[alone],
        conditional=lambda x, t: velocity(x, t, 0),
        rows=call["cfg_normalization"],
    )
