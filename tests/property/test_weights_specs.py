"""A spec written as a config reads back as the same spec."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sakuga.checkpoint.families.family import read_spec
from sakuga.checkpoint.families.tables import FAMILIES, config_of
from sakuga.errors import SpecMismatch
from sakuga.model.spec import NEWBIE_3_5B, GemmaSpec, JinaSpec, NextDiTSpec, VAESpec

SMALL = st.integers(1, 64)
RATIO = st.integers(1, 4)
EPS = st.floats(1e-9, 1e-3)
BASE = st.floats(2, 1e7)


@st.composite
def specs(draw: st.DrawFn) -> NextDiTSpec | GemmaSpec | JinaSpec | VAESpec:
    heads, groups, layers = draw(RATIO), draw(RATIO), draw(st.integers(2, 9))
    axes = (2 * draw(SMALL), 2 * draw(SMALL), 2 * draw(SMALL))
    full = draw(st.sets(st.integers(0, layers - 1)))
    return draw(
        st.sampled_from(
            (
                NextDiTSpec(
                    dim=sum(axes) * heads * groups,
                    n_layers=layers,
                    n_refiner_layers=draw(RATIO),
                    n_heads=heads * groups,
                    n_kv_heads=heads,
                    axes_dims=axes,
                    cap_feat_dim=draw(SMALL),
                    clip_text_dim=draw(SMALL),
                    multiple_of=draw(SMALL),
                    in_channels=draw(SMALL),
                    patch_size=draw(RATIO),
                    norm_eps=draw(EPS),
                    rope_theta=draw(BASE),
                ),
                GemmaSpec(
                    vocab_size=draw(SMALL) + 2,
                    hidden_size=heads * groups * draw(SMALL),
                    intermediate_size=draw(SMALL),
                    num_hidden_layers=layers,
                    num_attention_heads=heads * groups,
                    num_key_value_heads=heads,
                    head_dim=axes[0],
                    query_pre_attn_scalar=draw(SMALL),
                    sliding_window=draw(SMALL),
                    full_attention_layers=tuple(sorted(full)),
                    max_position_embeddings=draw(SMALL),
                    rope_theta=draw(BASE),
                    rope_local_theta=draw(BASE),
                    rope_linear_factor=draw(st.floats(0.5, 16)),
                    rms_norm_eps=draw(EPS),
                    trained_tokens=draw(SMALL),
                ),
                JinaSpec(
                    vocab_size=draw(SMALL) + 2,
                    hidden_size=heads * axes[0],
                    intermediate_size=draw(SMALL),
                    num_hidden_layers=layers,
                    num_attention_heads=heads,
                    max_position_embeddings=draw(SMALL),
                    rotary_emb_base=draw(BASE),
                    layer_norm_eps=draw(EPS),
                ),
                VAESpec(
                    block_out_channels=tuple(groups * draw(RATIO) for _ in range(heads)),
                    layers_per_block=draw(RATIO),
                    norm_num_groups=groups,
                    latent_channels=draw(SMALL),
                    in_channels=draw(SMALL),
                    scaling_factor=draw(st.floats(0.01, 10)),
                    shift_factor=draw(st.floats(-10, 10)),
                ),
            )
        )
    )


@given(specs())
def test_written_configs_read_back(spec: Any) -> None:
    family = next(family for family in FAMILIES.values() if family.spec is type(spec))
    config = json.loads(json.dumps(config_of(spec)))
    assert read_spec(family, config, "config.json", {}, "nothing") == spec


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(st.sampled_from(sorted(FAMILIES)), st.data())
def test_any_value_is_read_or_refused(component: str, data: st.DataObject) -> None:
    parts = (NEWBIE_3_5B.transformer, NEWBIE_3_5B.gemma, NEWBIE_3_5B.jina, NEWBIE_3_5B.vae)
    config = config_of(dict(zip(FAMILIES, parts, strict=True))[component])  # type: ignore[arg-type]
    for name in data.draw(st.sets(st.sampled_from(sorted(config)), min_size=1, max_size=3)):
        config[name] = data.draw(JSON)
    try:
        spec = read_spec(FAMILIES[component], config, "config.json", {}, "nothing")
    except SpecMismatch:
        return
    assert config_of(spec)
