"""Upscalers for tests: real architectures, small, with random weights."""

from __future__ import annotations

import enum
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save_file


def spandrel() -> Any:
    """The library. Where torchvision is built for another torch, a stand-in has the three names
    that spandrel wants of it, for two architectures that are no upscalers."""
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError):
        for name in [one for one in sys.modules if one.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
        made = {name: ModuleType(name) for name in names}
        last: Any = made[names[-1]]
        last.InterpolationMode, last.rotate, last.normalize = (
            enum.Enum("Mode", "NEAREST"),
            None,
            None,
        )
        sys.modules.update(made)
    return importlib.import_module("spandrel")


def write(folder: Path, kind: str, **more: Any) -> Path:
    """A file of a kind of upscaler."""
    spandrel()
    torch.manual_seed(0)
    if kind == "rrdb":
        arch = importlib.import_module("spandrel.architectures.ESRGAN")
        model = arch.ESRGAN(**{"num_filters": 8, "num_blocks": 1, "scale": 4} | more)
    elif kind == "compact":
        arch = importlib.import_module("spandrel.architectures.Compact")
        model = arch.Compact(**{"num_feat": 8, "num_conv": 2, "upscale": 2} | more)
    else:
        arch = importlib.import_module("spandrel.architectures.SwinIR")
        model = arch.SwinIR(
            img_size=16,
            window_size=8,
            depths=[2],
            num_heads=[2],
            embed_dim=16,
            upscale=2,
            upsampler="pixelshuffledirect",
            resi_connection="1conv",
            mlp_ratio=2,
            img_range=1.0,
        )
    path = folder / f"{kind}.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return path
