"""The arithmetic against the decode itself, run at the real size on the meta device."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sakuga.memory.activations import (
    decode_flops,
    decode_peak,
    encode_flops,
    encode_peak,
    strip_choices,
)
from sakuga.memory.ledger import Ledger
from sakuga.model.spec import CHIBI, NEWBIE_3_5B, VAESpec
from sakuga.model.vae import VAE

PLAIN = VAESpec(block_out_channels=(64, 64, 128), layers_per_block=1, norm_num_groups=8)


def empty(spec: VAESpec, dtype: torch.dtype) -> VAE:
    with torch.device("meta"):
        return VAE(spec).to(dtype)


def latents(spec: VAESpec, width: int, height: int, dtype: torch.dtype) -> torch.Tensor:
    shape = (1, spec.latent_channels, height // spec.downscale, width // spec.downscale)
    return torch.empty(shape, dtype=dtype, device="meta")


def metered(vae: VAE, given: torch.Tensor, strips: int, recompute: bool) -> int:
    with torch.inference_mode(), Ledger() as ledger:
        vae.decode(given, strips, recompute)
    return ledger.peak


@pytest.mark.parametrize(
    ("spec", "width", "height", "dtype", "modes"),
    [
        (NEWBIE_3_5B.vae, 1024, 1024, torch.bfloat16, [(1, False), (8, False), (16, True)]),
        (NEWBIE_3_5B.vae, 2048, 2048, torch.bfloat16, [(1, False), (16, False), (8, True)]),
        (NEWBIE_3_5B.vae, 832, 1216, torch.bfloat16, [(3, False), (8, True)]),
        (NEWBIE_3_5B.vae, 1536, 640, torch.float32, [(1, False), (8, False), (8, True)]),
        (CHIBI.vae, 256, 256, torch.bfloat16, [(1, False), (8, False), (16, True)]),
        (CHIBI.vae, 384, 256, torch.float32, [(1, False), (16, False), (8, True)]),
        (PLAIN, 512, 320, torch.float32, [(1, False), (4, False), (8, True), (16, False)]),
        (PLAIN, 512, 320, torch.bfloat16, [(16, True), (8, False)]),
    ],
)
def test_the_predicted_peak_is_at_most_5_percent_over_and_never_under(
    spec, width, height, dtype, modes
) -> None:
    vae, given = empty(spec, dtype), latents(spec, width, height, dtype)
    for strips, recompute in modes:
        peak = metered(vae, given, strips, recompute)
        predicted = decode_peak(spec, width, height, dtype.itemsize, strips, recompute)
        assert peak <= predicted <= 1.05 * peak, (strips, recompute)


@pytest.mark.parametrize(
    ("side", "strips", "recompute", "gib"),
    [
        (1024, 1, False, 2.5076),
        (1024, 8, False, 0.8566),
        (1024, 16, False, 0.7496),
        (1024, 8, True, 0.6397),
        (1024, 16, True, 0.5155),
        (2048, 1, False, 9.6364),
        (2048, 8, False, 3.0198),
        (2048, 16, False, 2.5823),
        (2048, 32, False, 2.3635),
        (2048, 16, True, 1.6511),
        (2048, 32, True, 1.4016),
    ],
)
def test_with_copies_counted_it_is_what_an_h200_took(side, strips, recompute, gib) -> None:
    """The figures are those of docs/memory.md: bfloat16, torch 2.11."""
    weights = sum(p.nbytes for p in empty(NEWBIE_3_5B.vae, torch.bfloat16).decoder.parameters())
    libraries = 40 * 2**20  # cuBLAS's workspace and 8 MiB more
    peak = decode_peak(NEWBIE_3_5B.vae, side, side, 2, strips, recompute, copied=True)
    assert (weights + libraries + peak) / 2**30 == pytest.approx(gib, rel=0.01)


@pytest.mark.parametrize(
    ("side", "strips", "recompute", "goal"),
    [(1024, 16, False, 0.8), (1024, 16, True, 0.6), (2048, 8, False, 3.2), (2048, 32, True, 1.6)],
)
def test_the_goals_are_met_with_the_decoder_on_the_card(side, strips, recompute, goal) -> None:
    vae = empty(NEWBIE_3_5B.vae, torch.bfloat16)
    weights = sum(parameter.nbytes for parameter in vae.decoder.parameters())
    given = latents(vae.spec, side, side, torch.bfloat16)
    assert metered(vae, given, strips, recompute) + weights <= goal * 2**30


@pytest.mark.parametrize(("strips", "recompute"), [(1, False), (8, False), (8, True)])
def test_operations_are_those_that_torch_counts(strips, recompute) -> None:
    spec = CHIBI.vae
    vae = empty(spec, torch.float32)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        vae.decode(latents(spec, 256, 192, torch.float32), strips, recompute)
    counted = counter.get_total_flops()
    assert decode_flops(spec, 256, 192, strips, recompute) == pytest.approx(counted, rel=0.002)


def test_more_strips_never_take_more() -> None:
    for recompute in (False, True):
        peaks = [decode_peak(NEWBIE_3_5B.vae, 1024, 1024, 2, n, recompute) for n in (8, 16, 32, 64)]
        assert peaks == sorted(peaks, reverse=True)


def test_choices_keep_strips_of_16_rows() -> None:
    assert strip_choices(256) == ((1, False), (8, False), (16, False), (8, True), (16, True))
    assert strip_choices(128)[1:] == ((8, False), (8, True))
    assert len(strip_choices(2048)) == 9


@pytest.mark.parametrize(
    ("spec", "width", "height", "dtype"),
    [
        (NEWBIE_3_5B.vae, 1024, 1024, torch.bfloat16),
        (NEWBIE_3_5B.vae, 832, 1216, torch.float32),
        (CHIBI.vae, 384, 256, torch.bfloat16),
        (CHIBI.vae, 256, 256, torch.float32),
        (PLAIN, 512, 320, torch.float32),
    ],
)
def test_the_predicted_peak_of_encoding_is_at_most_5_percent_over(
    spec, width, height, dtype
) -> None:
    vae = empty(spec, dtype)
    for strips, recompute in strip_choices(height):
        with torch.inference_mode(), Ledger() as ledger:
            image = torch.empty((1, 3, height, width), dtype=dtype, device="meta")
            vae.encode(image, strips, recompute)
        predicted = encode_peak(spec, width, height, dtype.itemsize, strips, recompute)
        assert ledger.peak <= predicted <= 1.05 * ledger.peak, (strips, recompute)


@pytest.mark.parametrize(("side", "share"), [(1024, 0.3), (2048, 0.3)])
def test_in_strips_the_real_encoder_takes_a_third_of_the_whole(side, share) -> None:
    whole = encode_peak(NEWBIE_3_5B.vae, side, side, 2, 1, False)
    assert encode_peak(NEWBIE_3_5B.vae, side, side, 2, 16, True) < share * whole


@pytest.mark.parametrize(("strips", "recompute"), [(1, False), (8, False), (8, True)])
@pytest.mark.parametrize("spec", [CHIBI.vae, NEWBIE_3_5B.vae], ids=["one layer", "two"])
def test_operations_of_encoding_are_those_that_torch_counts(spec, strips, recompute) -> None:
    vae = empty(spec, torch.float32)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        vae.encode(torch.empty((1, 3, 256, 192), device="meta"), strips, recompute)
    counted = counter.get_total_flops()
    assert encode_flops(spec, 192, 256, strips, recompute) == pytest.approx(counted, rel=0.002)
