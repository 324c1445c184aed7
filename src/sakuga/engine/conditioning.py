"""What both encoders make of the texts of a request: found in a cache, or computed now."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import Tensor

from sakuga.api.events import Encoded, Warned
from sakuga.api.receipt import StagePlan
from sakuga.engine import encode
from sakuga.engine.embeddings import EmbeddingCache, EmbeddingKey
from sakuga.engine.networks import Networks
from sakuga.engine.run import Events, Run
from sakuga.engine.runner import Runner
from sakuga.memory.devices import DTYPES
from sakuga.memory.stages import GEMMA, JINA, Stage
from sakuga.model.text import Conditioning


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
            prepare = partial(encode.prepare, self.networks, run, stage, missing)
            made = yield from self.runner.run(run, stage, prepare, encode.encode)
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
            mode=f"{part.spec} {part.match}",
        )  # fmt: skip
