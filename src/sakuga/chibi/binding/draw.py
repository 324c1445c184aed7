"""Draws many asks at once, with the texts that the command line would send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sakuga.api.request import Request
from sakuga.api.resolved import resolve
from sakuga.checkpoint.catalog import EMBEDDED_FOLDER
from sakuga.checkpoint.folder import open_checkpoint
from sakuga.chibi.binding.asks import Ask
from sakuga.chibi.binding.rows import Row
from sakuga.chibi.measure import Painter
from sakuga.chibi.regime import Size
from sakuga.engine.encode import joined, mean_of
from sakuga.engine.readings import Ids, Reading
from sakuga.engine.texts import Tokenizers
from sakuga.memory.stages import GEMMA, JINA
from sakuga.model.layers import Segments
from sakuga.model.spec import DrawingSpec

_REQUESTS = {
    "as XML": {"as_xml": True},
    "as typed": {"as_xml": False},
    "per character": {"as_xml": False, "encoding": "per-character"},
}


@dataclass(frozen=True, slots=True)
class Easel:
    """A model ready to draw asks, and the tokenizers that read what they say."""

    painter: Painter
    tokenizers: Tokenizers
    drawing: DrawingSpec

    @classmethod
    def open(cls, device: str = "auto", folder: Path = EMBEDDED_FOLDER) -> Easel:
        """The model in a folder, in float32 on `device`."""
        checkpoint = open_checkpoint(folder)
        painter = Painter.packaged(device, folder)
        return cls(painter, Tokenizers.open(checkpoint), checkpoint.spec.drawing)

    def readings(self, text: str, encoding: str) -> tuple[Reading, ...]:
        """How both encoders read a prompt and its empty negative: Gemma's two, Jina's two."""
        request = Request(text, seed=0, **_REQUESTS[encoding])  # type: ignore[arg-type]
        read = self.tokenizers.read(resolve(request, self.drawing)).readings
        return (*read[GEMMA.name], *read[JINA.name])

    @torch.inference_mode()
    def draw(self, asks: Sequence[Ask], texts: Sequence[str], row: Row) -> Tensor:
        """A picture of each, (B, 3, H, W) in [-1, 1]; noise depends on the ask alone."""
        painter, readings = self.painter, [self.readings(text, row.encoding) for text in texts]
        captions: dict[tuple[Ids, ...], Tensor] = {}
        pooled: dict[tuple[Ids, ...], Tensor] = {}
        for gemma, gemma_empty, jina, jina_empty in readings:
            for one in (gemma, gemma_empty):
                if one.parts.texts not in captions:
                    features = joined(one.parts, {ids: self._gemma(ids) for ids in one.texts})
                    lone = Segments((len(features),))
                    captions[one.parts.texts] = painter.transformer.caption(features, lone)
            for one in (jina, jina_empty):
                if one.parts.texts not in pooled:
                    vectors = {ids: self._jina(ids) for ids in one.texts}
                    pooled[one.parts.texts] = mean_of(one.parts, vectors)
        order = [each[0] for each in readings] + [each[1] for each in readings]
        refined = [captions[one.parts.texts] for one in order]
        order = [each[2] for each in readings] + [each[3] for each in readings]
        vectors = torch.stack([pooled[one.parts.texts] for one in order])
        segments = Segments(tuple(len(one) for one in refined))
        noise = torch.cat([painter.noise(1, ask.seed, row.size) for ask in asks])
        return painter.walk((torch.cat(refined), segments, vectors), noise)

    def _gemma(self, ids: Ids) -> Tensor:
        features: Tensor = self.painter.gemma(torch.tensor([ids], device=self.painter.device))[0]
        return features

    def _jina(self, ids: Ids) -> Tensor:
        vector: Tensor = self.painter.jina(torch.tensor([ids], device=self.painter.device))[0]
        return vector


def batch_of(size: Size, most: int) -> int:
    """How many pictures are drawn at once: `most` of the usual area, fewer of larger ones."""
    return max(1, min(most, most * 2 * 65536 // (size[0] * size[1])))
