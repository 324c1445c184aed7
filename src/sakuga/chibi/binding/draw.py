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
        gemma = {
            one: self._caption(one) for one in {each[side] for each in readings for side in (0, 1)}
        }
        jina = {
            one: self._pooled(one) for one in {each[side] for each in readings for side in (2, 3)}
        }
        # All prompts, then all negatives, as guidance takes them.
        refined = [gemma[each[side]] for side in (0, 1) for each in readings]
        pooled = [jina[each[side]] for side in (2, 3) for each in readings]
        segments = Segments(tuple(len(one) for one in refined))
        read = torch.cat(refined), segments, torch.stack(pooled).to(painter.device)
        noise = torch.cat([painter.noise(1, ask.seed, row.size) for ask in asks])
        return painter.walk(read, noise)

    def _caption(self, reading: Reading) -> Tensor:
        """What the transformer looks at of a text, (L, D), where the networks are."""
        ids = {one: self._ids(one) for one in reading.texts}
        features = joined(reading.parts, {one: self.painter.gemma(ids[one])[0] for one in ids})
        return self.painter.transformer.caption(features, Segments((len(features),)))

    def _pooled(self, reading: Reading) -> Tensor:
        """The pooled vector of a text, (D,), on the host."""
        ids = {one: self._ids(one) for one in reading.texts}
        return mean_of(reading.parts, {one: self.painter.jina(ids[one])[0].cpu() for one in ids})

    def _ids(self, ids: Ids) -> Tensor:
        return torch.tensor([ids], device=self.painter.device)


def batch_of(size: Size, most: int) -> int:
    """How many pictures are drawn at once: `most` of the usual area, fewer of larger ones."""
    return max(1, min(most, most * 2 * 65536 // (size[0] * size[1])))
