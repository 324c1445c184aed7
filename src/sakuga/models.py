"""The four networks of a checkpoint in the host's memory, each loaded when it is first needed.

Weights that need no change stay views of their mapped files, so that a network that has been
loaded costs memory only once it is read, and none that the system could not take back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from sakuga.errors import RequestError
from sakuga.memory.costs import stage_dtype
from sakuga.model.nextdit import NextDiT
from sakuga.model.stored import keep_stored
from sakuga.model.text import GemmaEncoder, JinaEncoder
from sakuga.model.vae import VAE
from sakuga.weights.adapter_fit import Fit
from sakuga.weights.bind import bind
from sakuga.weights.checkpoint import Checkpoint
from sakuga.weights.formats import FORMATS
from sakuga.weights.lora import apply_adapters

BUILDERS: Mapping[str, Any] = {
    "text_encoder": GemmaEncoder,
    "text_encoder_2": JinaEncoder,
    "transformer": NextDiT,
    "vae": VAE,
}
ENCODERS = ("text_encoder", "text_encoder_2")
STAGES = {"gemma": "text_encoder", "jina": "text_encoder_2", "denoise": "transformer",
          "decode": "vae"}  # fmt: skip
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Models:
    """Networks by component name ("transformer", "vae", ...) that compute in `dtype`.

    dtype: a name of `DTYPES`. One variant of each is kept: the one last asked for. adapters:
    what changes the transformer, in order.
    """

    def __init__(
        self, checkpoint: Checkpoint, dtype: str, adapters: Sequence[Fit] = ()
    ) -> None:
        self.checkpoint, self.dtype, self.adapters = checkpoint, dtype, tuple(adapters)
        self._loaded: dict[str, tuple[tuple[str, str], nn.Module]] = {}

    def __getitem__(self, name: str) -> Any:
        """A network with its weights as it computes with them."""
        (stage,) = (stage for stage, component in STAGES.items() if component == name)
        return self.for_stage(stage)

    def for_stage(self, stage: str, form: str | None = None, dtype: str | None = None) -> Any:
        """The network of a stage, the matrices of its blocks stored in `form`.

        form: a storage format; None for what it computes in. dtype: of the request, by
        default this object's. Raises as `weights.bind.bind`.
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
        # Layouts name what transformers' own model holds, which ours wraps.
        inner = module.model if name in ENCODERS else module
        bind(inner, part.store, match=part.match, dtype=DTYPES[compute])
        module.eval().requires_grad_(False)
        if name == "transformer":
            apply_adapters(module, self.adapters)
        return module


def choose_device(name: str) -> torch.device:
    """auto, cpu, cuda or cuda:N as a device. Raises RequestError if it is not there."""
    cards = torch.cuda.device_count() if name != "cpu" else 0
    if name == "auto":
        return torch.device("cuda:0" if cards else "cpu")
    known = ("cpu", "cuda", *(f"cuda:{i}" for i in range(cards)))
    if name not in known or (name == "cuda" and not cards):
        found = f"{cards} CUDA devices are here." if cards else "No CUDA device is here."
        raise RequestError("a device must be auto, cpu, cuda or cuda:N", repr(name), found)
    return torch.device("cuda:0" if name == "cuda" else name)


def choose_dtype(name: str, device: torch.device) -> str:
    """auto, float32, bfloat16 or float16 as a name of `DTYPES`. Raises RequestError on another.

    auto is bfloat16 on cards that compute in it natively (since Ampere), else float32.
    """
    if name == "auto":
        native = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8
        return "bfloat16" if native else "float32"
    if name not in DTYPES:
        raise RequestError("a dtype must be a known one", repr(name), f"Known: auto, "
                           f"{', '.join(DTYPES)}.")
    return name
