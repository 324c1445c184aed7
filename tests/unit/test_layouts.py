"""Key sets tell their layout; every key of the real files is explained."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sakuga.checkpoint.families.detect import detect, nearest, recognise
from sakuga.checkpoint.families.gemma import GEMMA_TRANSFORMERS
from sakuga.checkpoint.families.jina import JINA_OFFICIAL, JINA_SINGLE_FILE, JINA_TRANSFORMERS
from sakuga.checkpoint.families.layout import KeyLayout
from sakuga.checkpoint.families.match import (
    BakedAdapter,
    Explanation,
    Match,
    TensorPiece,
    explain,
    rewrite,
)
from sakuga.checkpoint.families.nextdit import NEXTDIT_DIFFUSERS, NEXTDIT_ORIGINAL
from sakuga.checkpoint.families.tables import LAYOUTS
from sakuga.checkpoint.families.vae import VAE_BFL, VAE_DIFFUSERS
from sakuga.errors import LayoutError

INVENTORY = Path(__file__).parents[1] / "golden" / "inventory"
FILES = {
    "nextdit_original": NEXTDIT_ORIGINAL,
    "nextdit_diffusers": NEXTDIT_DIFFUSERS,
    "lumina2_diffusers": NEXTDIT_DIFFUSERS,
    "gemma_3_4b_it": GEMMA_TRANSFORMERS,
    "gemma_2_2b": GEMMA_TRANSFORMERS,
    "jina_text_comfyui": JINA_SINGLE_FILE,
    "jina_text_official": JINA_OFFICIAL,
    "flux_ae_diffusers": VAE_DIFFUSERS,
    "flux_ae_bfl": VAE_BFL,
}


def published(name: str) -> dict[str, Any]:
    return dict(json.loads((INVENTORY / f"{name}.json").read_text()))


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for key, shape in published(name)["tensors"].items()}


def account(
    match: Match, found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]
) -> Explanation:
    """Every key of a file against what a model wants, whose rows its splits follow."""
    return explain(match, rewrite(match, found, wanted)[0], found, wanted)


@pytest.mark.parametrize("name", FILES)
def test_real_files_are_recognised(name: str) -> None:
    match = detect(shapes(name))
    assert match.layout is FILES[name]
    assert match == detect(shapes(name), FILES[name].component)


@pytest.mark.parametrize("name", FILES)
def test_every_real_key_has_a_rule_or_a_reason(name: str) -> None:
    found = shapes(name)
    match = recognise(found)
    wanted = {piece.target: piece.shape for piece in rewrite(match, found)[0]}
    told = account(match, found, wanted)
    assert told.complete
    explained = {key for piece in told.pieces for key in piece.sources} | {
        k for k, _ in told.dropped
    }
    assert explained == set(found)


def made_of(name: str) -> dict[str, TensorPiece]:
    """What the rules make of a real file, by our names."""
    found = shapes(name)
    return {piece.target: piece for piece in rewrite(recognise(found), found)[0]}


def test_the_diffusers_names_are_those_of_its_own_converter() -> None:
    made = made_of("nextdit_diffusers")
    told = {k: v for k, v in published("nextdit_diffusers")["original_to_diffusers"].items() if v}
    assert made.keys() == told.keys()
    for ours, theirs in told.items():
        parts = [theirs] if isinstance(theirs, str) else [part["key"] for part in theirs]
        assert made[ours].sources == tuple(parts)
        assert made[ours].shape == shapes("nextdit_original")[ours]


def test_the_autoencoder_is_spelled_as_the_diffusers_converter_does() -> None:
    made = made_of("flux_ae_bfl")
    told = published("flux_ae_bfl")["bfl_to_diffusers"]
    assert {piece.sources[0]: ours for ours, piece in made.items()} == told
    assert {ours: piece.shape for ours, piece in made.items()} == shapes("flux_ae_diffusers")


def test_official_jina_becomes_what_the_node_graph_program_reads() -> None:
    single, official = made_of("jina_text_comfyui"), made_of("jina_text_official")
    told = published("jina_text_official")["official_to_comfyui"]
    assert single.keys() == official.keys()
    for ours, piece in official.items():
        assert (told[piece.sources[0]],) == single[ours].sources
        assert (piece.shape, piece.rows) == (single[ours].shape, single[ours].rows)
        assert (piece.adapter is None) == (len(piece.sources) == 1)


def test_heads_are_found_by_shape_under_any_name() -> None:
    names = {
        "clip_text_pooled_proj.0.weight": "pooled_embedder.norm.weight",
        "clip_text_pooled_proj.1.weight": "pooled_embedder.linear.weight",
        "clip_text_pooled_proj.1.bias": "pooled_embedder.linear.bias",
        "time_text_embed.1.weight": "combine.weight",
        "time_text_embed.1.bias": "combine.bias",
    }
    found = {"model." + names.get(k, k): shape for k, shape in shapes("nextdit_diffusers").items()}
    match = recognise(found)
    assert set(match.aliases) == {(theirs, ours) for ours, theirs in names.items()}
    told = account(match, found, {k: p.shape for k, p in made_of("nextdit_diffusers").items()})
    assert told.complete


@pytest.mark.parametrize(
    "change",
    [
        {"clip_text_pooled_proj.0.weight": None, "clip_text_pooled_proj.1.weight": None},
        {"other.0.weight": (1024,)},
        {"time_text_embed.1.bias": (7,)},
    ],
)
def test_heads_that_no_or_several_shapes_explain_are_refused(
    change: dict[str, tuple[int, ...] | None],
) -> None:
    found = {**shapes("nextdit_diffusers"), **change}
    with pytest.raises(LayoutError, match="Lumina 2"):
        recognise({key: shape for key, shape in found.items() if shape is not None})


def test_a_weight_without_its_adapter_is_the_weight() -> None:
    found = shapes("jina_text_official")
    factors = [key for key in found if "lora_" in key]
    bare = {key: shape for key, shape in found.items() if key not in factors}
    match = recognise(bare)
    assert match.layout is JINA_OFFICIAL
    pieces = {piece.target: piece for piece in rewrite(match, bare)[0]}
    assert pieces.keys() == made_of("jina_text_official").keys()
    assert all(piece.adapter is None for piece in pieces.values())
    lacking = found.copy()
    del lacking[factors[0]]
    assert set(rewrite(match, lacking)[1]) == {
        factors[0].replace("0.lora_A", "original"), factors[1],
    }  # fmt: skip


@pytest.mark.parametrize(("factor", "shape"), [
    ("lora_A", (1, 5, 1024)), ("lora_B", (1, 3072, 5)),
    ("lora_B", (3072, 4)), ("lora_A", (2, 4, 1024)),
])  # fmt: skip
def test_an_adapter_that_does_not_fit_is_a_wrong_shape(factor: str, shape: tuple[int, ...]) -> None:
    found = shapes("jina_text_official")
    (key,) = (k for k in found if "layers.3.mixer.Wqkv" in k and k.endswith(factor))
    wanted = {ours: piece.shape for ours, piece in made_of("jina_text_official").items()}
    told = account(recognise(found), found | {key: shape}, wanted)
    names = [f"layers.3.self_attn.{n}_proj.weight" for n in "qkv"]
    assert told.wrong == tuple((name, (), (1024, 1024)) for name in names)


def test_a_file_must_have_the_adapter_that_is_asked_for() -> None:
    found = shapes("jina_text_official")
    wanted = {ours: piece.shape for ours, piece in made_of("jina_text_official").items()}
    match = replace(recognise(found), adapter=BakedAdapter(index=1))
    assert not account(match, found, wanted).complete


def bare(name: str, prefix: str) -> dict[str, tuple[int, ...]]:
    return {
        key.removeprefix(prefix): shape
        for key, shape in shapes(name).items()
        if key.startswith(prefix)
    }


@pytest.mark.parametrize(
    "prefix",
    ["language_model.model.", "model.language_model.", "language_model.", "model.", "",
     "state_dict.model.language_model."],
)  # fmt: skip
def test_gemma_under_every_published_prefix(prefix: str) -> None:
    text = bare("gemma_3_4b_it", "language_model.model.")
    found = {prefix + key: shape for key, shape in text.items()} | {"spiece_model": (9,)}
    match = detect(found)
    assert match == Match(GEMMA_TRANSFORMERS, prefix)
    wanted = {k: s for k, s in text.items() if not k.startswith(("layers.33.", "norm."))}
    told = account(match, found, wanted)
    assert told.complete
    assert {key for key, _ in told.dropped} == set(found) - {prefix + key for key in wanted}


def test_only_the_layer_after_the_last_may_be_spare() -> None:
    text = bare("gemma_3_4b_it", "language_model.model.")
    wanted = {k: s for k, s in text.items() if not k.startswith(("layers.33.", "layers.32."))}
    told = account(Match(GEMMA_TRANSFORMERS), text, wanted)
    assert not told.complete
    assert {key.split(".")[1] for key in told.unexpected} == {"33"}


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "model.", "state_dict."])
def test_the_prefixes_of_other_programs(prefix: str) -> None:
    found = {prefix + k: s for k, s in shapes("nextdit_original").items()}
    match = detect(found)
    assert match == Match(NEXTDIT_ORIGINAL, prefix)
    wanted = {k: s for k, s in shapes("nextdit_original").items() if k != "norm_final.weight"}
    told = account(match, found, wanted)
    assert told.complete
    assert dict(told.dropped) == {
        prefix + "norm_final.weight": "stored by the original, read by nothing"
    }


def test_fused_rows_are_split_by_what_the_model_wants() -> None:
    found = {"model.encoder.layers.0.mixer.Wqkv.weight": (10, 4)}
    wanted = {
        f"layers.0.self_attn.{n}_proj.weight": (rows, 4)
        for n, rows in zip("qkv", (6, 2, 2), strict=True)
    }
    told = account(Match(JINA_SINGLE_FILE, "model."), found, wanted)
    assert told.complete
    assert [piece.rows for piece in told.pieces] == [(0, 6), (6, 8), (8, 10)]


def test_the_inverse_joins_what_the_rule_splits() -> None:
    ours = {f"layers.3.self_attn.{n}_proj.bias": (4,) for n in "qkv"}
    pieces, left = rewrite(Match(JINA_SINGLE_FILE.inverse), ours)
    assert left == ()
    assert pieces == (TensorPiece("encoder.layers.3.mixer.Wqkv.bias", tuple(ours), (12,)),)
    ours.popitem()
    assert rewrite(Match(JINA_SINGLE_FILE.inverse), ours) == ((), tuple(ours))


def test_parts_that_do_not_fit_together_are_a_wrong_shape() -> None:
    ours = {
        f"layers.3.self_attn.{n}_proj.weight": (4, width)
        for n, width in zip("qkv", (4, 5, 4), strict=True)
    }
    match = Match(JINA_SINGLE_FILE.inverse)
    told = account(match, ours, {"encoder.layers.3.mixer.Wqkv.weight": (12, 4)})
    assert told.wrong == (("encoder.layers.3.mixer.Wqkv.weight", (), (12, 4)),)


def test_missing_unexpected_and_wrong_are_told_apart() -> None:
    match = Match(VAE_DIFFUSERS)
    found = {
        "encoder.conv_in.weight": (8, 3, 3, 3),
        "decoder.conv_in.bias": (8,),
        "surprise": (1,),
        "encoder.conv_out.bias": (4,),
    }
    wanted = {
        "encoder.conv_in.weight": (8, 3, 3, 3),
        "decoder.conv_in.bias": (9,),
        "decoder.conv_out.bias": (3,),
    }
    told = account(match, found, wanted)
    assert told.missing == ("decoder.conv_out.bias",)
    assert told.unexpected == ("surprise", "encoder.conv_out.bias")
    assert told.wrong == (("decoder.conv_in.bias", (8,), (9,)),)
    assert not told.complete


def test_a_strange_file_is_told_the_nearest_layout_and_its_odd_keys() -> None:
    found = shapes("nextdit_original")
    del found["noise_refiner.0.attention.k_norm.weight"]
    found["control.weight"] = (3,)
    with pytest.raises(LayoutError) as caught:
        detect(found)
    assert NEXTDIT_ORIGINAL.name in str(caught.value)
    assert "'noise_refiner.0.attention.k_norm.weight'" in caught.value.got
    assert "'control.weight'" in caught.value.got


@pytest.mark.parametrize("prefix", ["_orig_mod.", "net.inner.", "net_"])
@pytest.mark.parametrize("name", FILES)
def test_an_unknown_prefix_is_named_with_the_layout_under_it(name: str, prefix: str) -> None:
    found = {prefix + key: shape for key, shape in shapes(name).items()}
    for component in (None, FILES[name].component):
        with pytest.raises(LayoutError) as caught:
            detect(found, component)
        assert f"nearest is {FILES[name].name!r}" in caught.value.got
        assert caught.value.got.endswith(f"under the unknown prefix {prefix!r}")
        assert caught.value.fix == f"Take {prefix!r} off its names, and save it again."


def test_part_of_a_file_under_an_unknown_prefix() -> None:
    found = ["_orig_mod." + key for key in shapes("flux_ae_bfl") if key.startswith("encoder.")]
    with pytest.raises(LayoutError) as caught:
        detect([*found, "_orig_mod.surprise"])
    assert f"{VAE_BFL.name!r} under the unknown prefix '_orig_mod.'" in caught.value.got
    assert "would need '_orig_mod.decoder.conv_in.weight'" in caught.value.got
    assert "cannot explain '_orig_mod.surprise'" in caught.value.got


def test_a_name_by_chance_brings_no_layout_near() -> None:
    with pytest.raises(LayoutError) as caught:
        detect(["blocks.0.norm.weight", *(f"blocks.{n}.attn.query" for n in range(9))])
    assert "no layout is near" in caught.value.got
    assert "'blocks.0.attn.query'" in caught.value.got


@pytest.mark.parametrize(
    "keys",
    [
        ["base_model.model.layers.0.attention.qkv.lora_A.weight"],
        ["x.lora_B.default.weight", "x.lora_A.default.weight"],
        ["lora_unet_layers_0_attention_qkv.lora_down.weight", "lora_unet_layers_0.alpha"],
        ["transformer.layers.0.attn.to_q.lora.up.weight"],
        ["lycoris_layers_0_attention_qkv.lokr_w1", "lycoris_layers_0_attention_qkv.lokr_w2_a"],
        ["lycoris_layers_0_attention_qkv.hada_w1_a"],
    ],
)
def test_an_adapter_is_told_what_it_is_for(keys: list[str]) -> None:
    with pytest.raises(LayoutError, match="names of an adapter") as caught:
        detect(keys)
    assert repr(min(keys)) in caught.value.got
    assert "sakuga lora show" in caught.value.fix
    assert "--lora" in caught.value.fix
    detect([*shapes("nextdit_original"), *keys])  # an odd key of a model is told of later


@pytest.mark.parametrize("name", ["layers." * 140, "a_" * 480, "layers.0." * 100])
def test_long_names_that_fit_none_are_refused_quickly(name: str) -> None:
    began = time.perf_counter()
    with pytest.raises(LayoutError):
        detect([f"{name}{n}.weight" for n in range(10_000)])
    assert time.perf_counter() - began < 2


def test_two_components_in_one_file_are_refused() -> None:
    with pytest.raises(LayoutError, match="one component"):
        detect(shapes("nextdit_original") | shapes("flux_ae_diffusers"))


def test_another_component_than_asked_for_is_refused() -> None:
    with pytest.raises(LayoutError, match="transformer"):
        detect(shapes("flux_ae_diffusers"), "transformer")


def test_no_keys_fit_nothing() -> None:
    with pytest.raises(LayoutError):
        detect([])


def test_a_hundred_thousand_strange_names_are_refused_quickly() -> None:
    with pytest.raises(LayoutError):
        detect([f"layers.{n}.attention.qkw.weight" for n in range(100_000)])


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_rules_read_in_both_directions(layout: KeyLayout) -> None:
    assert layout.inverse.inverse.rules == layout.rules
    theirs = [pattern for rule in layout.rules for pattern in rule.theirs]
    ours = [pattern for rule in layout.rules for pattern in rule.ours]
    assert len(set(theirs)) == len(theirs)
    assert len(set(ours)) == len(ours)
    assert rewrite(Match(layout), dict.fromkeys(layout.provisional, (1,)))[1] == ()
    assert all(drop.reason for drop in layout.drops)


def test_both_spellings_of_jina_are_told_apart() -> None:
    found = shapes("jina_text_comfyui")
    match = detect(found)
    ours = {piece.target: piece.shape for piece in rewrite(match, found)[0]}
    assert detect(ours).layout is JINA_TRANSFORMERS
    assert detect(["roberta." + key for key in ours]) == Match(JINA_TRANSFORMERS, "roberta.")


def test_nearest_name() -> None:
    assert nearest("layers.0.atention.qkv.weight", ["x", "layers.0.attention.qkv.weight"]) == (
        "layers.0.attention.qkv.weight"
    )
    assert nearest("zzz", ["layers.0.attention.qkv.weight"]) is None
