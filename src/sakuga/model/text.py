"""From token ids to what conditions a drawing: Gemma's features, Jina's pooled vector.

`model.towers` has the layers; here they are run, wherever they come from. Texts go in
without padding where they can, so no prompt depends on its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sakuga.model.spec import GemmaSpec, JinaSpec
from sakuga.model.towers import GemmaTower, JinaTower


@dataclass(frozen=True, slots=True)
class Conditioning:
    """One text, encoded: `tokens` (L, gemma width) and `pooled` (jina width,)."""

    tokens: Tensor
    pooled: Tensor


class GemmaEncoder(nn.Module):
    """Gemma 3 up to its last layer but one, without the final norm.

    `model` names its parameters as transformers does; the last layer and the norm of a
    checkpoint have no place here.
    """

    def __init__(self, spec: GemmaSpec) -> None:
        super().__init__()
        self.spec = spec
        self.model = GemmaTower(spec)
        self.rotary = HalfSplitRotary(
            spec.head_dim,
            {
                "full_attention": (spec.rope_theta, spec.rope_linear_factor),
                "sliding_attention": (spec.rope_local_theta, 1.0),
            },
        )

    def forward(self, ids: Tensor) -> Tensor:
        """Encode texts of one length, unpadded: ids (B, L) to `hidden_states[-2]`, (B, L, W).

        Activations overflow float16: run in bfloat16 or float32.
        """
        return self.encode([ids])[0]

    def encode(
        self,
        texts: Sequence[Tensor],
        layers: Iterable[nn.Module] | None = None,
        device: torch.device | None = None,
    ) -> list[Tensor]:
        """Encode several such batches in one pass: each layer takes them in turn.

        `layers`: this model's, from wherever they come, by default where they lie; `device`:
        where they compute. The embedding table is read where it lies. No result depends on
        the other texts.
        """
        states = [self.model.embed_tokens(ids).to(device) for ids in texts]
        inputs = [self._rotary_and_masks(x) for x in states]
        for number, layer in enumerate(self.model.layers if layers is None else layers):
            full = number in self.spec.full_attention_layers
            kind = "full_attention" if full else "sliding_attention"
            for i, (rotary, masks) in enumerate(inputs):
                states[i] = layer(states[i], rotary[kind], masks[kind])
        return states

    def _rotary_and_masks(
        self, x: Tensor
    ) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, Tensor | None]]:
        """Rotary tables and masks of a batch by kind of layer; None where causal is all."""
        length, window = x.shape[1], self.spec.sliding_window
        positions = torch.arange(length, device=x.device)
        kinds = self.rotary.kinds
        rotary = {kind: self.rotary(x, positions[None], kind) for kind in kinds}
        masks: dict[str, Tensor | None] = dict.fromkeys(kinds)
        if length > window:
            past = positions[:, None] - positions
            masks["sliding_attention"] = ((past >= 0) & (past < window))[None, None]
        return rotary, masks


class JinaEncoder(nn.Module):
    """The text tower of Jina CLIP v2: masked mean of its last layer, not normalised.

    `model` names its parameters as transformers does.
    """

    def __init__(self, spec: JinaSpec) -> None:
        super().__init__()
        self.spec = spec
        self.model = JinaTower(spec)
        head_dim = spec.hidden_size // spec.num_attention_heads
        self.rotary = HalfSplitRotary(head_dim, {"": (spec.rotary_emb_base, 1.0)})

    def forward(self, ids: Tensor) -> Tensor:
        """Pool texts, right-padded if need be: ids (B, L) to (B, W)."""
        return self.encode([ids])[0]

    def encode(
        self,
        texts: Sequence[Tensor],
        layers: Iterable[nn.Module] | None = None,
        device: torch.device | None = None,
    ) -> list[Tensor]:
        """Pool several such batches in one pass: each layer takes them in turn.

        `layers`, `device`: as in `GemmaEncoder.encode`.
        """
        embeddings = self.model.embeddings
        words = (embeddings.word_embeddings(ids).to(device) for ids in texts)
        states = [embeddings(x) for x in words]
        inputs = [self._rotary_and_mask(ids, x) for ids, x in zip(texts, states, strict=True)]
        for layer in self.model.layers if layers is None else layers:
            for i, (rotary, mask) in enumerate(inputs):
                states[i] = layer(states[i], rotary, mask)
        masks = [(ids != self.spec.pad_token_id).to(device) for ids in texts]
        return [masked_mean(x, mask) for x, mask in zip(states, masks, strict=True)]

    def _rotary_and_mask(
        self, ids: Tensor, x: Tensor
    ) -> tuple[tuple[Tensor, Tensor], Tensor | None]:
        """Rotary tables of a batch, and a mask if there is padding."""
        rotary = self.rotary(x, torch.arange(ids.shape[1], device=x.device)[None])
        mask = ids != self.spec.pad_token_id
        return rotary, None if bool(mask.all()) else mask[:, None, None].to(x.device)


class HalfSplitRotary(nn.Module):
    """Rotary tables for heads whose first half turns with the second.

    It keeps no buffers, which would be empty when made on the meta device and lose digits when
    the model is cast. `kinds`: base and linear position factor of each kind of layer.
    """

    def __init__(self, head_dim: int, kinds: Mapping[str, tuple[float, float]]) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.kinds = dict(kinds)

    def forward(
        self, x: Tensor, position_ids: Tensor, layer_type: str = ""
    ) -> tuple[Tensor, Tensor]:
        """Cosines and sines (1, L, E) in the dtype of `x` for positions (1, L)."""
        base, factor = self.kinds[layer_type]
        exponent = torch.arange(0, self.head_dim, 2, dtype=torch.float32, device=x.device)
        frequencies = 1.0 / base ** (exponent / self.head_dim) / factor
        angles = position_ids[..., None].float() * frequencies
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


def masked_mean(features: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, L, W) features over the tokens where the (B, L) mask is true: (B, W)."""
    weights = mask.unsqueeze(-1).to(features.dtype)
    return (features * weights).sum(1) / weights.sum(1)
