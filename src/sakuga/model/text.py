"""The text encoders: the layers of Gemma and Jina, and what conditions a drawing.

Layers are run wherever they come from, so that they may be streamed. Texts go in without
padding where they can, so no prompt depends on its neighbours.

Weights have the names that transformers gives them, and results are its models' to the bit,
which tests hold. Its own modules would do as well, but importing them takes two seconds:
they bring generation, kernels from a hub and a distributed runtime.
Sources: Gemma 2, arXiv 2408.00118, section 2; Gemma 3, arXiv 2503.19786, section 2;
jina-embeddings-v3, arXiv 2409.10173, section 3; rotary embeddings, arXiv 2104.09864.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sakuga.model.spec import GemmaSpec, JinaSpec

Rotary = tuple[Tensor, Tensor]  # cosines and sines, (1, L, E) each
INITIAL = 0.02  # standard deviation of matrices before training


class GemmaTower(nn.Module):
    """Gemma but for its last layer and the final norm: the table of words, and the layers."""

    def __init__(self, spec: GemmaSpec) -> None:
        super().__init__()
        self.embed_tokens = GemmaEmbedding(spec)
        self.layers = nn.ModuleList(GemmaLayer(spec) for _ in range(spec.num_hidden_layers - 1))
        self.apply(_begin)


class Embedding(nn.Embedding):
    """An nn.Embedding that is not initialised on the meta device: torch would load Dynamo."""

    def reset_parameters(self) -> None:
        """Give the weights what training starts from."""
        if not self.weight.is_meta:
            nn.init.normal_(self.weight, std=INITIAL)


class GemmaEmbedding(Embedding):
    """Words as vectors, times the root of their width, which is rounded as they are."""

    def __init__(self, spec: GemmaSpec) -> None:
        super().__init__(spec.vocab_size, spec.hidden_size, spec.pad_token_id)
        # Not a buffer: it must be real on the meta device and survive any cast.
        self.scale = torch.tensor(spec.hidden_size**0.5, device="cpu")

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids (B, L) to (B, L, W)."""
        return super().forward(ids) * self.scale.to(self.weight.dtype)


class GemmaLayer(nn.Module):
    """Attention and a gated product, each between two norms."""

    def __init__(self, spec: GemmaSpec) -> None:
        super().__init__()
        self.self_attn = GemmaAttention(spec)
        self.mlp = GemmaMLP(spec)
        width, eps = spec.hidden_size, spec.rms_norm_eps
        self.input_layernorm = GemmaNorm(width, eps)
        self.post_attention_layernorm = GemmaNorm(width, eps)
        self.pre_feedforward_layernorm = GemmaNorm(width, eps)
        self.post_feedforward_layernorm = GemmaNorm(width, eps)

    def forward(self, x: Tensor, rotary: Rotary, mask: Tensor | None = None) -> Tensor:
        """Map (B, L, W) to the same shape. mask: true where a word sees another; None is causal."""
        seen = self.self_attn(self.input_layernorm(x), rotary, mask)
        x = x + self.post_attention_layernorm(seen)
        del seen
        product = self.mlp(self.pre_feedforward_layernorm(x))
        out: Tensor = x + self.post_feedforward_layernorm(product)
        return out


class GemmaNorm(nn.Module):
    """Root-mean-square norm with scale 1 + weight, all in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to the same shape and dtype."""
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)
        return (y * (1.0 + self.weight.float())).type_as(x)


class GemmaAttention(nn.Module):
    """Attention, each key head serving several queries'; normed or with bounded scores."""

    def __init__(self, spec: GemmaSpec) -> None:
        super().__init__()
        self.head_dim, self.scale = spec.head_dim, spec.query_pre_attn_scalar**-0.5
        self.groups = spec.num_attention_heads // spec.num_key_value_heads
        self.softcap = spec.attn_softcap
        queries = spec.num_attention_heads * spec.head_dim
        keys = spec.num_key_value_heads * spec.head_dim
        self.q_proj = nn.Linear(spec.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(spec.hidden_size, keys, bias=False)
        self.v_proj = nn.Linear(spec.hidden_size, keys, bias=False)
        self.o_proj = nn.Linear(queries, spec.hidden_size, bias=False)
        self.q_norm: nn.Module = nn.Identity()
        self.k_norm: nn.Module = nn.Identity()
        if spec.qk_norm:
            self.q_norm = GemmaNorm(spec.head_dim, spec.rms_norm_eps)
            self.k_norm = GemmaNorm(spec.head_dim, spec.rms_norm_eps)

    def forward(self, x: Tensor, rotary: Rotary, mask: Tensor | None) -> Tensor:
        """Map (B, L, W) to the same shape."""
        linears = self.q_proj, self.k_proj, self.v_proj
        q, k, v = (_heads(linear(x), self.head_dim) for linear in linears)
        q, k = self.q_norm(q), self.k_norm(k)
        q, k = _turned(q, rotary), _turned(k, rotary)
        # With a mask, or bounds to the scores, no fused kernel takes grouped heads.
        grouped = self.groups > 1 and mask is None and not self.softcap
        if self.groups > 1 and not grouped:
            k, v = k.repeat_interleave(self.groups, 1), v.repeat_interleave(self.groups, 1)
        mixed = (
            _softcapped(q, k, v, mask, self.scale, self.softcap)
            if self.softcap
            else F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None, scale=self.scale,
                enable_gqa=grouped,
            )
        )  # fmt: skip
        out: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return out


