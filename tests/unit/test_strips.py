from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from effort import examples
from sakuga.checkpoint.catalog import EMBEDDED_FOLDER
from sakuga.checkpoint.folder import open_checkpoint
from sakuga.engine.networks import Networks
from sakuga.model.coders import Downsample
from sakuga.model.spec import VAESpec
from sakuga.model.vae import VAE, Convolved, Stored

SPEC = VAESpec(
    block_out_channels=(8, 16, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4
)
SPECS = {
    "widths that change": SPEC,
    "no shortcut at the full size": replace(SPEC, block_out_channels=(8, 8), layers_per_block=2),
    "one scale": replace(SPEC, block_out_channels=(8,)),
}
MODES = pytest.mark.parametrize("recompute", [False, True], ids=["bands", "recompute"])


def random_vae(spec: VAESpec) -> VAE:
    torch.manual_seed(0)
    vae = VAE(spec).eval().requires_grad_(False)
    for name, parameter in vae.named_parameters():
        if "norm" in name:  # ones and zeros would hide a mistake
            parameter.add_(torch.randn_like(parameter) / 3)
    return vae


VAES = {name: random_vae(spec) for name, spec in SPECS.items()}


@pytest.fixture(scope="module")
def chibi() -> VAE:
    return Networks(open_checkpoint(EMBEDDED_FOLDER), "float32")["vae"]


def error(found: Tensor, expected: Tensor) -> float:
    """Largest difference, as a share of the root mean square."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.square().mean().sqrt())


@settings(deadline=None, max_examples=examples(40))
@given(
    kind=st.sampled_from(list(VAES)),
    height=st.integers(1, 13),
    width=st.integers(1, 5),
    strips=st.integers(2, 60),
    recompute=st.booleans(),
)
def test_strips_change_nothing_but_rounding(kind, height, width, strips, recompute) -> None:
    vae = VAES[kind]
    torch.manual_seed(height * 64 + width)
    latents = torch.randn(2, 4, height, width)
    assert error(vae.decode(latents, strips, recompute), vae.decode(latents)) < 3e-5
    image = torch.randn(2, 3, height * vae.spec.downscale, width * vae.spec.downscale)
    assert error(vae.encode(image, strips, recompute), vae.encode(image)) < 3e-5


@MODES
def test_in_double_precision_they_agree_to_its_rounding(recompute) -> None:
    vae = random_vae(SPEC).double()
    latents = torch.randn(1, 4, 12, 5, dtype=torch.float64)
    assert error(vae.decode(latents, 5, recompute), vae.decode(latents)) < 1e-13


@MODES
def test_bfloat16_strips_are_as_near_the_truth_as_the_whole(recompute) -> None:
    vae = random_vae(SPEC)
    latents = torch.randn(1, 4, 12, 10).bfloat16()
    truth = vae.decode(latents.float())
    vae.bfloat16()
    whole = (vae.decode(latents).float() - truth).square().mean().sqrt()
    strips = (vae.decode(latents, 4, recompute).float() - truth).square().mean().sqrt()
    assert strips < 1.1 * whole


@MODES
@pytest.mark.parametrize("size", [(32, 32), (14, 20)], ids=["square", "wide"])
def test_the_embedded_model_draws_the_same_pixels(chibi, recompute, size) -> None:
    torch.manual_seed(1)
    with torch.inference_mode():
        latents = torch.randn(1, 16, *size)
        whole = pixels(chibi.decode(latents))
        for strips in (8,) if size == (32, 32) else range(2, 9):
            difference = (pixels(chibi.decode(latents, strips, recompute)) - whole).abs()
            assert difference.max() <= 1
            assert (difference == 0).float().mean() >= 0.999


def pixels(image: Tensor) -> Tensor:
    return ((image.clamp(-1, 1) + 1) * 127.5).round().int()


@settings(deadline=None, max_examples=examples(40))
@given(
    cuts=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    down=st.booleans(),
    width=st.integers(2, 5),
)
def test_a_convolution_cares_not_where_bands_end(cuts, down, width) -> None:
    conv = Downsample(2).conv if down else nn.Conv2d(2, 2, 3, padding=1)
    whole = torch.randn(1, 2, sum(cuts) + down, width)
    cuts = [*cuts[:-1], cuts[-1] + down]  # a single row cannot be halved
    found = torch.cat(list(Convolved(conv, iter(whole.split(cuts, dim=2)), sum(cuts))), dim=2)
    padded = nn.functional.pad(whole, (0, 1, 0, 1)) if down else whole
    torch.testing.assert_close(found, conv(padded), atol=1e-6, rtol=1e-5)


def test_adding_writes_into_the_stored_bands_wherever_the_others_end() -> None:
    rows = torch.arange(7.0).view(1, 1, 7, 1)
    stored = Stored(band.clone() for band in rows.split([3, 1, 3], dim=2))
    stored.add(iter(rows.split([1, 4, 2], dim=2)))
    assert torch.cat(list(stored.bands()), dim=2).flatten().tolist() == [0, 2, 4, 6, 8, 10, 12]


def test_freeing_forgets_a_band_as_it_is_handed_over() -> None:
    stored = Stored(torch.ones(3, 1, 1, 2, 1).unbind())
    assert stored.height == 6
    stream = stored.bands(free=True)
    next(stream)
    assert stored.height == 4


def test_one_strip_is_the_whole(chibi) -> None:
    latents = torch.randn(1, 16, 4, 4)
    with torch.inference_mode():
        assert torch.equal(chibi.decode(latents, 1, True), chibi.decode(latents))
