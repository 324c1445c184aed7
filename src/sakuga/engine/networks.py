"""The four networks of a checkpoint in the host's memory, each loaded when it is first needed.

Weights that need no change stay views of their mapped files, so that a network that has been
loaded costs memory only once it is read, and none that the system could not take back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from sakuga.adapters.apply import Adapted, apply_adapters
from sakuga.adapters.fit import Fit, fingerprint
from sakuga.checkpoint.bind import bind
from sakuga.checkpoint.folder import Checkpoint
from sakuga.memory.device import DTYPES
from sakuga.memory.stages import STAGES, Stage
from sakuga.model.nextdit import NextDiT
from sakuga.model.spec import AUTOENCODER, TEXT_ENCODER, TEXT_ENCODER_2, TRANSFORMER
from sakuga.model.text import GemmaEncoder, JinaEncoder
from sakuga.model.vae import VAE
from sakuga.weights.formats import FORMATS
from sakuga.weights.stored import keep_stored

BUILDERS: Mapping[str, Any] = {
    TEXT_ENCODER.name: GemmaEncoder,
    TEXT_ENCODER_2.name: JinaEncoder,
    TRANSFORMER.name: NextDiT,
    AUTOENCODER.name: VAE,
}


class Networks:
    """The networks of a checkpoint, which compute in `dtype`, of `memory.device.DTYPES`.

    One variant of each is kept: the one last asked for. folded: matrices in GGUF's blocks stay
    in their file until they are read, for networks that are copied before they compute.
    """

    def __init__(self, checkpoint: Checkpoint, dtype: str, *, folded: bool = False) -> None:
        self.checkpoint, self.dtype, self.folded = checkpoint, dtype, folded
        self._loaded: dict[str, tuple[tuple[str, str], nn.Module]] = {}
        self._fits: tuple[Fit, ...] = ()
        self._fingerprint: tuple[object, ...] = ()
        self._adapted: Adapted | None = None

    def __getitem__(self, component: str) -> Any:
        """A network by its component's name, with its weights as it computes with them."""
        return self.of(next(one for one in STAGES if one.component.name == component))

    def of(self, stage: Stage, form: str | None = None, dtype: str | None = None) -> Any:
        """The network of a stage, the matrices of its blocks stored in `form`.

        form: a storage format; None for what it computes in. dtype: of the request, by
        default this object's. Raises as `checkpoint.bind.bind`.
        """
        name, compute = stage.component.name, stage.compute(dtype or self.dtype)
        variant = (form or compute, compute)
        if self._loaded.get(name, (None,))[0] != variant:
            self._loaded.pop(name, None)  # before the next is made: not both at once
            self._loaded[name] = variant, self._load(name, *variant)
        return self._loaded[name][1]

    def has(self, fits: Sequence[Fit]) -> bool:
        """Whether these very adapters, from files as they are now, change the transformer."""
        return self._fingerprint == fingerprint(fits)

    def adapt(self, fits: Sequence[Fit]) -> None:
        """Let adapters change the transformer, instead of those before.

        The transformer's tensors have to be the host's. No file of the model is opened again.
        Raises CorruptFile where a factor is not finite; the transformer is then as without any.
        """
        if self.has(fits):
            return
        if self._adapted:
            self._adapted.remove()
        self._adapted, self._fits, self._fingerprint = None, (), ()
        if fits and TRANSFORMER.name in self._loaded:
            self._adapted = apply_adapters(self._loaded[TRANSFORMER.name][1], fits)
        self._fits, self._fingerprint = tuple(fits), fingerprint(fits)

    def _load(self, name: str, form: str, compute: str) -> nn.Module:
        part = getattr(self.checkpoint, name)
        with torch.device("meta"):
            module: nn.Module = BUILDERS[name](part.spec)
            if form != compute:
                keep_stored(module, FORMATS[form])
        # Layouts name what a tower holds, which its encoder wraps.
        inner = module.model if isinstance(module, GemmaEncoder | JinaEncoder) else module
        bind(inner, part, dtype=DTYPES[compute], folded=self.folded)
        module.eval().requires_grad_(False)
        if name == TRANSFORMER.name and self._fits:
            self._adapted = apply_adapters(module, self._fits)
        return module
