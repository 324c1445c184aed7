"""Files of the real sizes, every key of them: opened without a config, and bound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sakuga.checkpoint.bind import plan_binding
from sakuga.checkpoint.folder import open_component
from sakuga.commands.inspect import inspect
from sakuga.model.nextdit import NextDiT
from sakuga.model.spec import LUMINA_2, NEWBIE_3_5B
from sakuga.model.text import GemmaEncoder, JinaEncoder
from sakuga.model.vae import VAE

INVENTORY = Path(__file__).parents[1] / "golden" / "inventory"
FILES: dict[str, tuple[str, Any]] = {
    "nextdit_original": ("transformer", NEWBIE_3_5B.transformer),
    "nextdit_diffusers": ("transformer", NEWBIE_3_5B.transformer),
    "lumina2_diffusers": ("transformer", LUMINA_2.transformer),
    "gemma_3_4b_it": ("text_encoder", NEWBIE_3_5B.gemma),
    "gemma_2_2b": ("text_encoder", LUMINA_2.gemma),
    "jina_text_comfyui": ("text_encoder_2", NEWBIE_3_5B.jina),
    "jina_text_official": ("text_encoder_2", NEWBIE_3_5B.jina),
    "flux_ae_diffusers": ("vae", NEWBIE_3_5B.vae),
    "flux_ae_bfl": ("vae", NEWBIE_3_5B.vae),
}


def empty_module(component: str, spec: Any) -> torch.nn.Module:
    with torch.device("meta"):
        modules: dict[str, Any] = {
            "transformer": NextDiT,
            "text_encoder": lambda spec: GemmaEncoder(spec).model,
            "text_encoder_2": lambda spec: JinaEncoder(spec).model,
            "vae": VAE,
        }
        module: torch.nn.Module = modules[component](spec)
        return module


def published(name: str, file: Path) -> dict[str, list[int]]:
    """A file of a published one's names and shapes in bfloat16; its values are a hole."""
    tensors: dict[str, list[int]] = json.loads((INVENTORY / f"{name}.json").read_text())["tensors"]
    if name == "gemma_3_4b_it":
        tensors["spiece_model"] = [4_689_074]
    header, end = {}, 0
    for key, shape in tensors.items():
        size = 1 if key == "spiece_model" else 2
        start, end = end, end + size * torch.Size(shape).numel()
        dtype = {1: "U8", 2: "BF16"}[size]
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + end)
    return tensors


@pytest.mark.parametrize("name", FILES)
def test_a_real_file_says_what_it_is_and_every_key_is_explained(name: str, tmp_path: Path) -> None:
    file = tmp_path / "any_name.safetensors"
    tensors = published(name, file)
    part = open_component(file)
    assert (part.name, part.spec) == FILES[name]
    report = plan_binding(empty_module(*FILES[name]), part).report
    assert {entry.key for entry in report.entries} == set(tensors)
    assert report.counts.keys() <= {"cast", "baked", "dropped"}
    assert all(entry.detail for entry in report.entries)
    (told,) = inspect(file, "float32")
    assert told.problem is None
    assert told.fates == report.counts
    assert {(key.name, key.fate, key.detail) for key in told.keys} == {
        (entry.key, entry.fate, entry.detail) for entry in report.entries
    }
