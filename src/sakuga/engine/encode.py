"""From texts to conditioning: found in a cache, or made by running both encoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from sakuga.api.events import Encoded, Warned
from sakuga.api.receipt import StagePlan
from sakuga.engine.embeddings import EmbeddingCache, EmbeddingKey
from sakuga.engine.networks import Networks
from sakuga.engine.run import Events, Run
from sakuga.engine.runner import Runner, check_finite
from sakuga.memory.device import DTYPES, Device
from sakuga.memory.stages import GEMMA, JINA, Stage
from sakuga.model.text import Conditioning, GemmaEncoder, JinaEncoder

# Looked up on the host, or passed through the device layer by layer.
NOT_LENT = frozenset({"embed_tokens", "word_embeddings", "layers"})


@dataclass(frozen=True, slots=True)
class EncodeInputs:
    """An encoder, the texts it reads, (1, L) each, and how many of its layers stay."""

    run: Run
    stage: Stage
    encoder: GemmaEncoder | JinaEncoder
    ids: list[Tensor]
    resident: int


def prepare(
    networks: Networks, run: Run, stage: Stage, texts: Sequence[tuple[int, ...]], how: StagePlan
) -> EncodeInputs:
    """On the host: the network as planned, and what it reads."""
    encoder = networks.of(stage, how.weights, how.dtype)
    return EncodeInputs(run, stage, encoder, [torch.tensor([one]) for one in texts], how.resident)


def encode(inputs: EncodeInputs, device: Device) -> Events[list[Tensor]]:
    """Features of each text, on the host; each unpadded, so that none depends on another."""
    encoder = inputs.encoder
    with (
        device.lend(encoder.model, NOT_LENT),
        device.stream(list(encoder.model.layers), inputs.resident) as layers,
    ):
        features = [one[0] for one in encoder.encode(inputs.ids, layers, device.where)]
    check_finite(inputs.run, inputs.stage.name, *features)
    yield from ()  # nothing happens meanwhile
    return [device.to_host(one) for one in features]


class TextEncoders:
    """Runs the encoders of a model over what is not in `cache`; digest: how a file is hashed."""

    def __init__(
        self,
        networks: Networks,
        runner: Runner,
        cache: EmbeddingCache | None,
        digest: Callable[[Path], str],
    ) -> None:
        self.networks, self.runner, self.cache, self.digest = networks, runner, cache, digest

    def read(self, run: Run) -> Events[list[Conditioning]]:
        """Both sides of the guidance; no negative where guidance does not need one."""
        tokens = yield from self._features(run, GEMMA)
        pooled = yield from self._features(run, JINA)
        if run.request.uncond == "keep-pooled":
            pooled = pooled * len(tokens)
        yield Encoded(run.texts.counts)
        return [Conditioning(*side) for side in zip(tokens, pooled, strict=True)]

    def _features(self, run: Run, stage: Stage) -> Events[list[Tensor]]:
        """What an encoder makes of each text, on the host; it reads only what is not kept."""
        texts = run.texts.ids[stage.name]
        found = {ids: self._kept(stage, ids, run.stages[stage.name]) for ids in texts}
        missing = [ids for ids, features in found.items() if features is None]
        if missing:
            prepared = partial(prepare, self.networks, run, stage, missing)
            made = yield from self.runner.run(run, stage, prepared, encode)
            for ids, features in zip(missing, made, strict=True):
                found[ids] = features
                trouble = self._keep(stage, ids, run.stages[stage.name], features)
                if trouble:
                    yield Warned("cache", trouble)
        return [kept for ids in texts if (kept := found[ids]) is not None]

    def _kept(self, stage: Stage, ids: tuple[int, ...], how: StagePlan) -> Tensor | None:
        """What the cache has for a text."""
        if self.cache is None:
            return None
        found = self.cache.get(self._key(stage, ids, how))
        return None if found is None else found[0]

    def _keep(
        self, stage: Stage, ids: tuple[int, ...], how: StagePlan, features: Tensor
    ) -> str | None:
        """Keep what was made of a text; what to say where that is not possible."""
        if self.cache is None:
            return None
        return self.cache.put(self._key(stage, ids, how), (features,))

    def _key(self, stage: Stage, ids: tuple[int, ...], how: StagePlan) -> EmbeddingKey:
        part = getattr(self.networks.checkpoint, stage.component.name)
        return EmbeddingKey.of(
            stage.name, ids, weights=part.store.sha256(self.digest), storage=how.weights,
            compute=DTYPES[how.dtype], device=self.runner.device.where,
            threads=self.runner.device.threads,
            mode=f"{part.spec} {part.match}",
        )  # fmt: skip
