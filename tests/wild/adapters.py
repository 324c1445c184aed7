"""Adapters that PEFT and LyCORIS write, read by us, against the weights they say themselves."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sakuga.adapters.merge import merge
from sakuga.adapters.spec import parse_adapter
from sakuga.checkpoint.families.tables import config_of
from sakuga.checkpoint.folder import open_component
from sakuga.model.nextdit import NextDiT
from sakuga.model.spec import NextDiTSpec
from wild.files import Row
from wild.quantised import PLAIN, TOLERANCE

Weights = Mapping[str, Tensor]
# Sides that blocks of 16 divide, with heads that share keys and with ones of their own.
SPECS = (replace(PLAIN, multiple_of=32), replace(PLAIN, dim=320, n_heads=4, n_kv_heads=4,
         axes_dims=(16, 32, 32), multiple_of=64))  # fmt: skip
MATRICES = ("layers.0.attention.qkv", "layers.1.feed_forward.w2", "noise_refiner.0.feed_forward.w1")
BIASED = ("layers.1.adaLN_modulation.1", "t_embedder.mlp.2")
Maker = Callable[[NextDiT, Path], tuple[Path, dict[str, Tensor]]]  # the file, what it stands for


def compare(folder: Path) -> list[Row]:
    """A row for each kind: the largest error over all shapes, and how many weights it changes."""
    place = folder / "adapters"
    place.mkdir(exist_ok=True)
    logging.disable(logging.INFO)  # LyCORIS tells of every module
    return [_row(name, make, place) for name, make in MAKERS.items()]


def _row(name: str, make: Maker, place: Path) -> Row:
    errors: list[float] = []
    still = True  # whether all that is not asked for stays as it is
    for seed, spec in enumerate(SPECS):
        torch.manual_seed(seed + 23)
        model = NextDiT(spec).requires_grad_(False)
        for value in model.parameters():
            value.copy_(torch.randn_like(value) * 0.05)
        base = _saved(place / "base.safetensors", spec, model.state_dict())
        before = load_file(base)
        given, want = make(model, place / f"{name.replace(' ', '-')}-{seed}")
        out = place / "merged.safetensors"
        merge(open_component(base, "transformer"), [parse_adapter(str(given))], out, force=True)
        got = load_file(out)
        for key, value in want.items():
            errors.append(((got[key] - value).abs().max() / value.abs().max()).item())
        still &= all(torch.equal(got[key], before[key]) for key in got.keys() - want.keys())
        still &= not any(torch.equal(got[key], before[key]) for key in want)
    found = f"{len(errors)} weights of {len(SPECS)} models, off by at most {max(errors):.1e}"
    found += "" if still else ", and not just what it asks for is changed"
    return Row(f"adapter: {name}", found, still and max(errors) <= TOLERANCE)


def _saved(file: Path, spec: NextDiTSpec, tensors: Weights) -> Path:
    whole = {key: value.contiguous().clone() for key, value in tensors.items()}
    save_file(whole, file, {"config": json.dumps(config_of(spec))})
    return file


def _peft(config: str, targets: Sequence[str] = MATRICES, **how: Any) -> Maker:
    def make(model: NextDiT, place: Path) -> tuple[Path, dict[str, Tensor]]:
        import peft  # type: ignore[import-not-found]

        before = {key: value.clone() for key, value in model.state_dict().items()}
        told = getattr(peft, config)(target_modules=list(targets), **how)
        made = peft.get_peft_model(model, told)
        for name, value in made.named_parameters():
            if value.requires_grad:
                noise = torch.randn_like(value)
                value.data = value * (1 + 0.1 * noise) if "magnitude" in name else noise * 0.05
        made.save_pretrained(place)
        after = made.merge_and_unload().state_dict()
        changed = {key for key in before if not torch.equal(before[key], after[key])}
        return place, {key: after[key].detach().clone() for key in changed}

    return make


def _lycoris(algo: str, **how: Any) -> Maker:
    """What it stands for is what its forward pass does: merging scales some kinds twice."""

    def make(model: NextDiT, place: Path) -> tuple[Path, dict[str, Tensor]]:
        from lycoris import LycorisNetwork, create_lycoris  # type: ignore[import-not-found]

        LycorisNetwork.apply_preset({"target_module": [], "target_name": list(MATRICES)})
        told = {"linear_dim": 6, "linear_alpha": 3, **how}
        made = create_lycoris(model, 1.0, algo=algo, **told)
        made.apply_to()
        made.eval()
        for name, value in made.named_parameters():
            noise = torch.randn_like(value)
            value.data = value * (1 + 0.1 * noise) if "dora" in name else noise * 0.2
        file = place.with_suffix(".safetensors")
        made.save_weights(file, None, {})
        want = {}
        for name in MATRICES:
            linear = model.get_submodule(name)
            assert isinstance(linear, nn.Linear)
            with torch.no_grad():
                want[f"{name}.weight"] = linear(torch.eye(linear.in_features)).T
        return file, want

    return make


MAKERS: Mapping[str, Maker] = {
    "PEFT LoRA": _peft("LoraConfig", r=6, lora_alpha=9),
    "PEFT LoRA by rslora": _peft("LoraConfig", r=6, lora_alpha=3, use_rslora=True),
    "PEFT LoRA of patterns": _peft(
        "LoraConfig", r=6, lora_alpha=9, rank_pattern={"qkv": 3}, alpha_pattern={"w1": 5}
    ),
    "PEFT DoRA": _peft("LoraConfig", r=6, lora_alpha=9, use_dora=True),
    "PEFT DoRA by rslora": _peft("LoraConfig", r=6, lora_alpha=3, use_dora=True, use_rslora=True),
    "PEFT LoRA with biases": _peft("LoraConfig", BIASED, r=4, lora_alpha=9, lora_bias=True),
    "PEFT LoRA, its modules' biases": _peft(
        "LoraConfig", BIASED, r=4, lora_alpha=9, bias="lora_only"
    ),
    "PEFT LoRA, all biases, modules_to_save": _peft(
        "LoraConfig", BIASED, r=4, lora_alpha=9, bias="all", modules_to_save=["cap_embedder.1"]
    ),
    "PEFT LoHa": _peft("LoHaConfig", r=6, alpha=3),
    "PEFT LoKr": _peft("LoKrConfig", r=5, alpha=3),
    "PEFT LoKr of two products": _peft("LoKrConfig", r=2, alpha=3, decompose_both=True),
    "PEFT LoKr of whole factors": _peft("LoKrConfig", r=64, alpha=16),
    "PEFT LoKr of whole factors, patterns": _peft(
        "LoKrConfig", r=64, alpha=16, alpha_pattern={"w1": 4}
    ),
    "PEFT OFT": _peft("OFTConfig", oft_block_size=16, r=0),
    "PEFT OFT of seven terms": _peft(
        "OFTConfig", oft_block_size=16, r=0, num_cayley_neumann_terms=7
    ),
    "PEFT OFT exact": _peft("OFTConfig", oft_block_size=8, r=0, use_cayley_neumann=False),
    "PEFT OFT shared": _peft("OFTConfig", oft_block_size=16, r=0, block_share=True),
    "LyCORIS LoRA": _lycoris("lora"),
    "LyCORIS LoHa": _lycoris("loha"),
    "LyCORIS LoKr": _lycoris("lokr", factor=8),
    "LyCORIS LoKr of whole factors": _lycoris("lokr", factor=4, full_matrix=True),
    "LyCORIS LoKr of two products": _lycoris("lokr", factor=16, decompose_both=True),
    "LyCORIS LoKr, unbalanced": _lycoris("lokr", factor=4, unbalanced_factorization=True),
    "LyCORIS DoRA by rows": _lycoris("lora", dora_wd=True),
    "LyCORIS DoRA by columns": _lycoris("lora", dora_wd=True, wd_on_output=False),
    "LyCORIS DoRA of LoKr": _lycoris("lokr", factor=8, dora_wd=True),
    "LyCORIS DoRA of LoHa by columns": _lycoris("loha", dora_wd=True, wd_on_output=False),
    "LyCORIS diag-OFT": _lycoris("diag-oft"),
    "LyCORIS diag-OFT with a constraint": _lycoris("diag-oft", constraint=0.001),
    "LyCORIS full": _lycoris("full"),
}
