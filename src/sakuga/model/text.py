"""From token ids to what conditions a drawing: Gemma's features, Jina's pooled vector.

Both towers are transformers' own; the adapters here turn our specs into its configs.
Texts go in without padding where they can, so no prompt depends on its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.models.gemma3.configuration_gemma3 import Gemma3TextConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3TextModel
from transformers.models.jina_embeddings_v3.configuration_jina_embeddings_v3 import (
    JinaEmbeddingsV3Config,
)
from transformers.models.jina_embeddings_v3.modeling_jina_embeddings_v3 import (
    JinaEmbeddingsV3Model,
)

from sakuga.model.spec import GemmaSpec, JinaSpec


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
        self.model = Gemma3TextModel(gemma_config(spec))
        self.model.norm = nn.Identity()
        self.model.rotary_emb = HalfSplitRotary(
            spec.head_dim,
            {
                "full_attention": (spec.rope_theta, spec.rope_linear_factor),
                "sliding_attention": (spec.rope_local_theta, 1.0),
            },
        )
        # Not a buffer: it must be real on the meta device and survive any cast.
        embedding = self.model.embed_tokens
        del embedding.embed_scale
        embedding.embed_scale = torch.tensor(spec.hidden_size**0.5, device="cpu")

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
        seats = [self._seats(x) for x in states]
        kinds = self.model.config.layer_types
        for kind, layer in zip(kinds, self.model.layers if layers is None else layers, strict=True):
            for i, (rotary, masks) in enumerate(seats):
                x, attention_mask = states[i], masks[kind]
                states[i] = layer(
                    x, position_embeddings=rotary[kind], attention_mask=attention_mask
                )
        return states

    def _seats(
        self, x: Tensor
    ) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, Tensor | None]]:
        """Rotary tables and masks of a batch by kind of layer; None where causal is all."""
        length, window = x.shape[1], self.spec.sliding_window
        positions = torch.arange(length, device=x.device)
        kinds = self.model.rotary_emb.kinds
        rotary = {kind: self.model.rotary_emb(x, positions[None], kind) for kind in kinds}
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
        self.model = JinaEmbeddingsV3Model(jina_config(spec), add_pooling_layer=False)
        head_dim = spec.hidden_size // spec.num_attention_heads
        self.model.rotary_emb = HalfSplitRotary(head_dim, {"": (spec.rotary_emb_base, 1.0)})
        # Never read, and no checkpoint holds them: on the meta device they would stay empty.
        del self.model.embeddings.position_ids, self.model.embeddings.token_type_ids

    def forward(self, ids: Tensor) -> Tensor:
        """Pool texts, right-padded if need be: ids (B, L) to (B, W)."""
        return self.encode([ids])[0]

    def sequence(self, ids: Tensor) -> Tensor:
        """Give the last layer's features before pooling: ids (B, L) to (B, L, W)."""
        return self._run([ids], self.model.layers, None)[0]

    def encode(
        self,
        texts: Sequence[Tensor],
        layers: Iterable[nn.Module] | None = None,
        device: torch.device | None = None,
    ) -> list[Tensor]:
        """Pool several such batches in one pass: each layer takes them in turn.

        `layers`, `device`: as in `GemmaEncoder.encode`.
        """
        layers = self.model.layers if layers is None else layers
        states = self._run(texts, layers, device)
        masks = [(ids != self.spec.pad_token_id).to(device) for ids in texts]
        return [masked_mean(x, mask) for x, mask in zip(states, masks, strict=True)]

    def _run(
        self, texts: Sequence[Tensor], layers: Iterable[nn.Module], device: torch.device | None
    ) -> list[Tensor]:
        embeddings = self.model.embeddings
        words = (embeddings.word_embeddings(ids).to(device) for ids in texts)
        states = [embeddings(inputs_embeds=x) for x in words]
        seats = [self._seats(ids, x) for ids, x in zip(texts, states, strict=True)]
        for layer in layers:
            for i, (rotary, mask) in enumerate(seats):
                states[i] = layer(states[i], position_embeddings=rotary, attention_mask=mask)
        return states

    def _seats(self, ids: Tensor, x: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor | None]:
        """Rotary tables of a batch, and a mask if there is padding."""
        rotary = self.model.rotary_emb(x, torch.arange(ids.shape[1], device=x.device)[None])
        mask = ids != self.spec.pad_token_id
        return rotary, None if bool(mask.all()) else mask[:, None, None].to(x.device)


class HalfSplitRotary(nn.Module):
    """Rotary tables for heads whose first half turns with the second.

    Stands in for transformers' own, whose buffers are empty when made on the meta
    device and lose digits when the model is cast; this one has none.
    `kinds`: base and linear position factor of each kind of layer.
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


def gemma_config(spec: GemmaSpec) -> Gemma3TextConfig:
    """Say in transformers' words what `GemmaEncoder` runs: one layer less than `spec`."""
    count = spec.num_hidden_layers - 1
    kinds = [
        "full_attention" if layer in spec.full_attention_layers else "sliding_attention"
        for layer in range(count)
    ]
    return Gemma3TextConfig(
        vocab_size=spec.vocab_size,
        hidden_size=spec.hidden_size,
        intermediate_size=spec.intermediate_size,
        num_hidden_layers=count,
        num_attention_heads=spec.num_attention_heads,
        num_key_value_heads=spec.num_key_value_heads,
        head_dim=spec.head_dim,
        query_pre_attn_scalar=spec.query_pre_attn_scalar,
        sliding_window=spec.sliding_window,
        layer_types=kinds,
        max_position_embeddings=spec.max_position_embeddings,
        rope_parameters={
            "full_attention": {
                "rope_type": "linear",
                "factor": spec.rope_linear_factor,
                "rope_theta": spec.rope_theta,
            },
            "sliding_attention": {"rope_type": "default", "rope_theta": spec.rope_local_theta},
        },
        rms_norm_eps=spec.rms_norm_eps,
        pad_token_id=spec.pad_token_id,
        eos_token_id=spec.eos_token_id,
        bos_token_id=spec.bos_token_id,
        attn_implementation="sdpa",
    )


def jina_config(spec: JinaSpec) -> JinaEmbeddingsV3Config:
    """Say in transformers' words what `JinaEncoder` runs."""
    return JinaEmbeddingsV3Config(
        vocab_size=spec.vocab_size,
        hidden_size=spec.hidden_size,
        intermediate_size=spec.intermediate_size,
        num_hidden_layers=spec.num_hidden_layers,
        num_attention_heads=spec.num_attention_heads,
        max_position_embeddings=spec.max_position_embeddings,
        type_vocab_size=spec.type_vocab_size,
        layer_norm_eps=spec.layer_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": spec.rotary_emb_base},
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=spec.pad_token_id,
        bos_token_id=spec.bos_token_id,
        eos_token_id=spec.eos_token_id,
        attn_implementation="sdpa",
    )
