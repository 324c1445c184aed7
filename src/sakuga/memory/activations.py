"""What is alive at once while networks run, beside their weights, in bytes.

Each formula follows the code of `model.nextdit`, `model.blocks` or `model.text` line by line:
it adds up the tensors of the moments that can be the worst one and takes the largest sum. A
test holds them to the real modules at the real size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sakuga.model.spec import GemmaSpec, JinaSpec, NextDiTSpec

FLOAT = 4  # bytes of a float32


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
    """One group of pictures through all evaluations, as `engine.velocity.Denoiser` runs it.

    `segments`: branch by branch, each picture once, the `pictures` of the prompt's first.
    `parts`: groups of segments that pass each block in turn. `held`: states, slopes and
    estimates of each picture that the solver holds meanwhile. `size`: bytes of a value.
    `unfolded`: of the largest matrix while it is used, if it lies there in another format.
    """

    spec: NextDiTSpec
    pictures: int
    segments: tuple[Segment, ...]
    parts: int
    held: int
    size: int
    unfolded: int = 0

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
        return texts * self.spec.dim * self.size + tables

    @property
    def latents(self) -> int:
        """Bytes of what the solver holds between evaluations."""
        return self.held * self.pictures * self._values * FLOAT

    @property
    def working(self) -> int:
        """Bytes at the worst moment of an evaluation: within a block.

        Beside all hidden states there are the latents as they were given, once by picture
        and once by segment, and the modulations of this evaluation.
        """
        count = len(self.segments)
        tokens = sum(segment.tokens for segment in self.segments)
        given = (count + (self.pictures if self.size < FLOAT else 0)) * self._values
        blocks = self.spec.n_refiner_layers + self.spec.n_layers
        rows = count * (4 * blocks + 1) * self.spec.dim
        states = (tokens * self.spec.dim + rows + given) * self.size
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

        Segments of unlike lengths have their four modulations spread over all tokens.
        """
        tokens = sum(segment.tokens for segment in bundle)
        spread = 4 if len(set(bundle)) > 1 else 0
        inner = swiglu(tokens * self.spec.ffn_dim * self.size, self.unfolded)
        return tokens * (3 + spread) * self.spec.dim * self.size + inner


def swiglu(hidden: int, unfolded: int) -> int:
    """Bytes of a gated product with maps of `hidden` bytes.

    Both factors and the product; or both factors, the second of which is just being made by
    an unfolded matrix.
    """
    return max(3 * hidden, 2 * hidden + unfolded)


def table(spec: NextDiTSpec, evaluations: int, branches: int, size: int) -> int:
    """Bytes of all modulations of a request."""
    blocks = spec.n_refiner_layers + spec.n_layers
    return evaluations * branches * (4 * blocks + 1) * spec.dim * size


def gemma_layer(spec: GemmaSpec, tokens: int, size: int, unfolded: int = 0) -> int:
    """Bytes at the worst moment of a layer that reads one text, beside the layer's input.

    The gated product and its two factors; the sum before it and its norm.
    """
    inner = swiglu(tokens * spec.intermediate_size * size, unfolded)
    return tokens * 2 * spec.hidden_size * size + inner


def jina_layer(spec: JinaSpec, tokens: int, size: int) -> int:
    """The same for Jina: an activation, its input, a norm; or all that attention holds."""
    inner = spec.hidden_size + 2 * spec.intermediate_size
    return tokens * max(inner, 7 * spec.hidden_size) * size
