"""One picture in one line: what `sakuga.draw` and `sakuga.open` are."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import torch

from sakuga.api.engine_spec import Budget, EngineSpec, as_model
from sakuga.api.events import Result
from sakuga.api.options import keywords
from sakuga.api.request import Request, as_request
from sakuga.engine.engine import Engine


@overload
def draw(
    prompt: str,
    *,
    negative: str = "",
    seed: int | None = None,
    width: int | None = None,
    height: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    model: str | Path = "chibi",
) -> Result: ...
@overload
def draw(
    prompt: Request,
    *,
    negative: str = "",
    seed: int | None = None,
    width: int | None = None,
    height: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    model: str | Path = "chibi",
) -> Result | list[Result]: ...
@keywords(" Give a Request for more.")
def draw(
    prompt: str | Request,
    *,
    negative: str = "",
    seed: int | None = None,
    width: int | None = None,
    height: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    model: str | Path = "chibi",
) -> Result | list[Result]:
    """Draw a prompt, or a Request with what else is given changed: a list if it asks for several.

    width, height: pixels; what is None is the model's choice, the seed random. The engine of
    the model drawn with last stays open, and draws one picture after the other, whichever
    threads ask. Raises SakugaError, such as RequestError.
    """
    given: dict[str, Any] = {
        "negative": negative or None, "seed": seed, "width": width, "height": height,
        "steps": steps, "guidance": guidance,
    }  # fmt: skip
    request = replace(
        as_request(prompt), **{name: one for name, one in given.items() if one is not None}
    )
    return _engine(model).draw(request)


@keywords(" Engine.open takes an EngineSpec with more, and a Request has lora=.")
def open(
    model: str | Path = "chibi", *, device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto", vram: str = "auto", threads: int | None = None,
    cache: str | Path | None = None,
) -> Engine:  # fmt: skip
    """An engine for a model by its name or folder; `Engine.open` takes an EngineSpec with more.

    Raises ModelNotFound, WeightsError, RequestError.
    """
    return Engine.open(
        EngineSpec(
            as_model(model),
            device=str(device),
            dtype=str(dtype).removeprefix("torch."),
            threads=threads,
            cache=None if cache is None else str(cache),
            budget=Budget(vram=vram),
        )
    )


@lru_cache(maxsize=1)
def _engine(model: str | Path) -> Engine:
    return Engine.open(EngineSpec(as_model(model), wait=3600))
