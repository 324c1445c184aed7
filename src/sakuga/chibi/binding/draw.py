"""Draws many asks at once, with the texts that the command line would send."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
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
from sakuga.model.text import GemmaEncoder, JinaEncoder

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
        # All prompts, then all negatives, as guidance takes them.
        gemma, jina = (
            [each[side] for side in sides for each in readings] for sides in ((0, 1), (2, 3))
        )
        found = self._features(painter.gemma, gemma)
        features = [joined(one.parts, found) for one in gemma]
        segments = Segments(tuple(len(one) for one in features))
        captions = painter.transformer.caption(torch.cat(features).to(painter.device), segments)
        found = self._features(painter.jina, jina)
        pooled = torch.stack([mean_of(one.parts, found) for one in jina])
        noise = torch.cat([painter.noise(1, ask.seed, row.size) for ask in asks])
        return painter.walk((captions, segments, pooled.to(painter.device)), noise)

    def _features(
        self, encoder: GemmaEncoder | JinaEncoder, readings: Iterable[Reading]
    ) -> dict[Ids, Tensor]:
        """What an encoder makes of each text, on the host; of those of one length at once."""
        texts = {ids for one in readings for ids in one.texts}
        found: dict[Ids, Tensor] = {}
        for _, same in groupby(sorted(texts, key=len), key=len):
            alike = list(same)
            made = encoder(torch.tensor(alike, device=self.painter.device)).cpu()
            found |= dict(zip(alike, made, strict=True))
        return found


def batch_of(size: Size, most: int) -> int:
    """How many pictures are drawn at once: `most` of the usual area, fewer of larger ones."""
    return max(1, min(most, most * 2 * 65536 // (size[0] * size[1])))
