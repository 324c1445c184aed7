"""What decoding a picture costs, in bytes and operations, as arithmetic on the spec.

A map of C channels, h high and w wide, is C·h·w numbers; a band of it is some rows. The decode
of whole maps and the one in strips (`model.strips`) hold different ones at once. Each moment
that may be the peak is one term here: the maps and bands that are alive in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from sakuga.model.spec import VAESpec

STRIPS = (8, 16, 32, 64)
FEWEST_ROWS = 16  # in a strip; with less, a card is not kept busy
STATISTICS = 2**14  # bytes; of two norms at once, a few numbers for each channel


@dataclass(frozen=True, slots=True)
class Scale:
    """One up block. Its maps are `height` x `width`, of `before` channels, then of `channels`.

    `band`: rows of a strip; 0 where maps are whole. `copy`: the numbers in the float32 copy of
    one number, of which moments are taken; 0 where numbers are float32 already. `times`: how
    often a convolution holds its input and output.
    """

    before: int
    channels: int
    height: int
    width: int
    band: int
    copy: int
    times: int

    @property
    def map(self) -> int:
        """Numbers of one channel of a map."""
        return self.height * self.width

    @property
    def strip(self) -> int:
        """Numbers of one channel of a band."""
        return self.band * self.width

    @property
    def halo(self) -> int:
        """Numbers of one channel that a convolution keeps of the last band, or adds to one."""
        return 2 * self.width


def strip_choices(height: int) -> tuple[tuple[int, bool], ...]:
    """Return the (strips, recompute) worth considering for a picture, fast ones first.

    Fewer than 8 strips save nothing over 8: no band is higher than the smallest scale.
    """
    counts = [n for n in STRIPS if n == STRIPS[0] or height // n >= FEWEST_ROWS]
    return ((1, False), *((n, False) for n in counts), *((n, True) for n in counts))


def decode_peak(
    spec: VAESpec,
    width: int,
    height: int,
    itemsize: int,
    strips: int,
    recompute: bool,
    copied: bool = False,
) -> int:
    """Return the peak bytes of one picture's decode, without the weights.

    width, height: of the picture. itemsize: bytes of a number. strips, recompute: as in
    `VAE.decode`. copied: whether a convolution copies its input and output, as cuDNN does to
    bring channels last; without, only tensors are counted. The peak of the real model in
    bfloat16 is, if copied, in a step up to the full size, of 256 channels: whole, at the last
    such map; in bands, at its last band; recomputed, at the last band of the last pass, beside
    the one map of 128 channels. If not copied, it is in the norm after that step.
    """
    latent = height * width // spec.downscale**2
    # at attention: what entered it and the block; tokens, three projections, what they give
    # in pieces and joined, and its projection
    moments = [9 * spec.block_out_channels[-1] * latent]
    *larger, last = _scales(spec, width, height, itemsize, strips, 2 if copied else 1)
    for scale in larger:
        moments += _whole(scale) if strips == 1 else _banded(scale)
    if strips == 1:
        moments += _whole(last)
    else:
        moments += _recomputed(last) if recompute else _banded(last)
    for scale in larger[: -1 if recompute and strips > 1 else None]:
        moments.append(_upsampled(scale, strips))
    kept = 0 if strips == 1 else STATISTICS
    return (max(moments) + spec.latent_channels * latent) * itemsize + kept


def decode_flops(spec: VAESpec, width: int, height: int, strips: int, recompute: bool) -> float:
    """Return the operations of one picture's decode: two for each multiplication.

    Strips repeat nothing. With `recompute`, at the full size, the step up to it is made three
    times and the first convolution of every ResNet twice.
    """
    again = recompute and strips > 1
    *larger, last = _scales(spec, width, height, 4, strips, 1)
    widest, first = spec.block_out_channels[-1], (larger or [last])[0]
    mid = 4 * 9 * widest**2 + 4 * widest**2 + 2 * first.map * widest
    total = first.map * (9 * spec.latent_channels * widest + mid)
    for scale in larger:
        total += _resnets(scale, spec, 1)
        total += 9 * scale.channels**2 * 4 * scale.map * (3 if again and scale is larger[-1] else 1)
    total += _resnets(last, spec, 2 if again else 1)
    total += 9 * last.channels * spec.in_channels * last.map
    return 2.0 * total


def _scales(
    spec: VAESpec, width: int, height: int, itemsize: int, strips: int, times: int
) -> Iterator[Scale]:
    """Yield the up blocks, the smallest first.

    With every convolution a stream comes a row later, so that its last band grows by one.
    """
    widths = spec.block_out_channels[::-1]
    rows = min(-(-height // strips), height // spec.downscale)
    for place, (before, channels) in enumerate(pairwise((widths[0], *widths))):
        down = spec.downscale >> place
        high = height // down
        band = 0 if strips == 1 else min(high, rows + place)
        copy = 4 // itemsize if itemsize < 4 else 0
        yield Scale(before, channels, high, width // down, band, copy, times)


def _whole(at: Scale) -> list[int]:
    """The first ResNet's input, normed, activated; its convolution; a later one's second."""
    return [
        3 * at.before * at.map,
        (at.before + at.times * (at.before + at.channels)) * at.map,
        (at.before + 2 * at.channels + at.times * 2 * at.channels) * at.map,
    ]


def _banded(at: Scale) -> list[int]:
    """The moments of the first input; its last pass, at start and end; the pass of the hidden."""
    before, both = at.before * at.map, 2 * at.channels * at.map
    wide, narrow = at.before * at.strip, at.channels * at.strip
    halo, inner = at.before * at.halo, at.channels * at.halo
    first = max(2 * wide, at.times * (wide + narrow)) + 2 * at.times * halo
    return [
        before + at.copy * wide,
        0 if at.before == at.channels else before - wide + narrow + first,
        both - narrow + halo + first,
        both + max(at.copy, 2 * at.times - 1) * narrow + 3 * inner,
    ]


def _recomputed(at: Scale) -> list[int]:
    """Filling the one map: moments, the step up and the norm of its end; then hidden maps."""
    full, source = at.channels * at.map, at.before * at.map // 4
    wide, narrow = at.before * at.strip, at.channels * at.strip
    halo, inner = at.before * at.halo, at.channels * at.halo
    most = max(at.copy + 1, 2 * at.times)  # a band and its copy, or what a convolution holds
    return [
        source + most * wide + 3 * halo,
        full - narrow + wide // 2 + at.times * (2 * wide + halo) + 3 * halo + inner,
        full + wide // 2 + 2 * wide + 4 * halo + inner,
        full + most * narrow + 4 * inner,
    ]


def _upsampled(at: Scale, strips: int) -> int:
    """Numbers at the end of a step up: the map it makes, and what it is made of."""
    made, strip = 4 * at.channels * at.map, at.channels * at.strip
    if strips == 1:
        return at.times * 2 * made + (at.before + at.channels) * at.map
    return made - strip + at.times * 4 * strip + 4 * at.channels * at.halo


def _resnets(at: Scale, spec: VAESpec, times: int) -> int:
    """Multiplications of a block's ResNets, whose first convolutions are made `times` times."""
    shortcut = 0 if at.before == at.channels else at.before * at.channels
    first = 9 * at.channels * (at.before + spec.layers_per_block * at.channels)
    second = 9 * at.channels**2 * (spec.layers_per_block + 1)
    return at.map * (times * first + second + shortcut)
