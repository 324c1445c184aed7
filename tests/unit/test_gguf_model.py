"""A whole model kept as GGUF draws what it drew before."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from gguf_file import write_gguf
from safetensors.numpy import load_file

from engines import open_engine
from sakuga.api.events import Finished, Result
from sakuga.api.request import Request
from sakuga.checkpoint.families.gemma import GEMMA_GGUF
from sakuga.checkpoint.families.match import Match, rewrite
from sakuga.checkpoint.folder import open_checkpoint

PROMPT = "<character_1><appearance>red_eyes, blue_hair</appearance></character_1>"
# What `tests/conftest.py` calls TINY, in llama.cpp's words.
GEMMA: dict[str, Any] = {
    "general.architecture": "gemma3",
    "gemma3.context_length": 1024,
    "gemma3.embedding_length": 24,
    "gemma3.block_count": 3,
    "gemma3.feed_forward_length": 48,
    "gemma3.attention.head_count": 2,
    "gemma3.attention.head_count_kv": 1,
    "gemma3.attention.key_length": 12,
    "gemma3.attention.layer_norm_rms_epsilon": 1e-6,
    "gemma3.attention.sliding_window": 16,
    "gemma3.attention.sliding_window_pattern": 2,
    "gemma3.rope.scaling.type": "linear",
    "gemma3.rope.scaling.factor": 8.0,
}


def drawn(model: Path) -> Result:
    request = Request(PROMPT, seed=5, steps=3)
    (result,) = (
        event.result
        for event in open_engine(model).generate(request)
        if isinstance(event, Finished)
    )
    return result


def as_gguf(model: Path) -> None:
    """Rewrite the transformer, under its own names, and Gemma, under llama.cpp's."""
    (file,) = (model / "transformer").glob("*.safetensors")
    tensors = {key: ("F32", value) for key, value in load_file(file).items()}
    write_gguf(file.with_suffix(".gguf"), {"general.architecture": "lumina2"}, tensors)
    file.unlink()
    (file,) = (model / "text_encoder").glob("*.safetensors")
    state = load_file(file)
    prefix = "model."
    shapes = {key.removeprefix(prefix): value.shape for key, value in state.items()}
    pieces, left = rewrite(Match(GEMMA_GGUF.inverse), shapes)
    assert left == ()
    tensors = {
        piece.target: ("F32", state[prefix + piece.sources[0]] + np.float32(piece.shift))
        for piece in pieces
    }
    write_gguf(file.with_suffix(".gguf"), GEMMA, tensors)
    file.unlink()
    (model / "text_encoder" / "config.json").unlink()


def test_the_picture_is_the_same(tiny_model: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "tiny"))
    as_gguf(model)
    assert open_checkpoint(model).spec == open_checkpoint(tiny_model).spec
    before, after = drawn(tiny_model), drawn(model)
    pixels = [np.frombuffer(each.picture.rgb, np.uint8).astype(int) for each in (before, after)]
    assert np.abs(pixels[0] - pixels[1]).max() <= 1  # one and back costs a norm its last bit
    assert pixels[0].std() > 5
    hashes = after.receipt.weights
    assert hashes["transformer"] != before.receipt.weights["transformer"]
    assert hashes["vae"] == before.receipt.weights["vae"]
