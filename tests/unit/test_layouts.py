"""Key sets tell their layout; every key of the real files is explained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sakuga.errors import LayoutError
from sakuga.weights.layouts import (
    GEMMA,
    JINA_SINGLE_FILE,
    JINA_TRANSFORMERS,
    LAYOUTS,
    NEXTDIT_ORIGINAL,
    VAE_DIFFUSERS,
    Layout,
    Match,
    Piece,
    detect,
    explain,
    nearest,
    rewrite,
)

INVENTORY = Path(__file__).parents[1] / "golden" / "inventory"
FILES = {
    "nextdit_original": NEXTDIT_ORIGINAL,
    "gemma_3_4b_it": GEMMA,
    "jina_text_comfyui": JINA_SINGLE_FILE,
    "flux_ae_diffusers": VAE_DIFFUSERS,
}


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    tensors = json.loads((INVENTORY / f"{name}.json").read_text())["tensors"]
    return {key: tuple(shape) for key, shape in tensors.items()}


@pytest.mark.parametrize("name", FILES)
def test_real_files_are_recognised(name: str) -> None:
    match = detect(shapes(name))
    assert match.layout is FILES[name]
    assert match == detect(shapes(name), FILES[name].component)


@pytest.mark.parametrize("name", FILES)
def test_every_real_key_has_a_rule_or_a_reason(name: str) -> None:
    found = shapes(name)
    match = detect(found)
    wanted = {piece.target: piece.shape for piece in rewrite(match, found)[0]}
    told = explain(match, found, wanted)
    assert told.complete
    explained = {key for piece in told.pieces for key in piece.sources} | {
        k for k, _ in told.dropped
    }
    assert explained == set(found)


def bare(name: str, prefix: str) -> dict[str, tuple[int, ...]]:
    return {
        key.removeprefix(prefix): shape
        for key, shape in shapes(name).items()
        if key.startswith(prefix)
    }


@pytest.mark.parametrize("prefix", GEMMA.prefixes)
def test_gemma_under_every_published_prefix(prefix: str) -> None:
    text = bare("gemma_3_4b_it", "language_model.model.")
    found = {prefix + key: shape for key, shape in text.items()} | {"spiece_model": (9,)}
    match = detect(found)
    assert match == Match(GEMMA, prefix)
    wanted = {k: s for k, s in text.items() if not k.startswith(("layers.33.", "norm."))}
    told = explain(match, found, wanted)
    assert told.complete
    assert {key for key, _ in told.dropped} == set(found) - {prefix + key for key in wanted}


def test_only_the_layer_after_the_last_may_be_spare() -> None:
    text = bare("gemma_3_4b_it", "language_model.model.")
    wanted = {k: s for k, s in text.items() if not k.startswith(("layers.33.", "layers.32."))}
    told = explain(Match(GEMMA), text, wanted)
    assert not told.complete
    assert {key.split(".")[1] for key in told.unexpected} == {"33"}


def test_the_prefix_of_the_node_graph_program() -> None:
    found = {"model.diffusion_model." + k: s for k, s in shapes("nextdit_original").items()}
    match = detect(found)
    assert match == Match(NEXTDIT_ORIGINAL, "model.diffusion_model.")
    wanted = {k: s for k, s in shapes("nextdit_original").items() if k != "norm_final.weight"}
    told = explain(match, found, wanted)
    assert told.complete
    assert dict(told.dropped) == {
        "model.diffusion_model.norm_final.weight": "stored by the original, read by nothing"
    }


def test_fused_rows_are_split_by_what_the_model_wants() -> None:
    found = {"model.encoder.layers.0.mixer.Wqkv.weight": (10, 4)}
    wanted = {
        f"layers.0.self_attn.{n}_proj.weight": (rows, 4)
        for n, rows in zip("qkv", (6, 2, 2), strict=True)
    }
    told = explain(Match(JINA_SINGLE_FILE, "model."), found, wanted)
    assert told.complete
    assert [piece.rows for piece in told.pieces] == [(0, 6), (6, 8), (8, 10)]


def test_the_inverse_joins_what_the_rule_splits() -> None:
    ours = {f"layers.3.self_attn.{n}_proj.bias": (4,) for n in "qkv"}
    pieces, left = rewrite(Match(JINA_SINGLE_FILE.inverse), ours)
    assert left == ()
    assert pieces == (Piece("encoder.layers.3.mixer.Wqkv.bias", tuple(ours), (12,)),)
    ours.popitem()
    assert rewrite(Match(JINA_SINGLE_FILE.inverse), ours) == ((), tuple(ours))


def test_parts_that_do_not_fit_together_are_a_wrong_shape() -> None:
    ours = {
        f"layers.3.self_attn.{n}_proj.weight": (4, width)
        for n, width in zip("qkv", (4, 5, 4), strict=True)
    }
    match = Match(JINA_SINGLE_FILE.inverse)
    told = explain(match, ours, {"encoder.layers.3.mixer.Wqkv.weight": (12, 4)})
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
    told = explain(match, found, wanted)
    assert told.missing == ("decoder.conv_out.bias",)
    assert told.unexpected == ("surprise", "encoder.conv_out.bias")
    assert told.wrong == (("decoder.conv_in.bias", (8,), (9,)),)
    assert not told.complete


def test_a_strange_file_is_told_the_nearest_layout_and_its_odd_keys() -> None:
    found = shapes("nextdit_original")
    del found["clip_text_pooled_proj.0.weight"]
    found["control.weight"] = (3,)
    with pytest.raises(LayoutError) as caught:
        detect(found)
    assert NEXTDIT_ORIGINAL.name in str(caught.value)
    assert "'clip_text_pooled_proj.0.weight'" in caught.value.got
    assert "'control.weight'" in caught.value.got


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
def test_rules_read_in_both_directions(layout: Layout) -> None:
    assert layout.inverse.inverse.rules == layout.rules
    theirs = [pattern for rule in layout.rules for pattern in rule.theirs]
    ours = [pattern for rule in layout.rules for pattern in rule.ours]
    assert len(set(theirs)) == len(theirs)
    assert len(set(ours)) == len(ours)
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
