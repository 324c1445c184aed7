from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from tiny import TINY, TINY_KIN

from sakuga.checkpoint.catalog import EMBEDDED_FOLDER
from sakuga.checkpoint.folder import open_checkpoint, read_inventory
from sakuga.model.inventory import inventory_of
from sakuga.model.nextdit import NextDiT
from sakuga.model.spec import CHIBI, LUMINA_2, NEWBIE_3_5B
from sakuga.model.text import GemmaEncoder, JinaEncoder
from sakuga.model.vae import VAE

PUBLISHED = Path(__file__).parents[1] / "golden" / "inventory"


@pytest.mark.parametrize(
    "spec", [TINY, TINY_KIN, CHIBI, LUMINA_2, NEWBIE_3_5B], ids=lambda spec: spec.name
)
def test_every_tensor_of_every_network_has_exactly_one_place(spec):
    inventory = inventory_of(spec)
    with torch.device("meta"):
        modules = {
            "gemma": GemmaEncoder(spec.gemma).model,
            "transformer": NextDiT(spec.transformer),
            "vae": VAE(spec.vae),
        }
        if spec.jina:
            modules["jina"] = JinaEncoder(spec.jina).model
    assert (inventory.jina is None) == (spec.jina is None)
    for name, module in modules.items():
        placed = [(weight.key, weight.shape) for weight in getattr(inventory, name)]
        assert max(Counter(key for key, _ in placed).values()) == 1
        assert dict(placed) == {k: tuple(v.shape) for k, v in module.state_dict().items()}


def test_the_real_transformer_is_the_published_one():
    published = json.loads((PUBLISHED / "nextdit_original.json").read_text())["tensors"]
    placed = {w.key: list(w.shape) for w in inventory_of(NEWBIE_3_5B).transformer}
    assert placed == {k: v for k, v in published.items() if k != "norm_final.weight"}


def test_a_checkpoint_tells_how_each_weight_is_stored():
    opened = read_inventory(open_checkpoint(EMBEDDED_FOLDER))
    stored = {weight.key: weight.stored.name for weight in opened.transformer}
    assert stored["layers.0.feed_forward.w1.weight"] == "int8"
    assert stored["layers.0.ffn_norm1.weight"] in ("float32", "float16", "bfloat16")
    assert {w.key for w in opened.gemma} == {w.key for w in inventory_of(CHIBI).gemma}
