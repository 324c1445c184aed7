"""Pixels and latents: the FLUX-style autoencoder, whole or in horizontal strips.

It is without the 1x1 "quant" convolutions of older models.

A feature map at the size of the picture is what makes decoding dear: 256 channels of 2048 x
2048 are 2 GiB. In strips such a map is a stream of bands, some rows each from top to bottom. A
convolution remembers the last rows it has seen, so that every row is computed once and from its
true neighbours. A group norm has the moments of the whole map, from a pass over it before the one
that uses them. So nothing is blended, and strips change a result by its rounding alone.

A map is either `Stored`, band by band, each freed as soon as what follows has read it, or
`Derived` anew from another map at every pass. One picture at a time, for inference only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sakuga.model.coders import (
    Decoder,
    DownBlock,
    Downsample,
    Encoder,
    ResnetBlock,
    UpBlock,
    Upsample,
)
from sakuga.model.spec import VAESpec

Bands = Iterator[Tensor]
M = TypeVar("M", bound=nn.Module)

LOGVAR_RANGE = (-30.0, 20.0)


class Stored:
    """A map as the list of its bands, (1, channels, rows, width) each.

    The list owns its bands: `add` writes into them, and a pass that frees empties it.
    """

    def __init__(self, bands: Iterable[Tensor] = ()) -> None:
        self.list = list(bands)

    @property
    def height(self) -> int:
        """Rows of all bands."""
        return sum(band.shape[2] for band in self.list)

    def bands(self, free: bool = False) -> Bands:
        """Yield from top to bottom; `free`: forget each band as it is handed over."""
        return _popped(self.list) if free else iter(self.list)

    def add(self, stream: Bands) -> None:
        """Add a map of the same shape in place; its bands may end at other rows."""
        place = start = 0
        for band in stream:
            done = 0
            while done < band.shape[2]:
                rest = self.list[place][:, :, start:]
                rows = min(rest.shape[2], band.shape[2] - done)
                rest[:, :, :rows] += band[:, :, done : done + rows]
                done += rows
                place, start = (place + 1, 0) if rows == rest.shape[2] else (place, start + rows)
            del band  # or it would live on while the next one is made


@dataclass(frozen=True, slots=True)
class Derived:
    """A map that is made from another one at every pass."""

    source: Map
    step: Callable[[Bands], Bands]
    height: int

    def bands(self, free: bool = False) -> Bands:
        """Yield from top to bottom; `free`: empty the source on the way."""
        return self.step(self.source.bands(free))


Map = Stored | Derived


class Convolved:
    """A stream of bands through a 3x3 convolution, as one convolution of the whole map.

    Without padding of its own (`Downsample`) it gets one row below and one column to the right.
    An iterator of its own, because a suspended generator would keep its last band alive.
    """

    def __init__(self, conv: nn.Conv2d, stream: Bands, height: int) -> None:
        assert isinstance(conv.padding, tuple)  # torch has words for some paddings too
        self.conv, self.padding = conv, conv.padding
        self.stream = stream
        self.left = height
        self.held: Tensor | None = None

    def __iter__(self) -> Bands:
        return self

    def __next__(self) -> Tensor:
        """Return the rows that the next band completes."""
        stride, padding = self.conv.stride[0], self.padding[1]
        window = self._window()
        while window.shape[2] < 3 and self.left:
            self.held = window
            window = self._window()
        done = (window.shape[2] - 3) // stride + 1
        self.held = window[:, :, done * stride :].clone()
        if not padding:
            window = F.pad(window, (0, 1))
        return F.conv2d(window, self.conv.weight, self.conv.bias, stride, (0, padding))

    def _window(self) -> Tensor:
        """What is held, the next band, and below the map's last row a row of zeros."""
        band = next(self.stream)
        self.left -= band.shape[2]
        if self.held is None:
            self.held = torch.zeros_like(band[:, :, : self.padding[0]])
        below = [] if self.left else [torch.zeros_like(band[:, :, :1])]
        return torch.cat([self.held, band, *below], dim=2)


