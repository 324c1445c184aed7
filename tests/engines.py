"""Engines for tests: on the CPU unless told otherwise, with failures on order."""

from __future__ import annotations

from pathlib import Path

from sakuga.api.engine_spec import Budget, EngineSpec
from sakuga.engine.engine import Engine
from sakuga.engine.faults import Faults


def open_engine(
    model: str | Path = "chibi",
    *,
    device: str = "cpu",
    dtype: str = "auto",
    budget: Budget | None = None,
    cache: Path | None = None,
    faults: str = "",
    lora: tuple[str, ...] = (),
) -> Engine:
    """An engine for a model; `faults`: a plan of failures, see `engine.faults`."""
    spec = EngineSpec(
        str(model), device=device, dtype=dtype, budget=budget or Budget(), lora=lora,
        cache=None if cache is None else str(cache),
    )  # fmt: skip
    return Engine.open(spec, observers=(Faults(faults).strike,) if faults else ())
