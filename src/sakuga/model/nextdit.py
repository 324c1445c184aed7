"""The transformer: Next-DiT (Lumina 2, arXiv 2503.21758), with a pooled-text branch or without.

A segment is one image with its caption. Captions pass the context refiner once per
prompt; at every step the latents pass the noise refiner, then caption and image tokens
of each segment run through the joint layers side by side. Time, and the pooled text
vector if there is one, modulate everything but the captions.

State-dict names are those of the original checkpoint, whose `norm_final.weight` was
never used and has no place here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sakuga.model.layers import Positions, Segments, attention, biased, rotate
from sakuga.model.packing import Latents, Packing, packing_of, patchify, text_positions, unpatchify
from sakuga.model.spec import NextDiTSpec

TIME_FREQUENCIES = 128
FINE_EPS = 1e-6  # pooled norm, final norm


class Attention(nn.Module):
    """Grouped-query attention with normalised, rotated queries and keys."""

    def __init__(self, spec: NextDiTSpec) -> None:
        super().__init__()
        self.heads = (spec.n_heads, spec.n_kv_heads, spec.n_kv_heads)
        self.head_dim = spec.head_dim
        self.qkv = nn.Linear(spec.dim, sum(self.heads) * spec.head_dim, bias=False)
        self.out = nn.Linear(spec.dim, spec.dim, bias=False)
        self.q_norm = nn.RMSNorm(spec.head_dim, eps=spec.qk_norm_eps)
        self.k_norm = nn.RMSNorm(spec.head_dim, eps=spec.qk_norm_eps)

    def forward(self, x: Tensor, positions: Positions) -> Tensor:
        """Mix the tokens of each segment: pack (..., D) to pack (..., D)."""
        q, k, v = self.qkv(x).unflatten(-1, (-1, self.head_dim)).split(self.heads, dim=-2)
        q = rotate(self.q_norm(q), positions.cos, positions.sin)
        k = rotate(self.k_norm(k), positions.cos, positions.sin)
        if positions.bias is None:
            mixed = attention(q, k, v, positions.segments)
        else:
            mixed = biased(q, k, v, positions.bias, positions.segments)
        out: Tensor = self.out(mixed)
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


@dataclass(frozen=True, slots=True)
class Modulations:
    """What time and the pooled vector do to each block: (S, 4·D) each, (S, D) at the end."""

    blocks: tuple[Tensor, ...]
    final: Tensor

    def rows(self, index: Tensor) -> Modulations:
        """Those of the segments that `index` (S,) names, in its order."""
        return Modulations(tuple(one[index] for one in self.blocks), self.final[index])


@dataclass(frozen=True, slots=True)
class Group:
    """Segments that pass each block together: latents, captions (T, D) and their packing."""

    latents: Latents
    caption: Tensor
    packing: Packing
    modulations: Modulations


class NextDiT(nn.Module):
    """Predicts the velocity from noise to picture.

    `caption` once per prompt, then `forward` once per evaluation. `velocity` is
    `forward` with the packing already made: the part to hand to torch.compile.
    """

    def __init__(self, spec: NextDiTSpec) -> None:
        super().__init__()
        self.spec = spec
        self.x_embedder = nn.Linear(spec.patch_size**2 * spec.in_channels, spec.dim)
        self.noise_refiner = nn.ModuleList(
            TransformerBlock(spec) for _ in range(spec.n_refiner_layers)
        )
        self.context_refiner = nn.ModuleList(
            RefinerBlock(spec) for _ in range(spec.n_refiner_layers)
        )
        self.t_embedder = TimestepEmbedder(spec)
        if spec.clip_text_dim:
            self.clip_text_pooled_proj = nn.Sequential(
                nn.RMSNorm(spec.clip_text_dim, eps=FINE_EPS),
                nn.Linear(spec.clip_text_dim, spec.clip_text_dim),
            )
            self.time_text_embed = nn.Sequential(
                nn.SiLU(), nn.Linear(spec.cond_dim + spec.clip_text_dim, spec.cond_dim)
            )
        self.cap_embedder = nn.Sequential(
            nn.RMSNorm(spec.cap_feat_dim, eps=spec.norm_eps),
            nn.Linear(spec.cap_feat_dim, spec.dim),
        )
        self.layers = nn.ModuleList(TransformerBlock(spec) for _ in range(spec.n_layers))
        self.final_layer = FinalLayer(spec)
        # A tensor on the meta device has no values to set, yet torch would load Dynamo for it.
        if not self.x_embedder.weight.is_meta:
            _initialise(self)

    def caption(self, features: Tensor, segments: Segments) -> Tensor:
        """Embed and refine captions once per prompt: (T, cap_feat_dim) to (T, D)."""
        positions = text_positions(self.spec, segments.lengths)
        return self.refine(features, positions.to(features.device))

    def refine(self, features: Tensor, positions: Positions) -> Tensor:
        """`caption` with its positions already made."""
        return self.refine_each([(features, positions)])[0]

    def refine_each(
        self,
        texts: Sequence[tuple[Tensor, Positions]],
        blocks: Iterable[RefinerBlock] | None = None,
    ) -> list[Tensor]:
        """`refine` several packs in one pass: each block takes them in turn.

        `blocks`: the context refiner's, from wherever they come, by default where they lie.
        """
        states = [
            positions.segments.pack(self.cap_embedder(features)) for features, positions in texts
        ]
        for block in self.context_refiner if blocks is None else blocks:
            states = [block(x, positions) for x, (_, positions) in zip(states, texts, strict=True)]
        pairs = zip(states, texts, strict=True)
        return [positions.segments.unpack(x) for x, (_, positions) in pairs]

    def forward(
        self,
        latents: Latents,
        t: Tensor,
        caption: Tensor,
        segments: Segments,
        pooled: Tensor | None,
    ) -> Latents:
        """Predict the velocity of each latent.

        `latents`: (S, C, h, w), or S tensors (C, h, w) of any sizes, multiples of the
        patch. `t`: (S,), 0 for noise to 1 for picture. `caption`: (T, D) from `caption`,
        laid out by `segments`. `pooled`: (S, clip_text_dim), or None to condition on
        time alone. The result has the form of `latents`.
        """
        sizes = [(latent.shape[-2], latent.shape[-1]) for latent in latents]
        packing = packing_of(self.spec, segments.lengths, sizes, caption.device)
        return self.velocity(latents, t, caption, packing, pooled)

    def velocity(
        self, latents: Latents, t: Tensor, caption: Tensor, packing: Packing, pooled: Tensor | None
    ) -> Latents:
        """`forward` with its packing already made."""
        group = Group(latents, caption, packing, self.modulations(t, pooled))
        return self.denoise([group])[0]

    def modulations(
        self, t: Tensor, pooled: Tensor | None, heads: Iterable[nn.Module] | None = None
    ) -> Modulations:
        """Compute what (S,) times and (S, clip_text_dim) vectors do to each block.

        `heads`: this network's, from wherever they come, by default where they lie.
        """
        cond = self.condition(t, pooled)
        *blocks, final = [head(cond) for head in (self.heads if heads is None else heads)]
        return Modulations(tuple(blocks), final)

    def condition(self, t: Tensor, pooled: Tensor | None) -> Tensor:
        """Join time and pooled text into one vector per segment, (S, cond_dim)."""
        time: Tensor = self.t_embedder(t)
        if pooled is None:
            return time
        both = torch.cat((time, self.clip_text_pooled_proj(pooled)), dim=-1)
        out: Tensor = self.time_text_embed(both)
        return out

    @property
    def heads(self) -> tuple[nn.Module, ...]:
        """What makes the modulation of each of `blocks`, then that of the final layer."""
        blocks = (block.adaLN_modulation for block in self.blocks)
        return (*blocks, self.final_layer.adaLN_modulation)

    @property
    def blocks(self) -> tuple[TransformerBlock, ...]:
        """The modulated blocks in the order in which a picture passes them."""
        return (*self.noise_refiner, *self.layers)

    def denoise(
        self, groups: Sequence[Group], blocks: Iterable[TransformerBlock] | None = None
    ) -> list[Latents]:
        """`velocity` of groups of segments, with their modulations already made.

        Each block takes the groups in turn, so that only one has its activations at a
        time. `blocks`: those of this network from wherever they come, by default where
        they lie. The results have the form of each group's latents.
        """
        p, refiners = self.spec.patch_size, len(self.noise_refiner)
        states = [self.x_embedder(patchify(group.latents, p, group.packing)) for group in groups]
        for place, block in enumerate(self.blocks if blocks is None else blocks):
            for i, group in enumerate(groups):
                packing = group.packing
                if place == refiners:
                    states[i] = packing.join(packing.text.segments.pack(group.caption), states[i])
                positions = packing.image if place < refiners else packing.joint
                states[i] = block(states[i], positions, group.modulations.blocks[place])
        return [self._finish(x, group) for x, group in zip(states, groups, strict=True)]

    def _finish(self, x: Tensor, group: Group) -> Latents:
        packing = group.packing
        patches = self.final_layer(packing.image_part(x), packing.image, group.modulations.final)
        return unpatchify(patches, group.latents, self.spec.patch_size, packing)


def _initialise(network: NextDiT) -> None:
    """Start as DiT does (arXiv 2212.09748): every gate shut, the velocity zero."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.t_embedder.mlp:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
    for block in (*network.noise_refiner, *network.layers, network.final_layer):
        nn.init.zeros_(block.adaLN_modulation[1].weight)
    nn.init.zeros_(network.final_layer.linear.weight)
