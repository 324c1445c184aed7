"""An adapter as it is named: everything means one thing, or is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sakuga.adapters.spec import AdapterSpec, BlockFactor, parse_adapter, parse_adapters
from sakuga.errors import RequestError


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("style", AdapterSpec(Path("style"))),
        ("a/b c.safetensors", AdapterSpec(Path("a/b c.safetensors"))),
        ("style:0.8", AdapterSpec(Path("style"), 0.8)),
        ("style:-1.5", AdapterSpec(Path("style"), -1.5)),
        ("style:1:alpha=4", AdapterSpec(Path("style"), 1.0, 4.0)),
        ("style:alpha=4", AdapterSpec(Path("style"), 1.0, 4.0)),
        (r"C:\loras\style.safetensors:2", AdapterSpec(Path(r"C:\loras\style.safetensors"), 2.0)),
        (
            "style:0.8:layers.0-11=0.5:final_layer=0",
            AdapterSpec(
                Path("style"), 0.8, None,
                (BlockFactor("layers.0-11", 0.5), BlockFactor("final_layer", 0.0)),
            ),
        ),
    ],
)  # fmt: skip
def test_a_spec_is_read(text: str, spec: AdapterSpec) -> None:
    assert parse_adapter(text) == spec
    assert parse_adapter(str(spec)) == spec


@pytest.mark.parametrize(
    "text",
    [
        "", ":0.5", "style:", "style:strong", "style:nan", "style:inf", "style:1e9",
        "style:0.5:0.5", "style:1:alpha=", "style:1:alpha=0", "style:1:alpha=-4",
        "style:1:alpha=many", "style:1:layers.11-0=1", "style:1:layers..1=1", "style:1:=1",
        "style:1:layers.*x=1", "style:1:layers=", "style:1:layers", "a\0b", "style" + ":a=1" * 65,
    ],
)  # fmt: skip
def test_a_slip_of_the_pen_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(RequestError, match=r"FILE\[:STRENGTH\]"):
        parse_adapter(text)


@pytest.mark.parametrize(
    ("blocks", "covered", "not_covered"),
    [
        ("layers", ["layers.0", "layers.35.attention.qkv"], ["layers", "noise_refiner.0"][1:]),
        ("layers.0-11", ["layers.0.x", "layers.11.x"], ["layers.12.x", "layers", "layers.x"]),
        ("layers.5", ["layers.5.attention.qkv"], ["layers.50.attention.qkv", "layers.15.x"]),
        ("*.*.attention", ["layers.3.attention.out"], ["layers.3.feed_forward.w1", "x.y"]),
        ("layers.1.attention.qkv", ["layers.1.attention.qkv"], ["layers.1.attention.out"]),
    ],
)
def test_blocks_cover_the_modules_whose_names_begin_so(
    blocks: str, covered: list[str], not_covered: list[str]
) -> None:
    factor = BlockFactor(blocks, 0.5)
    assert all(map(factor.covers, covered))
    assert not any(map(factor.covers, not_covered))


def test_factors_multiply_the_strength_and_the_last_one_counts() -> None:
    spec = parse_adapter("style:0.8:layers=0:layers.30-35=0.5")
    assert spec.strength_of("noise_refiner.0.attention.qkv") == 0.8
    assert spec.strength_of("layers.29.attention.qkv") == 0
    assert spec.strength_of("layers.30.attention.qkv") == 0.4


def test_several_keep_their_order() -> None:
    assert [str(spec.path) for spec in parse_adapters(["b:1", "a"])] == ["b", "a"]
