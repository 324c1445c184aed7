"""What the transformer is made of: its blocks, the embedding of time, the final layer."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sakuga.model.layers import Positions, attention, rotate
from sakuga.model.spec import NextDiTSpec

TIME_FREQUENCIES = 128
FINE_EPS = 1e-6  # q/k norms, pooled norm, final norm; all others use spec.norm_eps


class Attention(nn.Module):
    """Grouped-query attention with normalised, rotated queries and keys."""

    def __init__(self, spec: NextDiTSpec) -> None:
        super().__init__()
        self.heads = (spec.n_heads, spec.n_kv_heads, spec.n_kv_heads)
        self.head_dim = spec.head_dim
        self.qkv = nn.Linear(spec.dim, sum(self.heads) * spec.head_dim, bias=False)
        self.out = nn.Linear(spec.dim, spec.dim, bias=False)
        self.q_norm = nn.RMSNorm(spec.head_dim, eps=FINE_EPS)
        self.k_norm = nn.RMSNorm(spec.head_dim, eps=FINE_EPS)

    def forward(self, x: Tensor, positions: Positions) -> Tensor:
        """Mix the tokens of each segment: pack (..., D) to pack (..., D)."""
        q, k, v = self.qkv(x).unflatten(-1, (-1, self.head_dim)).split(self.heads, dim=-2)
        q = rotate(self.q_norm(q), positions.cos, positions.sin)
        k = rotate(self.k_norm(k), positions.cos, positions.sin)
        out: Tensor = self.out(attention(q, k, v, positions.segments))
        return out


class FeedForward(nn.Module):
    """SwiGLU (arXiv 2002.05202)."""

    def __init__(self, spec: NextDiTSpec) -> None:
        super().__init__()
        self.w1 = nn.Linear(spec.dim, spec.ffn_dim, bias=False)
        self.w2 = nn.Linear(spec.ffn_dim, spec.dim, bias=False)
        self.w3 = nn.Linear(spec.dim, spec.ffn_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        out: Tensor = self.w2(F.silu(self.w1(x)) * self.w3(x))
        return out


class Sandwich(nn.Module):
    """What every block is made of: attention and feed-forward, each between two norms."""

    def __init__(self, spec: NextDiTSpec) -> None:
        super().__init__()
        self.attention = Attention(spec)
        self.feed_forward = FeedForward(spec)
        self.attention_norm1 = nn.RMSNorm(spec.dim, eps=spec.norm_eps)
        self.attention_norm2 = nn.RMSNorm(spec.dim, eps=spec.norm_eps)
        self.ffn_norm1 = nn.RMSNorm(spec.dim, eps=spec.norm_eps)
        self.ffn_norm2 = nn.RMSNorm(spec.dim, eps=spec.norm_eps)


class RefinerBlock(Sandwich):
    """A block without modulation, for captions."""

    def forward(self, x: Tensor, positions: Positions) -> Tensor:
        """Map a pack (..., D) to a pack (..., D)."""
        x = x + self.attention_norm2(self.attention(self.attention_norm1(x), positions))
        out: Tensor = x + self.ffn_norm2(self.feed_forward(self.ffn_norm1(x)))
        return out


class TransformerBlock(Sandwich):
    """A block that is scaled and gated by a modulation."""

    def __init__(self, spec: NextDiTSpec) -> None:
        super().__init__(spec)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(spec.cond_dim, 4 * spec.dim))

    def forward(self, x: Tensor, positions: Positions, modulation: Tensor) -> Tensor:
        """Map a pack (..., D) to a pack (..., D), given this block's (S, 4·D)."""
        scale_msa, gate_msa, scale_mlp, gate_mlp = modulation.chunk(4, dim=-1)
        # Computed once per segment, before they are repeated for each of its many tokens.
        factors = (1 + scale_msa, gate_msa.tanh(), 1 + scale_mlp, gate_mlp.tanh())
        scale_msa, gate_msa, scale_mlp, gate_mlp = map(positions.spread, factors)
        branch = self.attention(self.attention_norm1(x) * scale_msa, positions)
        x = x + gate_msa * self.attention_norm2(branch)
        branch = self.feed_forward(self.ffn_norm1(x) * scale_mlp)
        out: Tensor = x + gate_mlp * self.ffn_norm2(branch)
        return out


class FinalLayer(nn.Module):
    """From tokens back to the values of their patches."""

    def __init__(self, spec: NextDiTSpec) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(spec.dim, eps=FINE_EPS, elementwise_affine=False)
        self.linear = nn.Linear(spec.dim, spec.patch_size**2 * spec.in_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(spec.cond_dim, spec.dim))

    def forward(self, x: Tensor, positions: Positions, modulation: Tensor) -> Tensor:
        """Map a pack (..., D) to patches (..., p·p·C), given a scale (S, D)."""
        out: Tensor = self.linear(self.norm_final(x) * (1 + positions.spread(modulation)))
        return out


class TimestepEmbedder(nn.Module):
    """Sinusoids of t itself (0..1, not 0..1000), then a small MLP."""

    def __init__(self, spec: NextDiTSpec) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(2 * TIME_FREQUENCIES, spec.cond_dim),
            nn.SiLU(),
            nn.Linear(spec.cond_dim, spec.cond_dim),
        )

    def forward(self, t: Tensor) -> Tensor:
        """Map times (S,) to (S, cond_dim)."""
        steps = torch.arange(TIME_FREQUENCIES, dtype=torch.float32, device=t.device)
        frequencies = torch.exp(-math.log(10_000.0) / TIME_FREQUENCIES * steps)
        angles = t.float()[:, None] * frequencies
        waves = torch.cat((angles.cos(), angles.sin()), dim=-1)
        weight = self.mlp[0].weight
        assert isinstance(weight, Tensor)
        out: Tensor = self.mlp(waves.to(weight.dtype))
        return out
