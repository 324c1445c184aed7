"""Any component, written in any layout and back, is what it was, bit for bit."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from effort import examples
from sakuga.checkpoint.bind import read_piece
from sakuga.checkpoint.convert import GOALS
from sakuga.checkpoint.families.match import rewrite
from sakuga.checkpoint.folder import open_component
from sakuga.checkpoint.save import save_component
from sakuga.commands.convert import convert
from sakuga.model.inventory import weights_of
from sakuga.model.spec import GemmaSpec, JinaSpec, NextDiTSpec, VAESpec

FEW = st.integers(1, 3)


@st.composite
def small_specs(draw: st.DrawFn) -> NextDiTSpec | GemmaSpec | JinaSpec | VAESpec:
    heads, groups, layers, size = draw(FEW), draw(FEW), draw(st.integers(2, 3)), draw(FEW)
    axes = (2 * draw(FEW), 2 * draw(FEW), 2)
    kind = draw(st.sampled_from(("transformer", "gemma", "jina", "vae")))
    if kind == "transformer":
        return NextDiTSpec(
            dim=sum(axes) * heads * groups, n_layers=layers, n_refiner_layers=draw(FEW),
            n_heads=heads * groups, n_kv_heads=heads, axes_dims=axes, cap_feat_dim=4 * size,
            clip_text_dim=draw(st.integers(1, 20)), multiple_of=8, in_channels=size,
        )  # fmt: skip
    if kind == "gemma":
        return GemmaSpec(
            vocab_size=8, hidden_size=heads * groups * size, intermediate_size=7,
            num_hidden_layers=layers, num_attention_heads=heads * groups,
            num_key_value_heads=heads, head_dim=axes[0], query_pre_attn_scalar=5,
            sliding_window=3, full_attention_layers=(1,), max_position_embeddings=16,
        )  # fmt: skip
    if kind == "jina":
        return JinaSpec(
            vocab_size=8, hidden_size=heads * axes[0], intermediate_size=5,
            num_hidden_layers=layers, num_attention_heads=heads, max_position_embeddings=16,
        )  # fmt: skip
    return VAESpec(
        block_out_channels=tuple(groups * draw(FEW) for _ in range(heads)),
        layers_per_block=draw(FEW), norm_num_groups=groups, latent_channels=size,
    )  # fmt: skip


def tensors_at(place: Path) -> tuple[Any, dict[str, Tensor]]:
    """The spec of a component and its tensors by our names, as stored."""
    part = open_component(place)
    made, left = rewrite(part.match, part.store.shapes())
    assert left == ()
    return part.spec, {
        piece.target: read_piece(part.store, piece, {}, torch.float32) for piece in made
    }


@settings(max_examples=examples(20), deadline=None)  # files are written and synced
@given(small_specs(), st.lists(st.sampled_from(sorted(GOALS)), min_size=1, max_size=3), st.data())
def test_there_and_back_is_the_identity(spec: Any, layouts: list[str], data: st.DataObject) -> None:
    torch.manual_seed(data.draw(st.integers(0, 99)))
    state = {weight.key: torch.randn(weight.shape) for weight in weights_of(spec)}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "start"
        save_component(place, spec, state)
        for step, layout in enumerate((*layouts, "diffusers")):
            name = data.draw(st.sampled_from((f"{step}", f"{step}.safetensors")))
            assert len(list(convert(place, Path(folder) / name, layout))) == 1
            place = Path(folder) / name
            read, tensors = tensors_at(place)
            assert read == spec
            assert tensors.keys() == state.keys()
            assert all(torch.equal(tensors[key], state[key]) for key in state)
