"""Adapters as trainers write them, made here from random factors, and a model to change."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny import TINY
from torch import Tensor, nn

from sakuga.adapters.fit import targets_of
from sakuga.model.nextdit import Group, NextDiT, RefinerBlock
from sakuga.model.packing import packing_of, text_positions

Factors = Mapping[str, tuple[Tensor, Tensor]]  # module: down (r, in), up (out, r)

with torch.device("meta"):
    SHAPES = {key: tuple(v.shape) for key, v in NextDiT(TINY.transformer).state_dict().items()}
TARGETS = targets_of(SHAPES)
LINEARS = tuple(name for name, shape in TARGETS.items() if len(shape) == 2)
NORMS = tuple(name for name, shape in TARGETS.items() if len(shape) == 1)
FEW = ("layers.0.attention.qkv", "layers.1.feed_forward.w2", "noise_refiner.0.attention.out")


def factors(modules: tuple[str, ...] = LINEARS, rank: int = 3, seed: int = 0) -> Factors:
    draw = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw) * 0.2

    return {name: (some(rank, TARGETS[name][1]), some(TARGETS[name][0], rank)) for name in modules}


def peft_tensors(given: Factors) -> dict[str, Tensor]:
    tensors = {}
    for name, (down, up) in given.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = down
        tensors[f"base_model.model.{name}.lora_B.weight"] = up
    return tensors


def kohya_tensors(given: Factors, alpha: float) -> dict[str, Tensor]:
    tensors = {}
    for name, (down, up) in given.items():
        flat = "lora_unet_" + name.replace(".", "_")
        tensors[f"{flat}.lora_down.weight"] = down
        tensors[f"{flat}.lora_up.weight"] = up
        tensors[f"{flat}.alpha"] = torch.tensor(alpha)
    return tensors


def lokr_tensors(module: str, a: int, b: int, rank: int = 0, seed: int = 0) -> dict[str, Tensor]:
    """A LoKr whose first factor is a x b; rank 0 leaves the second one whole."""
    draw = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw) * 0.2

    rows, columns = TARGETS[module]
    stem = "lycoris_" + module.replace(".", "_")
    tensors = {f"{stem}.lokr_w1": some(a, b), f"{stem}.alpha": torch.tensor(114514.0)}
    if rank:
        tensors[f"{stem}.lokr_w2_a"] = some(rows // a, rank)
        tensors[f"{stem}.lokr_w2_b"] = some(rank, columns // b)
        tensors[f"{stem}.alpha"] = torch.tensor(2.0)
    else:
        tensors[f"{stem}.lokr_w2"] = some(rows // a, columns // b)
    return tensors


def saved(
    file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), file, dict(metadata) if metadata else None)
    return file


def peft_folder(folder: Path, given: Factors, alpha: float, **config: object) -> Path:
    rank = len(next(iter(given.values()))[0])
    told = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, **config}
    saved(folder / "adapter_model.safetensors", peft_tensors(given))
    (folder / "adapter_config.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


def made(seed: int = 0) -> NextDiT:
    draw = torch.Generator().manual_seed(seed)
    model = NextDiT(TINY.transformer).eval().requires_grad_(False)
    for value in model.parameters():
        value.copy_(torch.randn(value.shape, generator=draw) * 0.2)
    return model


def group(
    model: NextDiT,
    refiners: Iterable[RefinerBlock] | None = None,
    heads: Iterable[nn.Module] | None = None,
) -> Group:
    """Two segments, with everything an adapter may change on the way to the blocks."""
    draw = torch.Generator().manual_seed(7)
    texts = [(torch.randn(length, TINY.transformer.cap_feat_dim, generator=draw),
              text_positions(model.spec, (length,))) for length in (5, 3)]  # fmt: skip
    caption = torch.cat(model.refine_each(texts, refiners))
    pooled = torch.randn(2, TINY.transformer.clip_text_dim, generator=draw)
    modulations = model.modulations(torch.tensor([0.3, 0.3]), pooled, heads)
    latents = torch.randn(2, TINY.transformer.in_channels, 8, 8, generator=draw)
    return Group(latents, caption, packing_of(model.spec, [5, 3], [(8, 8), (8, 8)]), modulations)


def velocity(model: NextDiT) -> Tensor:
    [result] = model.denoise([group(model)])
    return result


def near(got: Tensor, want: Tensor) -> bool:
    return bool((got - want).abs().max() <= 1e-5 * want.abs().max())
