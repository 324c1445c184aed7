"""Where to compute, and in what: the words of --device and --dtype as torch has them."""

from __future__ import annotations

import torch

from sakuga.errors import RequestError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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
        known = f"Known: auto, {', '.join(DTYPES)}."
        raise RequestError("a dtype must be a known one", repr(name), known)
    return name
