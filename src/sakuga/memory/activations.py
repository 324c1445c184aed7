"""What is alive at once while networks run, beside their weights, in bytes.

Each formula follows the code of `model.nextdit` or `model.text` line by line: it adds up the
tensors of the moments that can be the worst one and takes the largest sum. A test holds them
to the real modules at the real size.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """One group of pictures on its way through all evaluations.

    `segments`: branch by branch, each picture once. `parts`: groups of segments that pass
    each block in turn. `size`: bytes of a value.
    """

    spec: NextDiTSpec
    segments: tuple[Segment, ...]
    parts: int
    size: int

    @property
    def kept(self) -> int:
        """Bytes from the first step to the last: captions, rotary tables."""
        texts = sum(segment.text for segment in self.segments)
        places = {(segment.image, segment.text) for segment in self.segments}
        if len(places) > 1:
            rows = sum(2 * segment.tokens for segment in self.segments)
        else:
            rows = sum(2 * (image + text) for image, text in places)
        return texts * self.spec.dim * self.size + rows * self.spec.head_dim * FLOAT

    @property
    def hidden(self) -> int:
        """Bytes of the hidden states of all segments."""
        return sum(segment.tokens for segment in self.segments) * self.spec.dim * self.size

    @property
    def working(self) -> int:
        """Bytes at the worst moment of an evaluation, hidden states included."""
        per_part = -(-len(self.segments) // self.parts)
        groups = [
            self.segments[start : start + per_part]
            for start in range(0, len(self.segments), per_part)
        ]
        return self.hidden + max(map(self._block, groups))

    def _block(self, group: tuple[Segment, ...]) -> int:
        tokens = sum(segment.tokens for segment in group)
        d = tokens * self.spec.dim * self.size
        f = tokens * self.spec.ffn_dim * self.size
        spread = 4 * d if len(set(group)) > 1 else 0
        return 3 * d + 3 * f + spread


def table(spec: NextDiTSpec, evaluations: int, branches: int, size: int) -> int:
    """Bytes of all modulations of a request."""
    blocks = spec.n_refiner_layers + spec.n_layers
    return evaluations * branches * (4 * blocks + 1) * spec.dim * size


def encoder_layer(spec: GemmaSpec | JinaSpec, tokens: int, size: int) -> int:
    """Bytes at the worst moment of a layer of an encoder that reads one text."""
    return tokens * (4 * spec.hidden_size + 3 * spec.intermediate_size) * size
