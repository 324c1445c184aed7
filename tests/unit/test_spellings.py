"""The tiny model under every published spelling opens as the same tensors, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sakuga.checkpoint.folder import Checkpoint, open_checkpoint
from sakuga.checkpoint.save import write_json
from sakuga.commands.convert import convert
from sakuga.engine.networks import Networks

PIECES = torch.tensor([9, 8, 7], dtype=torch.uint8)


def tensors_of(checkpoint: Checkpoint, name: str) -> dict[str, Tensor]:
    return dict(Networks(checkpoint, "float32")[name].state_dict())


def state_of(model: Path, name: str, prefix: str = "") -> dict[str, Tensor]:
    """A component of the tiny model by our names, under another prefix."""
    (file,) = (model / name).glob("*.safetensors")
    return {prefix + key.removeprefix("model."): value for key, value in load_file(file).items()}


def opened(
    model: Path, name: str, state: Mapping[str, Tensor], folder: Path, shards: int = 1
) -> dict[str, Tensor]:
    """The tensors of the tiny model with one component from a folder with this state."""
    folder.mkdir()
    (folder / "config.json").write_text((model / name / "config.json").read_text())
    names = sorted(state)
    index = {}
    for number in range(shards):
        file = "whole.safetensors" if shards == 1 else f"model-{number}.safetensors"
        keys = names[number::shards]
        save_file({key: state[key].contiguous() for key in keys}, folder / file)
        index |= dict.fromkeys(keys, file)
    if shards > 1:
        write_json(folder / "model.safetensors.index.json", {"weight_map": index})
    return tensors_of(open_checkpoint(model, {name: folder}), name)


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize(
    ("prefix", "around"),
    [
        ("language_model.model.", "vision_tower.vision_model.x.weight multi_modal_projector.y"),
        ("model.language_model.", "model.vision_tower.x.weight model.multi_modal_projector.y "
                                  "lm_head.weight"),
        ("language_model.", "vision_tower.x.weight"),
        ("model.", "lm_head.weight"),
        ("", ""),
    ],
)  # fmt: skip
def test_gemma_in_all_prefix_styles_in_shards(
    prefix: str, around: str, tiny_model: Path, tmp_path: Path
) -> None:
    state = state_of(tiny_model, "text_encoder", prefix)
    # A whole Gemma also has the layer and the norm that are never run.
    last = {key.replace("layers.1.", "layers.2."): value for key, value in state.items()}
    whole = last | state | {f"{prefix}norm.weight": torch.ones(24)}
    whole |= {key: torch.ones(2) for key in around.split()}
    wanted = tensors_of(open_checkpoint(tiny_model), "text_encoder")
    assert same(opened(tiny_model, "text_encoder", whole, tmp_path / "g", 3), wanted)


def test_gemma_as_the_single_file_with_its_tokenizer(tiny_model: Path, tmp_path: Path) -> None:
    state = state_of(tiny_model, "text_encoder", "model.") | {"spiece_model": PIECES}
    wanted = tensors_of(open_checkpoint(tiny_model), "text_encoder")
    assert same(opened(tiny_model, "text_encoder", state, tmp_path / "g"), wanted)


@pytest.mark.parametrize("prefix", ["", "roberta."])
def test_jina_under_transformers_names(prefix: str, tiny_model: Path, tmp_path: Path) -> None:
    state = state_of(tiny_model, "text_encoder_2", prefix)
    state |= {f"{prefix}pooler.dense.weight": torch.ones(16, 16), "lm_head.bias": torch.ones(2)}
    wanted = tensors_of(open_checkpoint(tiny_model), "text_encoder_2")
    assert same(opened(tiny_model, "text_encoder_2", state, tmp_path / "j"), wanted)


def test_jina_as_the_single_file_with_its_tokenizer(tiny_model: Path, tmp_path: Path) -> None:
    (told,) = convert(tiny_model / "text_encoder_2", tmp_path / "x.safetensors", "single-file")
    state = load_file(tmp_path / told.file) | {"spiece_model": PIECES}
    assert "model.encoder.layers.0.mixer.Wqkv.weight" in state
    wanted = tensors_of(open_checkpoint(tiny_model), "text_encoder_2")
    assert same(opened(tiny_model, "text_encoder_2", state, tmp_path / "j"), wanted)


def test_official_jina_whose_adapter_does_nothing(tiny_model: Path, tmp_path: Path) -> None:
    (told,) = convert(tiny_model / "text_encoder_2", tmp_path / "x.safetensors", "original")
    state = {}
    for key, value in load_file(tmp_path / told.file).items():
        assert key.startswith("text_model.transformer.roberta.")
        stem, _, leaf = key.rpartition(".")
        if leaf == "bias" or value.dim() < 2:
            state[key] = value
            continue
        a, b = (value.shape[0], value.shape[1]) if "embeddings" in key else value.shape[::-1]
        shapes = ((a, 4), (4, b)) if "embeddings" in key else ((4, a), (b, 4))
        parametrized = f"{stem}.parametrizations.weight"
        state[f"{parametrized}.original"] = value
        state[f"{parametrized}.0.lora_A"] = torch.randn(1, *shapes[0])
        state[f"{parametrized}.0.lora_B"] = torch.zeros(1, *shapes[1])
    wanted = tensors_of(open_checkpoint(tiny_model), "text_encoder_2")
    assert same(opened(tiny_model, "text_encoder_2", state, tmp_path / "j"), wanted)


@pytest.mark.parametrize("prefix", ["", "first_stage_model.", "state_dict."])
@pytest.mark.parametrize("convolved", [True, False])
def test_the_original_autoencoder(
    prefix: str, convolved: bool, tiny_model: Path, tmp_path: Path
) -> None:
    (told,) = convert(tiny_model / "vae", tmp_path / "ae.safetensors", "single-file")
    state = {prefix + key: value for key, value in load_file(tmp_path / told.file).items()}
    (key,) = (key for key in state if key.endswith("decoder.mid.attn_1.q.weight"))
    assert state[key].shape == (8, 8, 1, 1)
    if not convolved:  # as some converters write it
        state = {k: v.flatten(1) if v.shape[2:] == (1, 1) and "attn_1" in k else v
                 for k, v in state.items()}  # fmt: skip
        assert state[key].shape == (8, 8)
    wanted = tensors_of(open_checkpoint(tiny_model), "vae")
    assert same(opened(tiny_model, "vae", state, tmp_path / "vae"), wanted)


def test_the_heads_of_a_diffusers_transformer_under_other_names(
    tiny_model: Path, tmp_path: Path
) -> None:
    (told,) = convert(tiny_model / "transformer", tmp_path / "x.safetensors", "diffusers")
    state = {
        key.replace("clip_text_pooled_proj", "pooled.project").replace(
            "time_text_embed.1", "both"
        ): v
        for key, v in load_file(tmp_path / told.file).items()
    }
    assert {"pooled.project.0.weight", "both.bias"} < state.keys()
    wanted = tensors_of(open_checkpoint(tiny_model), "transformer")
    assert same(opened(tiny_model, "transformer", state, tmp_path / "t", 2), wanted)
