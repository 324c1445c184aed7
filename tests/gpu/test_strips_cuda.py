"""Strips on a card: the same picture, within the memory that they are for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sakuga.checkpoint.catalog import EMBEDDED_FOLDER
from sakuga.checkpoint.folder import open_checkpoint
from sakuga.engine.networks import Networks
from sakuga.model.coders import Decoder
from sakuga.model.spec import NEWBIE_3_5B
from sakuga.model.vae import VAE

GIB = 2**30


@pytest.fixture(scope="module")
def real() -> VAE:
    """Of the real size with random weights, without its encoder."""
    torch.manual_seed(0)
    with torch.device("meta"):
        vae = VAE(NEWBIE_3_5B.vae)
    del vae.encoder
    with torch.device("cuda"):
        vae.decoder = Decoder(NEWBIE_3_5B.vae)
    return vae.bfloat16().eval()


def pixels(image: Tensor) -> Tensor:
    return ((image.float().clamp(-1, 1) + 1) * 127.5).round()


@pytest.mark.parametrize("recompute", [False, True], ids=["bands", "recompute"])
@pytest.mark.parametrize("strips", [2, 16, 40])
def test_float32_strips_give_the_pixels_of_the_whole(strips, recompute) -> None:
    vae = Networks(open_checkpoint(EMBEDDED_FOLDER), "float32")["vae"].cuda()
    latents = torch.randn(2, 16, 40, 24, device="cuda")
    # torch convolves float32 with the 10 bits of TF32 unless told not to, and those show
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with torch.inference_mode(), exact:
        whole = pixels(vae.decode(latents))
        difference = (pixels(vae.decode(latents, strips, recompute)) - whole).abs()
    assert difference.max() <= 1
    assert (difference == 0).float().mean() >= 0.999


@pytest.mark.parametrize(
    ("side", "strips", "recompute", "goal"),
    [(1024, 16, False, 0.8), (1024, 16, True, 0.6), (2048, 16, False, 3.2), (2048, 32, True, 1.6)],
)
def test_a_picture_is_decoded_within_the_goal(real, side, strips, recompute, goal) -> None:
    latents = torch.randn(1, 16, side // 8, side // 8, device="cuda", dtype=torch.bfloat16)
    with torch.inference_mode():
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        weights = sum(parameter.nbytes for parameter in real.decoder.parameters())
        torch.cuda.reset_peak_memory_stats()
        assert real.decode(latents, strips, recompute).isfinite().all()
        peak = torch.cuda.max_memory_allocated() - before + weights
    assert peak <= goal * GIB
