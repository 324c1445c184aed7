"""The four networks of a checkpoint in the host's memory, each loaded when it is first needed.

Weights that need no change stay views of their mapped files, so that a network that has been
loaded costs memory only once it is read, and none that the system could not take back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from sakuga.adapters.apply import apply_adapters
from sakuga.adapters.fit import Fit
from sakuga.checkpoint.bind import bind
from sakuga.checkpoint.folder import Checkpoint
from sakuga.memory.costs import stage_dtype
from sakuga.memory.devices import DTYPES
from sakuga.model.nextdit import NextDiT
from sakuga.model.text import GemmaEncoder, JinaEncoder
from sakuga.model.vae import VAE
from sakuga.weights.formats import FORMATS
from sakuga.weights.stored import keep_stored

BUILDERS: Mapping[str, Any] = {
    "text_encoder": GemmaEncoder,
    "text_encoder_2": JinaEncoder,
    "transformer": NextDiT,
    "vae": VAE,
}
ENCODERS = ("text_encoder", "text_encoder_2")
STAGES = {"gemma": "text_encoder", "jina": "text_encoder_2", "denoise": "transformer",
          "decode": "vae"}  # fmt: skip


class Models:
    """Networks by component name ("transformer", "vae", ...) that compute in `dtype`.

    dtype: of `devices.DTYPES`. One variant of each is kept: the one last asked for. adapters:
    what changes the transformer, in order. folded: matrices in GGUF's blocks stay in their file
    until they are read, for networks that are copied before they compute.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        dtype: str,
        adapters: Sequence[Fit] = (),
        *,
        folded: bool = False,
    ) -> None:
        self.checkpoint, self.dtype, self.adapters = checkpoint, dtype, tuple(adapters)
        self.folded = folded
        self._loaded: dict[str, tuple[tuple[str, str], nn.Module]] = {}

    def __getitem__(self, name: str) -> Any:
        """A network with its weights as it computes with them."""
        (stage,) = (stage for stage, component in STAGES.items() if component == name)
        return self.for_stage(stage)

    def for_stage(self, stage: str, form: str | None = None, dtype: str | None = None) -> Any:
        """The network of a stage, the matrices of its blocks stored in `form`.

        form: a storage format; None for what it computes in. dtype: of the request, by
        default this object's. Raises as `checkpoint.bind.bind`.
        """
        name, compute = STAGES[stage], stage_dtype(stage, dtype or self.dtype)
        variant = (form or compute, compute)
        if self._loaded.get(name, (None,))[0] != variant:
            self._loaded.pop(name, None)  # before the next is made: not both at once
            self._loaded[name] = variant, self._load(name, *variant)
        return self._loaded[name][1]

    def _load(self, name: str, form: str, compute: str) -> nn.Module:
        part = getattr(self.checkpoint, name)
        with torch.device("meta"):
            module = BUILDERS[name](part.spec)
            if form != compute:
                keep_stored(module, FORMATS[form])
        # Layouts name what a tower holds, which its encoder wraps.
        inner = module.model if name in ENCODERS else module
        bind(inner, part, dtype=DTYPES[compute], folded=self.folded)
        module.eval().requires_grad_(False)
        if name == "transformer":
            apply_adapters(module, self.adapters)
        return module
