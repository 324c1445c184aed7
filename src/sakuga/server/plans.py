"""What a drawing would take before it runs: seconds, memory, and by which means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from sakuga.api.receipt import StagePlan
from sakuga.memory.plan import MemoryPlan
from sakuga.server.desk import request_of
from sakuga.server.service import Service


class PlanBody(BaseModel):
    """A request as a job has it; nothing is drawn."""

    model_config = ConfigDict(extra="forbid")

    request: dict[str, Any]


@dataclass(frozen=True)
class PlanAnswer:
    """What a request would take on this server.

    `seconds`: as a job's, corrected by what drawings here have taken. `limit_bytes`: the budget,
    None for no limit. `rung`: how it is run, in a few words. `rungs`: why, a sentence for each
    lever.
    """

    seconds: float
    peak_bytes: int
    reserved_bytes: int
    limit_bytes: int | None
    rung: str
    rungs: list[str]
    stages: list[StagePlan]


def router(service: Service) -> APIRouter:
    """The route."""
    routes = APIRouter(prefix="/sakuga/v1", tags=["Jobs"])

    @routes.post("/plan")
    def plan(body: PlanBody) -> PlanAnswer:
        """Say what a request would cost, without queueing it."""
        made, seconds = service.desk.planned(request_of(body.request), service.spec)
        return PlanAnswer(
            seconds, made.peak_bytes, made.reserved_bytes, made.limit, _rung(made),
            [f"{one.stage}: {one.why}" for one in made.reasons], list(made.stages),
        )  # fmt: skip

    return routes


def _rung(plan: MemoryPlan) -> str:
    """How the stages that do something to save memory are run; else in which format."""
    formats = dict.fromkeys(stage.weights for stage in plan.stages)
    parts = [
        f"{name} {count}"
        for name, count in (
            ("streamed", max(stage.streamed for stage in plan.stages)),
            ("parts", max(stage.parts for stage in plan.stages)),
            ("strips", max(stage.strips for stage in plan.stages)),
        )
        if count > (name != "streamed")
    ]
    return ", ".join([*formats, *parts])
