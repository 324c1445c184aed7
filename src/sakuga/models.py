"""The four networks of a checkpoint on one device, each loaded when it is first needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from sakuga.errors import RequestError
from sakuga.model.nextdit import NextDiT
from sakuga.model.text import GemmaEncoder, JinaEncoder
from sakuga.model.vae import VAE
from sakuga.weights.bind import bind
from sakuga.weights.checkpoint import Checkpoint

BUILDERS: Mapping[str, Any] = {
    "text_encoder": GemmaEncoder,
    "text_encoder_2": JinaEncoder,
    "transformer": NextDiT,
    "vae": VAE,
}
ENCODERS = ("text_encoder", "text_encoder_2")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Models:
    """Networks by component name ("transformer", "vae", ...), in `dtype` on `device`."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        self.checkpoint, self.device, self.dtype = checkpoint, device, dtype
        self._loaded: dict[str, nn.Module] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            part = getattr(self.checkpoint, name)
            with torch.device("meta"):
                module = BUILDERS[name](part.spec)
            # Layouts name what transformers' own model holds, which ours wraps.
            inner = module.model if name in ENCODERS else module
            bind(inner, part.store, match=part.match, dtype=self.dtype_of(name),
                 device=self.device)
            self._loaded[name] = module.eval().requires_grad_(False)
        return self._loaded[name]

    def dtype_of(self, name: str) -> torch.dtype:
        """What a component computes in; only the transformer stays finite in float16."""
        half = self.dtype == torch.float16 and name != "transformer"
        return torch.float32 if half else self.dtype

    @contextlib.contextmanager
    def in_float32(self, *names: str) -> Iterator[None]:
        """Let components compute in float32 for a while."""
        for name in names:
            self[name].float()
        try:
            yield
        finally:
            for name in names:
                self[name].to(self.dtype_of(name))


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


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """auto, float32, bfloat16 or float16 as a dtype. Raises RequestError on another name.

    auto is bfloat16 on cards that compute in it natively (since Ampere), else float32.
    """
    if name == "auto":
        native = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8
        return torch.bfloat16 if native else torch.float32
    if name not in DTYPES:
        raise RequestError("a dtype must be a known one", repr(name), f"Known: auto, "
                           f"{', '.join(DTYPES)}.")
    return DTYPES[name]
