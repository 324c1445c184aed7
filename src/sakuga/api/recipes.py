"""Settings for whole drawings, as they are known from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """A set of values found in the wild, and where."""

    source: str
    values: Mapping[str, str | int | float]


RECIPES: Mapping[str, Recipe] = {
    "comfy": Recipe(
        "ComfyUI's official template for NewBie-image-Exp0.1",
        {"solver": "res_multistep", "steps": 20, "guidance": 5.5, "shift": 6.0,
         "schedule": "shifted", "text_mode": "comfy"},
    ),
    "demo": Recipe(
        "demo.py of NewBieAI-Lab/NewBie-image-Exp0.1 (18 grid points are 17 intervals)",
        {"solver": "midpoint", "steps": 17, "guidance": 5.0, "shift": 6.0,
         "schedule": "shifted", "truncation": 0.25, "renorm": 0.0},
    ),
    "wumingdao": Recipe(
        "WuMingDao/newbie-image-generator, without its RescaleCFG",
        {"solver": "res_multistep", "steps": 28, "guidance": 4.5, "shift": 6.0,
         "schedule": "linear_quadratic", "text_mode": "comfy"},
    ),
}  # fmt: skip
