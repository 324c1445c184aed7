"""A whole model of a few thousand weights, random and real: every class as in the big ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from sakuga.model.spec import DrawingSpec, GemmaSpec, JinaSpec, ModelSpec, NextDiTSpec, VAESpec

TINY = ModelSpec(
    name="tiny",
    transformer=NextDiTSpec(
        dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=1, axes_dims=(4, 6, 6),
        cap_feat_dim=24, clip_text_dim=16, multiple_of=16,
    ),
    gemma=GemmaSpec(
        vocab_size=512, hidden_size=24, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=2, num_key_value_heads=1, head_dim=12, query_pre_attn_scalar=12,
        sliding_window=16, full_attention_layers=(1,), max_position_embeddings=1024,
    ),
    jina=JinaSpec(
        vocab_size=512, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=1024,
    ),
    vae=VAESpec(
        block_out_channels=(4, 8, 8, 8), layers_per_block=1, norm_num_groups=2,
        scaling_factor=0.8, shift_factor=0.1,
    ),
    drawing=DrawingSpec(
        steps=4, solver="euler", shift=3.0, guidance=3.0, width=64, height=64, min_side=32,
        max_side=128, max_pixels=128 * 128, system_xml="Draw. <Prompt Start> ", system_text="",
    ),
)  # fmt: skip
CORPUS = [
    f"<character_1><n>a{i}</n><appearance>blue_hair, red_eyes, long_hair</appearance></character_1>"
    for i in range(40)
]


@pytest.fixture(scope="session", autouse=True)
def cache_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What commands keep between runs is kept apart from what a person has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAKUGA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in Hugging Face layout with random weights, as small as the classes allow."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_model(folder, TINY, seed=0)
    return folder


@pytest.fixture(scope="session")
def words_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a linter reads of a model: tokenizers and habits, without a weight or torch."""
    folder = tmp_path_factory.mktemp("models") / "words"
    write_words(folder, TINY)
    return folder


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with other weights."""
    folder = tmp_path_factory.mktemp("models") / "other"
    write_model(folder, TINY, seed=1)
    return folder


def write_model(folder: Path, spec: ModelSpec, seed: int) -> None:
    """Write a model of random weights; no layer keeps the zeros it starts from."""
    import torch

    from sakuga.checkpoint.save import save_component
    from sakuga.model.nextdit import NextDiT
    from sakuga.model.text import GemmaEncoder, JinaEncoder
    from sakuga.model.vae import VAE

    torch.manual_seed(seed)
    parts = {
        "transformer": (spec.transformer, NextDiT(spec.transformer)),
        "text_encoder": (spec.gemma, GemmaEncoder(spec.gemma)),
        "text_encoder_2": (spec.jina, JinaEncoder(spec.jina)),
        "vae": (spec.vae, VAE(spec.vae)),
    }
    for name, (part, module) in parts.items():
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        save_component(folder / name, part, module.state_dict())
    write_words(folder, spec)


def write_words(folder: Path, spec: ModelSpec) -> None:
    """Write what a model has besides weights."""
    from sakuga.chibi.tokenizer import save_tokenizers, train_tokenizers

    save_tokenizers(folder, *train_tokenizers(CORPUS, 512))
    index = {
        "_class_name": "NewbiePipeline",
        "sakuga": {"name": spec.name, "drawing": asdict(spec.drawing)},
    }
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