def decode_in_strips(decoder: Decoder, raw: Tensor, rows: int, recompute: bool) -> Tensor:
    """Map raw latents (1, C, h, w) to an image (1, 3, H, W), as `decoder(raw)` does.

    The smallest scale is run whole; from there on, bands have about `rows` rows at every scale,
    or as many as the smallest has. `recompute`: at the full size one map of the narrowest width
    is stored, and all else is made again for every pass.
    """
    x: Map = _cut(decoder.mid_block(decoder.conv_in(raw)), rows)
    *blocks, last = _all(UpBlock, decoder.up_blocks)
    for block in blocks:
        for resnet in _all(ResnetBlock, block.resnets):
            x = _resnet(resnet, x, recompute=False)
        [up] = _all(Upsample, block.upsamplers)
        x = Derived(x, partial(_upsampled, up.conv, 2 * x.height), 2 * x.height)
        if not (recompute and block is blocks[-1]):
            x = Stored(x.bands(free=True))
    for resnet in _all(ResnetBlock, last.resnets):
        x = _resnet(resnet, x, recompute)
    return _head(decoder, x)


def encode_in_strips(encoder: Encoder, image: Tensor, rows: int, recompute: bool) -> Tensor:
    """Map an image (1, 3, H, W) to moments (1, 2·C, h, w), as `encoder(image)` does.

    `rows`, `recompute`: as in `decode`.
    """
    x = Stored(Convolved(encoder.conv_in, iter(image.split(rows, dim=2)), image.shape[2]))
    for block in _all(DownBlock, encoder.down_blocks):
        for resnet in _all(ResnetBlock, block.resnets):
            x = _resnet(resnet, x, recompute and block is encoder.down_blocks[0])
        for down in _all(Downsample, block.downsamplers):
            x = _cut(_joined(Convolved(down.conv, x.bands(free=True), x.height)), rows)
    return _head(encoder, Stored([encoder.mid_block(_joined(x.bands(free=True)))]))


def _all(kind: type[M], modules: nn.ModuleList) -> Iterator[M]:
    """Go through modules of one kind, which torch's list does not state."""
    for module in modules:
        assert isinstance(module, kind)
        yield module


def _resnet(block: ResnetBlock, x: Map, recompute: bool) -> Stored:
    """Map x, which is freed, through a ResnetBlock; the sum is formed where the shortcut lies."""
    height, out = x.height, Stored()

    def keep(band: Tensor) -> Tensor:
        out.list.append(band if block.conv_shortcut is None else block.conv_shortcut(band))
        return band

    def hidden(stream: Bands) -> Bands:
        return Convolved(block.conv1, map(first, stream), height)

    first = _activation(block.norm1, x.bands())
    if recompute:
        second = _activation(block.norm2, hidden(x.bands()))
        middle = hidden(map(keep, x.bands(free=True)))
    else:
        stored = Stored(hidden(map(keep, x.bands(free=True))))
        second = _activation(block.norm2, stored.bands())
        middle = stored.bands(free=True)
    out.add(Convolved(block.conv2, map(second, middle), height))
    return out


def _head(coder: Encoder | Decoder, x: Map) -> Tensor:
    """Map the last map, which is freed, through the norm and convolution that end a coder."""
    height = x.height
    activation = _activation(coder.conv_norm_out, x.bands())
    stream = map(activation, x.bands(free=True))
    return _joined(Convolved(coder.conv_out, stream, height))


