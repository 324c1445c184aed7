"""Jobs and pictures, as the page and scripts ask for them."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from servers import RunningServer, events_of, wait_for

JOBS, PICTURES = "/sakuga/v1/jobs", "/sakuga/v1/pictures"


def test_a_job_is_watched_from_its_beginning_to_its_end(server: RunningServer) -> None:
    first = server.submit(steps=6)
    id = server.submit(steps=3, seed=11)
    told = list(events_of(server, f"{JOBS}/{id}/events"))
    names = [name for name, _ in told]
    assert names[0] == "state"
    assert names[-1] == "done"
    states = [data["state"] for name, data in told if name == "state"]
    assert states in (["queued", "running", "finished"], ["running", "finished"])
    steps = [data["step"] for name, data in told if name == "progress"]
    assert steps == sorted(steps)
    previews = [data for name, data in told if name == "preview"]
    assert previews
    image = Image.open(io.BytesIO(base64.b64decode(previews[0]["b64"])))
    assert image.size == (previews[0]["width"], previews[0]["height"])
    done = told[-1][1]
    assert (done["state"], done["position"], done["attempts"]) == ("finished", None, 1)
    assert [one["seed"] for one in done["pictures"]] == [11]
    assert server.ended(first)["state"] == "finished"
    again = list(events_of(server, f"{JOBS}/{id}/events"))
    assert again[-1] == ("done", done)


def test_jobs_wait_by_priority_and_can_be_cancelled(server: RunningServer) -> None:
    under_way = server.submit(steps=60)
    server.begun(under_way)
    normal, high, low = (server.submit(priority=one) for one in ("normal", "high", "low"))
    places = {id: server.job(id)["position"] for id in (high, normal, low)}
    assert places == {high: 0, normal: 1, low: 2}
    moved = server.ask("PATCH", f"{JOBS}/{low}", {"priority": "high"}).json
    assert (moved["priority"], moved["position"]) == ("high", 1)
    listed = server.ask("GET", f"{JOBS}?state=queued,running&limit=3").json
    assert [job["id"] for job in listed["jobs"]] == [low, high, normal]
    assert listed["next"] == normal
    assert (listed["counts"]["queued"], listed["paused"]) == (3, None)
    for id in (normal, under_way):
        assert server.ask("DELETE", f"{JOBS}/{id}").json["state"] == "cancelled"
    assert server.ask("PATCH", f"{JOBS}/{normal}", {"priority": "low"}).status == 409
    assert [server.ended(id)["state"] for id in (high, low)] == ["finished", "finished"]
    assert server.ask("DELETE", f"{JOBS}/{high}").json["state"] == "finished"


def test_the_latest_wins(server: RunningServer) -> None:
    first = server.submit(steps=60)
    server.begun(first)
    body = {"request": {"prompt": "1girl", "width": 128, "height": 128, "steps": 1}}
    second = server.ask("POST", JOBS, {**body, "replaces": first}).json["id"]
    assert server.ended(first)["state"] == "cancelled"
    assert server.ended(second)["state"] == "finished"


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"request": {"prompt": "a", "width": 130}}, 400, "multiple of 16"),
        ({"request": {"prompt": "a", "stepz": 3}}, 400, "steps"),
        ({"request": {}}, 400, "prompt"),
        ({"request": {"prompt": "a", "strength": 0.5}}, 400, "image"),
        ({"request": {"prompt": "a", "image": "/etc/passwd"}}, 400, "data URL"),
        ({"request": {"prompt": "a", "image": "http://localhost/x"}}, 400, "data URL"),
        ({"request": {"prompt": "a", "image": "data:;base64,PHN2Zz4="}}, 400, "PNG"),
        ({"request": {"prompt": "a", "mask": "/etc/passwd"}}, 400, "data URL"),
        ({"request": {"prompt": "a", "lora": ["/etc/passwd:1"]}}, 400, "adapter"),
        ({"request": {"prompt": "a", "image": "picture:" + "0" * 26 + "-0"}}, 404, "picture"),
        ({"request": {"prompt": "a"}, "priority": "urgent"}, 400, "priority"),
        ({"request": {"prompt": "a"}, "wish": 1}, 400, "wish"),
        ({"request": {"prompt": "a"}, "replaces": "nothing"}, 404, "job"),
        ({"request": {"prompt": '<!ENTITY a "b">'}}, 400, "ENTITY"),
        ([], 400, "body"),
    ],
)
def test_a_refusal_says_the_rule_what_was_got_and_the_fix(
    server: RunningServer, body: Any, status: int, told: str
) -> None:
    answer = server.ask("POST", JOBS, body)
    assert answer.status == status, answer.body
    error = answer.json["error"]
    assert set(error) == {"code", "message", "rule", "got", "fix", "request_id"}
    assert told in error["message"]
    assert error["request_id"] == answer.headers["x-request-id"]


def test_pictures_are_found_shown_and_removed(server: RunningServer) -> None:
    prompt = "1girl, green_hair, 100% wool_sweater"
    job = server.ended(server.submit(prompt, number=2, seed=2**40))
    first, second = job["pictures"]
    for search in ("q=100%25%20wool", "tag=green_hair&tag=1girl", f"seed={2**40}", "q=GREEN"):
        found = server.ask("GET", f"{PICTURES}?{search}&model=chibi").json
        assert first["id"] in [one["id"] for one in found["pictures"]], search
    assert server.ask("GET", f"{PICTURES}?tag=green_hair&tag=2girls").json["total"] == 0
    early = f"q=100%25%20wool&until={first['created'] - 0.001}"
    assert server.ask("GET", f"{PICTURES}?{early}").json["total"] == 0
    page = server.ask("GET", f"{PICTURES}?limit=1").json
    assert page["pictures"][0]["id"] == second["id"]
    after = server.ask("GET", f"{PICTURES}?limit=1&before={page['next']}").json
    assert after["pictures"][0]["id"] == first["id"]

    whole = server.ask("GET", f"{PICTURES}/{second['id']}").json
    assert (whole["request"]["seed"], whole["receipt"]["seed"]) == (2**40 + 1, 2**40 + 1)
    again = server.ask("POST", JOBS, {"request": whole["request"]}).json["id"]
    (redrawn,) = server.ended(again)["pictures"]
    files = [server.ask("GET", f"/{one['file']}") for one in (second, redrawn)]
    # Drawn alone, and as one of two: the same noise, and bits that batches may differ in.
    assert max(map(abs, map(int.__sub__, pixels(files[0].body), pixels(files[1].body)))) <= 4
    small = server.ask("GET", f"/{second['thumbnail']}")
    assert (small.headers["content-type"], small.body[8:12]) == ("image/webp", b"WEBP")
    download = server.ask("GET", f"/{second['file']}?download=1")
    assert "attachment" in download.headers["content-disposition"]

    ids = [first["id"], second["id"]]
    packed = server.ask("POST", f"{PICTURES}/zip", {"ids": ids})
    with zipfile.ZipFile(io.BytesIO(packed.body)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"{id}.png" for id in ids]
        assert archive.read(f"{second['id']}.png") == files[0].body
    asked = server.ask("GET", f"{PICTURES}/zip?ids={','.join(ids)}")
    assert len(asked.body) == len(packed.body)

    assert server.ask("DELETE", f"/{second['file'].removesuffix('/file')}").status == 200
    assert server.ask("GET", f"/{second['file']}").status == 404
    removed = server.ask("POST", f"{PICTURES}/delete", {"ids": [*ids, "x"]}).json
    assert removed == {"deleted": [first["id"]]}
    assert server.job(job["id"])["pictures"] == []


def pixels(png: bytes) -> bytes:
    return Image.open(io.BytesIO(png)).tobytes()


def test_a_dropped_picture_is_read(server: RunningServer) -> None:
    (drawn,) = server.ended(server.submit("1girl, hat", seed=9))["pictures"]
    png = server.ask("GET", f"/{drawn['file']}").body
    ours = {"image": "data:image/png;base64," + base64.b64encode(png).decode()}
    read = server.ask("POST", f"{PICTURES}/read", ours).json
    assert (read["kind"], read["request"]["prompt"], read["request"]["seed"]) == (
        "sakuga", "1girl, hat", 9,
    )  # fmt: skip
    file, info = io.BytesIO(), PngInfo()
    info.add_text("parameters", "a cat\nSteps: 3, Sampler: Euler, Seed: 4, Size: 128x128")
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=info)
    theirs = {"image": base64.b64encode(file.getvalue()).decode()}
    read = server.ask("POST", f"{PICTURES}/read", theirs).json
    assert (read["request"]["steps"], read["receipt"]) == (3, None)
    nothing = server.ask("POST", f"{PICTURES}/read", {"image": "data:;base64,AAAA"})
    assert nothing.status == 400
    assert "/tmp" not in nothing.body.decode()


def test_a_picture_of_the_store_is_drawn_from(server: RunningServer) -> None:
    (start,) = server.ended(server.submit(seed=3))["pictures"]
    job = server.ended(server.submit(image=f"picture:{start['id']}", strength=0.5, steps=2))
    assert job["state"] == "finished"
    assert str(server.store) not in json.dumps(job)


@pytest.mark.parametrize("id", ["..%2f..%2fqueue.sqlite3", "a" * 26 + "-0", "%00", "x;y", "..."])
def test_no_name_of_a_client_is_a_path(server: RunningServer, id: str) -> None:
    for place in (f"{PICTURES}/{id}/file", f"{PICTURES}/{id}", f"/v1/images/files/{id}.png",
                  f"/page/{id}", f"{JOBS}/{id}", f"{JOBS}/{id}/events"):  # fmt: skip
        assert server.ask("GET", place).status == 404, place


def test_the_model_is_described(server: RunningServer) -> None:
    server.ended(server.submit())  # its worker says where it computes once it is there
    (model,) = server.ask("GET", "/sakuga/v1/models").json["models"]
    assert (model["id"], model["device"], model["adapters"]) == ("chibi", "cpu", [])
    assert model["drawing"]["trained_sizes"][0] == "256x256"
    assert model["schema"]["properties"]["prompt"]["type"] == "string"
    assert str(server.store) not in json.dumps(model)


def test_health_and_what_was_counted(server: RunningServer) -> None:
    server.ended(server.submit())
    assert server.ask("GET", "/health").json == {"status": "ok"}
    wait_for(lambda: server.ask("GET", "/health/ready").status == 200, "a worker that is heard of")
    wait_for(lambda: server.ask("GET", "/health/generate").status == 200, "a picture")
    told = server.ask("GET", "/metrics").body.decode()
    for name in ("sakuga_num_queue_reqs", "sakuga_num_running_reqs", "sakuga_pictures_total",
                 'sakuga_requests_total{route="/health",status="200"}',
                 "sakuga_queue_time_seconds_bucket",
                 'sakuga_stage_latency_seconds_count{stage="encode"}'):  # fmt: skip
        assert name in told
    assert "1girl" not in told


def test_prompts_are_in_no_log(server: RunningServer) -> None:
    server.ended(server.submit("1girl, a_very_private_matter"))
    assert "private" not in "\n".join(server.lines)
