import pytest
import torch

from sakuga.model.coders import Downsample, ResnetBlock
from sakuga.model.spec import VAESpec
from sakuga.model.vae import VAE

SPEC = VAESpec(
    block_out_channels=(8, 16, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4
)


@pytest.fixture(scope="module")
def vae() -> VAE:
    torch.manual_seed(0)
    return VAE(SPEC).eval()


def test_sizes_shrink_and_grow_by_the_downscale_of_the_spec(vae):
    image = torch.randn(2, 3, 16, 24)
    latents = vae.encode(image)
    assert latents.shape == (2, 4, 16 // SPEC.downscale, 24 // SPEC.downscale)
    assert vae.decode(latents).shape == image.shape


def test_latents_are_scaled_means(vae):
    image = torch.randn(1, 3, 8, 8)
    mean, _ = vae.moments(image)
    torch.testing.assert_close(vae.encode(image), (mean - 0.1159) * 0.3611)
    torch.testing.assert_close(vae.decode((mean - 0.1159) * 0.3611), vae.decoder(mean))


def test_log_variances_stay_where_their_exponential_is_finite(vae):
    wild = VAE(SPEC)
    torch.nn.init.constant_(wild.encoder.conv_out.bias, 1e4)
    _, logvar = wild.moments(torch.randn(1, 3, 8, 8))
    assert logvar.max() == 20.0
    assert logvar.exp().isfinite().all()


def test_downsampling_pads_to_the_right_and_below_only():
    down = Downsample(1)
    torch.nn.init.zeros_(down.conv.bias)
    torch.nn.init.ones_(down.conv.weight)
    corner = torch.zeros(1, 1, 4, 4)
    corner[..., 0, 0] = 1
    assert down(corner).flatten().tolist() == [1, 0, 0, 0]
    assert down(torch.ones(1, 1, 4, 4)).flatten().tolist() == [9, 6, 6, 4]


def test_a_shortcut_is_a_convolution_only_where_the_width_changes():
    assert ResnetBlock(8, 8, 4).conv_shortcut is None
    assert ResnetBlock(8, 16, 4).conv_shortcut.kernel_size == (1, 1)


def test_the_smallest_scale_sees_the_whole_picture(vae):
    image = torch.randn(1, 3, 32, 32)
    moved = image.clone()
    moved[..., -1, -1] += 1
    difference = (vae.encode(moved) - vae.encode(image)).abs()
    assert difference[..., 0, 0].max() > 0


def test_attention_is_the_same_a_few_queries_at_a_time(vae, monkeypatch):
    latents = torch.randn(2, 4, 5, 7)
    whole = vae.decode(latents)
    monkeypatch.setattr("sakuga.model.coders.MOST_SCORES", 100)  # two queries of 35 scores
    torch.testing.assert_close(vae.decode(latents), whole, atol=1e-5, rtol=1e-4)


def test_the_memory_format_changes_nothing_but_speed(vae):
    image = torch.randn(1, 3, 16, 16)
    last = VAE(SPEC).to(memory_format=torch.channels_last)
    last.load_state_dict(vae.state_dict())
    torch.testing.assert_close(
        last.encode(image.to(memory_format=torch.channels_last)),
        vae.encode(image),
        atol=1e-5,
        rtol=1e-4,
    )


def test_every_parameter_learns(vae):
    image = torch.randn(2, 3, 16, 16)
    mean, logvar = vae.moments(image)
    loss = (vae.decoder(mean + logvar.exp()) - image).square().mean()
    still = [
        name
        for (name, parameter), grad in zip(
            vae.named_parameters(), torch.autograd.grad(loss, list(vae.parameters())), strict=True
        )
        # softmax ignores what is common to all keys
        if not grad.any() and "to_k.bias" not in name
    ]
    assert still == []


def test_it_is_built_on_the_meta_device_without_buffers():
    with torch.device("meta"):
        empty = VAE(SPEC)
    assert all(parameter.is_meta for parameter in empty.parameters())
    assert list(empty.buffers()) == []