class GemmaMLP(nn.Module):
    """A product gated by GELU, in its tanh form."""

    def __init__(self, spec: GemmaSpec) -> None:
        super().__init__()
        width, inner = spec.hidden_size, spec.intermediate_size
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, W) to the same shape."""
        gate = F.gelu(self.gate_proj(x), approximate="tanh")
        out: Tensor = self.down_proj(gate * self.up_proj(x))
        return out


class JinaTower(nn.Module):
    """Jina embeddings v3: what is read of words, and all layers."""

    def __init__(self, spec: JinaSpec) -> None:
        super().__init__()
        self.embeddings = JinaEmbeddings(spec)
        self.layers = nn.ModuleList(JinaLayer(spec) for _ in range(spec.num_hidden_layers))
        self.apply(_begin)


class JinaEmbeddings(nn.Module):
    """Words as vectors, plus that of the first type of token, normed."""

    def __init__(self, spec: JinaSpec) -> None:
        super().__init__()
        width = spec.hidden_size
        self.word_embeddings = Embedding(spec.vocab_size, width, spec.pad_token_id)
        self.token_type_embeddings = Embedding(spec.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=spec.layer_norm_eps)

    def forward(self, words: Tensor) -> Tensor:
        """Map vectors of words (B, L, W) to the same shape."""
        out: Tensor = self.LayerNorm(words + self.token_type_embeddings.weight[0])
        return out


class JinaLayer(nn.Module):
    """Attention and two linears around a GELU; a norm after each sum."""

    def __init__(self, spec: JinaSpec) -> None:
        super().__init__()
        self.self_attn = JinaAttention(spec)
        self.mlp = JinaMLP(spec)
        width, eps = spec.hidden_size, spec.layer_norm_eps
        self.post_attention_layernorm = nn.LayerNorm(width, eps=eps)
        self.post_mlp_layernorm = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor, rotary: Rotary, mask: Tensor | None = None) -> Tensor:
        """Map (B, L, W) to the same shape. mask: true where words are; None where all are."""
        x = self.post_attention_layernorm(x + self.self_attn(x, rotary, mask))
        out: Tensor = self.post_mlp_layernorm(x + self.mlp(x))
        return out


class JinaAttention(nn.Module):
    """Attention of every word over all words."""

    def __init__(self, spec: JinaSpec) -> None:
        super().__init__()
        width = spec.hidden_size
        self.head_dim = width // spec.num_attention_heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.o_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, rotary: Rotary, mask: Tensor | None) -> Tensor:
        """Map (B, L, W) to the same shape."""
        linears = self.q_proj, self.k_proj, self.v_proj
        q, k, v = (_heads(linear(x), self.head_dim) for linear in linears)
        q, k = _turned(q, rotary), _turned(k, rotary)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return out


class JinaMLP(nn.Module):
    """Two linears around a GELU."""

    def __init__(self, spec: JinaSpec) -> None:
        super().__init__()
        self.fc1 = nn.Linear(spec.hidden_size, spec.intermediate_size)
        self.fc2 = nn.Linear(spec.intermediate_size, spec.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, W) to the same shape."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


def _heads(x: Tensor, head_dim: int) -> Tensor:
    """Split (B, L, H·E) into (B, H, L, E)."""
    heads: Tensor = x.unflatten(-1, (-1, head_dim))
    return heads.transpose(1, 2)


def _turned(x: Tensor, rotary: Rotary) -> Tensor:
    """Turn the first half of the channels of (B, H, L, E) with the second."""
    cos, sin = rotary
    first, second = x.chunk(2, dim=-1)
    return x * cos[:, None] + torch.cat((-second, first), dim=-1) * sin[:, None]


def _softcapped(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, cap: float
) -> Tensor:
    """Attention over (B, H, L, E) whose scores stay between -cap and cap: no kernel has that.

    mask: as for a layer.
    """
    if mask is None:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    # In one expression, so that nothing of it is held longer than it is used.
    return (
        (torch.tanh(q @ k.transpose(2, 3) * scale / cap) * cap)
        .masked_fill(~mask, -math.inf)
        .float()
        .softmax(dim=-1)
        .to(v.dtype)
    ) @ v


def _begin(module: nn.Module) -> None:
    """Give the weights of a linear what training starts from."""
    if isinstance(module, nn.Linear) and not module.weight.is_meta:
        nn.init.normal_(module.weight, std=INITIAL)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@dataclass(frozen=True, slots=True)
class Conditioning:
    """One text, encoded: `tokens` (L, gemma width), and `pooled` (jina width,) if it is taken."""

    tokens: Tensor
    pooled: Tensor | None


class GemmaEncoder(nn.Module):
    """Gemma up to its last layer but one, without the final norm.

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