def _upsampled(conv: nn.Conv2d, height: int, stream: Bands) -> Bands:
    """Double the size by repeating pixels, half a band at a time, then smooth."""
    halves = (half for band in stream for half in band.split((band.shape[2] + 1) // 2, dim=2))
    return Convolved(conv, map(partial(F.interpolate, scale_factor=2.0), halves), height)


def _activation(norm: nn.GroupNorm, stream: Bands) -> Callable[[Tensor], Tensor]:
    """Return silu ∘ norm for the bands of one map, whose moments are taken from `stream`.

    Means and variances of bands combine as in Chan, Golub & LeVeque 1979, eq. 2.1: nothing
    large is subtracted. With moments known, a group norm is a batch norm at inference, which
    like it computes in float32 and rounds once.
    """
    moments = map(partial(_moments, norm), stream)
    count, mean, variance = map(torch.stack, zip(*moments, strict=True))
    share = count / count.sum(0)
    center = (share * mean).sum(0)
    spread = (share * (variance + (mean - center).square())).sum(0)
    repeat = norm.num_channels // norm.num_groups
    center, spread = center.repeat_interleave(repeat), spread.repeat_interleave(repeat)
    weight, bias = norm.weight.to(center.dtype), norm.bias.to(center.dtype)

    def activate(band: Tensor) -> Tensor:
        y = F.batch_norm(band, center, spread, weight, bias, training=False, eps=norm.eps)
        return F.silu(y, inplace=True)

    return activate


def _moments(norm: nn.GroupNorm, band: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return values per group, (1,), their mean and variance, (groups,), in float32 or better."""
    precise = torch.promote_types(band.dtype, torch.float32)
    grouped = band.to(precise).reshape(norm.num_groups, -1)
    variance, mean = torch.var_mean(grouped, dim=1, correction=0)
    return mean.new_full((1,), grouped.shape[1]), mean, variance


def _cut(x: Tensor, rows: int) -> Stored:
    """Store a map of a small size."""
    return Stored(band.contiguous() for band in x.split(rows, dim=2))


def _joined(stream: Bands) -> Tensor:
    return torch.cat(list(stream), dim=2)


def _popped(bands: list[Tensor]) -> Bands:
    while bands:
        yield bands.pop(0)


class VAE(nn.Module):
    """The autoencoder. Latents are scaled, (raw - shift_factor) · scaling_factor."""

    def __init__(self, spec: VAESpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = Encoder(spec)
        self.decoder = Decoder(spec)

    def decode(self, latents: Tensor, strips: int = 1, recompute: bool = False) -> Tensor:
        """Map scaled latents (B, C, h, w) to images (B, 3, H, W) around [-1, 1].

        `strips`: with more than 1, bands of rows instead of whole maps, picture by picture: the
        same image but for rounding, in less memory. `recompute`: in less still, for more time.
        """
        raw = latents / self.spec.scaling_factor + self.spec.shift_factor
        if strips == 1:
            image: Tensor = self.decoder(raw)
            return image
        rows = -(-raw.shape[2] * self.spec.downscale // strips)
        images = (decode_in_strips(self.decoder, one, rows, recompute) for one in raw.split(1))
        return torch.cat(list(images))

    def encode(self, image: Tensor, strips: int = 1, recompute: bool = False) -> Tensor:
        """Map images (B, 3, H, W) in [-1, 1] to the means of their scaled latents.

        `strips`, `recompute`: as in `decode`.
        """
        mean, _ = self.moments(image, strips, recompute)
        return (mean - self.spec.shift_factor) * self.spec.scaling_factor

    def moments(
        self, image: Tensor, strips: int = 1, recompute: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Map images (B, 3, H, W) to means and log-variances, (B, C, h, w) each, unscaled.

        `strips`, `recompute`: as in `decode`.
        """
        mean, logvar = self._encoded(image, strips, recompute).chunk(2, dim=1)
        return mean, logvar.clamp(*LOGVAR_RANGE)

    def _encoded(self, image: Tensor, strips: int, recompute: bool) -> Tensor:
        if strips == 1:
            moments: Tensor = self.encoder(image)
            return moments
        rows = -(-image.shape[2] // strips)
        pictures = image.split(1)
        return torch.cat([encode_in_strips(self.encoder, x, rows, recompute) for x in pictures])
