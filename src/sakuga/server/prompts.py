"""The routes about prompts alone."""

from __future__ import annotations

from fastapi import APIRouter

from sakuga.api.engine_spec import EngineSpec


def router(spec: EngineSpec) -> APIRouter:
    """The routes, for prompts of the model of a spec."""
    return APIRouter(prefix="/sakuga/v1", tags=[spec.source or ""])
