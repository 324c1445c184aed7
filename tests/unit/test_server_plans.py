"""What a drawing would cost, asked before it is drawn: nothing is queued, refusals say why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

fastapi = pytest.importorskip("fastapi", reason="the extra `server` is not installed")

from fastapi.testclient import TestClient  # noqa: E402

from sakuga.api.engine_spec import Budget, EngineSpec  # noqa: E402
from sakuga.errors import BudgetTooSmall, RequestError  # noqa: E402
from sakuga.server import plans  # noqa: E402
from sakuga.server.service import Service  # noqa: E402
from sakuga.server.settings import ServerSettings  # noqa: E402

ROUTE = "/sakuga/v1/plan"


def service_of(folder: Path, vram: str) -> Service:
    """A service that is not started."""
    return Service(ServerSettings(store=str(folder)), EngineSpec(budget=Budget(vram=vram)))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = service_of(tmp_path, "120MB")
    yield made
    made.database.close()


@pytest.fixture
def client(service: Service) -> TestClient:
    return client_of(service)


def client_of(service: Service) -> TestClient:
    app = fastapi.FastAPI()
    app.include_router(plans.router(service))
    return TestClient(app)


def test_a_plan_tells_seconds_memory_and_means(client: TestClient, service: Service) -> None:
    said = client.post(ROUTE, json={"request": {"prompt": "1girl"}}).json()
    assert said["seconds"] > 0
    assert 0 < said["peak_bytes"] <= said["reserved_bytes"] <= said["limit_bytes"] == 120_000_000
    assert said["rung"].startswith("float32")
    assert [one["stage"] for one in said["stages"]] == ["gemma", "jina", "denoise", "decode"]
    assert said["rungs"]
    assert service.queue.waiting == 0


def test_more_costs_more(client: TestClient) -> None:
    def seconds(**fields: int) -> float:
        asked = {"request": {"prompt": "1girl", "width": 128, "height": 128, **fields}}
        return float(client.post(ROUTE, json=asked).json()["seconds"])

    assert seconds(steps=2) < seconds(steps=8) < seconds(steps=8, number=4)


def test_what_cannot_be_drawn_has_no_plan(client: TestClient) -> None:
    with pytest.raises(RequestError, match="steps must be 1 to 200"):
        client.post(ROUTE, json={"request": {"prompt": "1girl", "steps": 900}})
    assert client.post(ROUTE, json={"request": {"prompt": "a"}, "more": 1}).status_code == 422


def test_a_budget_that_no_plan_keeps_to_says_the_smallest(tmp_path: Path) -> None:
    service = service_of(tmp_path, "1MB")
    with pytest.raises(BudgetTooSmall):
        client_of(service).post(ROUTE, json={"request": {"prompt": "1girl"}})
    service.database.close()
