"""What is alive at once while networks run, beside their weights, in bytes.

Each formula follows the code of `model.nextdit` or `model.text` line by line:
it adds up the tensors of the moments that can be the worst one and takes the largest sum. A
test holds them to the real modules at the real size.

A map of C channels, h high and w wide, is C·h·w numbers; a band of it is some rows. The decode
of whole maps and the one in strips (`model.vae`) hold different ones at once. Each moment
that may be the peak is one term here: the maps and bands that are alive in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from sakuga.model.spec import GemmaSpec, JinaSpec, NextDiTSpec, VAESpec

STRIPS = (8, 16, 32, 64)
FEWEST_ROWS = 16  # in a strip; with less, a card is not kept busy
STATISTICS = 2**14  # bytes; of two norms at once, a few numbers for each channel

FLOAT = 4  # bytes of a float32


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
        total += _resnets(scale, spec.layers_per_block, 1)
        total += 9 * scale.channels**2 * 4 * scale.map * (3 if again and scale is larger[-1] else 1)
    total += _resnets(last, spec.layers_per_block, 2 if again else 1)
    total += 9 * last.channels * spec.in_channels * last.map
    return 2.0 * total


def encode_peak(
    spec: VAESpec,
    width: int,
    height: int,
    itemsize: int,
    strips: int,
    recompute: bool,
    copied: bool = False,
) -> int:
    """Return the peak bytes of encoding one picture, without the weights.

    As `decode_peak`. The picture itself is there all the time. The peak of the real model is at
    the full size, of 128 channels: in its ResNets, of which `recompute` stores one map.
    """
    latent = height * width // spec.downscale**2
    moments = [9 * spec.block_out_channels[-1] * latent]
    scales = tuple(_down_scales(spec, width, height, itemsize, strips, 2 if copied else 1))
    for scale in scales:
        if strips == 1:
            moments += _whole(scale, spec.layers_per_block)
        else:
            again = recompute and scale is scales[0]
            moments += _refilled(scale) if again else _banded(scale)
        if scale is not scales[-1]:
            moments += _downsampled(scale, strips)
    kept = 0 if strips == 1 else STATISTICS
    return (max(moments) + spec.in_channels * width * height) * itemsize + kept


def encode_flops(spec: VAESpec, width: int, height: int, strips: int, recompute: bool) -> float:
    """Return the operations of encoding one picture: two for each multiplication.

    Strips repeat nothing. With `recompute`, at the full size, the first convolution of every
    ResNet is made twice.
    """
    again = recompute and strips > 1
    scales = tuple(_down_scales(spec, width, height, 4, strips, 1))
    full, last, widest = scales[0], scales[-1], spec.block_out_channels[-1]
    mid = 4 * 9 * widest**2 + 4 * widest**2 + 2 * last.map * widest
    total = 9 * spec.in_channels * full.before * full.map
    total += last.map * (mid + 9 * widest * 2 * spec.latent_channels)
    for scale in scales:
        total += _resnets(scale, spec.layers_per_block - 1, 2 if again and scale is full else 1)
        if scale is not last:
            total += 9 * scale.channels**2 * scale.map // 4
    return 2.0 * total


def _down_scales(
    spec: VAESpec, width: int, height: int, itemsize: int, strips: int, times: int
) -> Iterator[Scale]:
    """Yield the down blocks, the full size first. Each begins with bands of equal height."""
    widths, rows = spec.block_out_channels, -(-height // strips)
    for place, (before, channels) in enumerate(pairwise((widths[0], *widths))):
        high = height >> place
        band = 0 if strips == 1 else min(high, rows)
        copy = 4 // itemsize if itemsize < 4 else 0
        yield Scale(before, channels, high, width >> place, band, copy, times)


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


def _whole(at: Scale, resnets: int = 2) -> list[int]:
    """The first ResNet's input, normed, activated; its convolution; the last one's second."""
    held = at.channels * (1 if resnets == 1 else 2)
    return [
        3 * at.before * at.map,
        (at.before + at.times * (at.before + at.channels)) * at.map,
        (at.before + held + at.times * 2 * at.channels) * at.map,
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


def _refilled(at: Scale) -> list[int]:
    """The one map, which is emptied as it is filled, and what a pass holds beside it."""
    most = max(at.copy + 1, 2 * at.times)  # a band and its copy, or what a convolution holds
    return [at.channels * (at.map + most * at.strip + 6 * at.halo)]


def _downsampled(at: Scale, strips: int) -> list[int]:
    """Numbers while the next, smaller map is made, and while its bands are joined and cut."""
    made, full = at.channels * at.map // 4, at.channels * at.map
    if strips == 1:
        return [at.before * at.map + full + at.times * (full + made)]
    strip, halo = at.channels * at.strip, at.channels * at.halo
    return [full + at.times * (2 * strip + strip // 4) + 2 * halo, 2 * made]


def _upsampled(at: Scale, strips: int) -> int:
    """Numbers at the end of a step up: the map it makes, and what it is made of."""
    made, strip = 4 * at.channels * at.map, at.channels * at.strip
    if strips == 1:
        return at.times * 2 * made + (at.before + at.channels) * at.map
    return made - strip + at.times * 4 * strip + 4 * at.channels * at.halo


def _resnets(at: Scale, later: int, times: int) -> int:
    """Multiplications of a block's ResNets, whose first convolutions are made `times` times.

    later: how many follow the first.
    """
    shortcut = 0 if at.before == at.channels else at.before * at.channels
    first = 9 * at.channels * (at.before + later * at.channels)
    second = 9 * at.channels**2 * (later + 1)
    return at.map * (times * first + second + shortcut)


@dataclass(frozen=True, slots=True)
class Segment:
    """One picture under one branch of the guidance: N image tokens and L text tokens."""

    image: int
    text: int

    @property
    def tokens(self) -> int:
        """Tokens that pass the joint layers."""
        return self.image + self.text


@dataclass(frozen=True, slots=True)
class Denoising:
    """One group of pictures through all evaluations, as `engine.denoise.Denoiser` runs it.

    `segments`: branch by branch, each picture once, the `pictures` of the prompt's first.
    `parts`: groups of segments that pass each block in turn. `held`: states, slopes and
    estimates of each picture that the solver holds meanwhile. `size`: bytes of a value.
    `unfolded`: of the largest matrix while it is used, if it lies there in another format.
    `again`: numbers per token beside two hidden maps where a linear that adapters change
    computes a second time: while it does, and while they compute alone. `fused`: kernels of a
    card compute what stands between products. `regions`: channels that hold characters in
    their places.
    """

    spec: NextDiTSpec
    pictures: int
    segments: tuple[Segment, ...]
    parts: int
    held: int
    size: int
    unfolded: int = 0
    again: tuple[int, int] = (0, 0)
    fused: bool = False
    regions: int = 0

    @property
    def bundles(self) -> tuple[tuple[Segment, ...], ...]:
        """The segments that pass each block together."""
        most = -(-len(self.segments) // self.parts)
        starts = range(0, len(self.segments), most)
        return tuple(self.segments[start : start + most] for start in starts)

    @property
    def kept(self) -> int:
        """Bytes of captions and rotary tables, from the first step to the last.

        With guidance there are more, for steps without the negative; bundles that are alike
        share their tables.
        """
        guided = len(self.segments) > self.pictures
        alone = replace(self, segments=self.segments[: self.pictures])
        bundles = self.bundles + (alone.bundles if guided else ())
        texts = sum(segment.text for bundle in bundles for segment in bundle)
        tables = sum(map(self._tables, set(bundles)))
        kept = texts * self.spec.dim * self.size + tables
        if not self.regions:
            return kept
        tokens = sum(segment.tokens for bundle in bundles for segment in bundle)
        return 2 * kept + 2 * tokens * self.regions * FLOAT

    @property
    def latents(self) -> int:
        """Bytes of what the solver holds between evaluations."""
        return self.held * self.pictures * self._values * FLOAT

    @property
    def working(self) -> int:
        """Bytes at the worst moment of an evaluation: within a block.

        Beside all hidden states there are the latents as they were given, once by picture
        and once by segment.
        """
        count = len(self.segments)
        tokens = sum(segment.tokens for segment in self.segments)
        given = (count + (self.pictures if self.size < FLOAT else 0)) * self._values
        states = (tokens * self.spec.dim + given) * self.size
        return states + max(map(self._block, self.bundles))

    @property
    def _values(self) -> int:
        """Numbers in the latents of one picture."""
        return self.segments[0].image * self.spec.patch_size**2 * self.spec.in_channels

    def _tables(self, bundle: tuple[Segment, ...]) -> int:
        """Rotary tables of texts, of images, and of both; made once where all are alike."""
        apart = bundle if len(set(bundle)) > 1 else bundle[:1]
        return sum(2 * segment.tokens for segment in apart) * self.spec.head_dim * FLOAT

    def _block(self, bundle: tuple[Segment, ...]) -> int:
        """The SwiGLU: what it multiplies and the product; its input, the block's two sums.

        A kernel puts the product where one of its factors was, and a sum where its branch was.
        """
        tokens = sum(segment.tokens for segment in bundle)
        rows = len(bundle) * 4 * self.spec.dim * self.size  # the modulations of the block
        hidden = tokens * self.spec.ffn_dim * self.size
        inner = 2 * hidden + self.unfolded if self.fused else swiglu(hidden, self.unfolded)
        if any(self.again):
            one, two = (2 * hidden + tokens * numbers * self.size for numbers in self.again)
            inner = max(inner, one + self.unfolded, two)
        return tokens * (2 if self.fused else 3) * self.spec.dim * self.size + rows + inner


def swiglu(hidden: int, unfolded: int) -> int:
    """Bytes of a gated product with maps of `hidden` bytes.

    Both factors and the product; or both factors, the second of which is just being made by
    an unfolded matrix.
    """
    return max(3 * hidden, 2 * hidden + unfolded)


def modulation_table(spec: NextDiTSpec, evaluations: int, branches: int, size: int) -> int:
    """Bytes of all modulations of a request."""
    blocks = spec.n_refiner_layers + spec.n_layers
    return evaluations * branches * (4 * blocks + 1) * spec.dim * size


def gemma_layer_peak(spec: GemmaSpec, tokens: int, size: int, unfolded: int = 0) -> int:
    """Bytes at the worst moment of a layer that reads one text, beside the layer's input.

    The gated product and its two factors; the sum before it and its norm. Or, where scores are
    bounded, two maps of scores in float32 with their masks; queries, keys and values, and the
    norm before them.
    """
    inner = swiglu(tokens * spec.intermediate_size * size, unfolded)
    product = tokens * 2 * spec.hidden_size * size + inner
    if not spec.attn_softcap:
        return product
    heads = spec.num_attention_heads
    scores = tokens**2 * (heads * 2 * FLOAT + 2)
    mixed = tokens * (spec.hidden_size + 3 * heads * spec.head_dim) * size
    return max(product, mixed + scores)


def jina_layer(spec: JinaSpec, tokens: int, size: int) -> int:
    """The same for Jina: an activation, its input, a norm; or all that attention holds."""
    inner = spec.hidden_size + 2 * spec.intermediate_size
    return tokens * max(inner, 7 * spec.hidden_size) * size
