"""The networks of the embedded model that learn together, as one."""

from __future__ import annotations

from torch import Tensor, nn

from sakuga.chibi.data import PromptBatch
from sakuga.model.nextdit import NextDiT
from sakuga.model.packing import packing_of
from sakuga.model.spec import ModelSpec
from sakuga.model.text import GemmaEncoder, JinaEncoder


class Text2Velocity(nn.Module):
    """The three networks that learn together: two readers and the transformer."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        assert spec.jina is not None
        self.gemma = GemmaEncoder(spec.gemma)
        self.jina = JinaEncoder(spec.jina)
        self.transformer = NextDiT(spec.transformer)

    def forward(self, latents: Tensor, t: Tensor, batch: PromptBatch) -> tuple[Tensor, Tensor]:
        """Velocity of (B, C, h, w) latents, and the refined caption (B, L, D) behind it."""
        _, length = batch.gemma.shape
        # One segment's packing broadcasts over a batch in which all segments are alike.
        height, width = latents.shape[-2:]
        packing = packing_of(self.transformer.spec, [length], [(height, width)], latents.device)
        features = self.gemma(batch.gemma).flatten(0, 1)
        caption = self.transformer.refine(features, packing.text)
        pooled = self.jina(batch.jina)
        velocity = self.transformer.velocity(latents, t, caption, packing, pooled)
        assert isinstance(velocity, Tensor)
        return velocity, caption.unflatten(0, (-1, length))
