"""Who may ask a server what: names, pages, tokens, bodies."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sakuga.api.engine_spec import EngineSpec
from sakuga.server.app import guarded
from sakuga.server.service import Service
from sakuga.server.settings import ServerSettings
from servers import RunningServer

HOSTS = {"own": True, "localhost": True, "evil.example": False, "127.0.0.1.evil.example": False,
         "": False, "[::1": False}  # fmt: skip
ORIGINS = {None: True, "own": True, "null": False, "https://evil.example": False,
           "http://127.0.0.1:1": False}  # fmt: skip
SITES = {None: True, "none": True, "same-origin": True, "same-site": False, "cross-site": False}
KINDS = {"application/json": True, "application/json; charset=utf-8": True, "text/plain": False,
         "application/x-www-form-urlencoded": False, "multipart/form-data; boundary=x": False,
         None: False}  # fmt: skip
TOKEN = "a-token-of-tests"


@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH"])
def test_only_what_is_listed_passes(server: RunningServer, method: str) -> None:
    path = "/sakuga/v1/jobs/nothing" if method != "POST" else "/sakuga/v1/jobs"
    for host, origin, site, kind in itertools.product(HOSTS, ORIGINS, SITES, KINDS):
        odd = sum((not HOSTS[host], not ORIGINS[origin], not SITES[site], not KINDS[kind]))
        if odd > 1:
            continue
        headers = filled(server, host, origin, site)
        if kind is not None:
            headers["Content-Type"] = kind
        answer = server.ask(method, path, b'{"request": {}}', headers)
        passed = answer.status not in (403, 415, 421)
        assert passed == (odd == 0), (headers, answer.status)


def filled(
    server: RunningServer, host: str, origin: str | None, site: str | None
) -> dict[str, str]:
    own = {"own": f"127.0.0.1:{server.port}", "localhost": f"localhost:{server.port}"}
    name = own.get(host, host)
    headers = {"Host": name}
    if origin is not None:
        headers["Origin"] = f"http://{name}" if origin == "own" else origin
    if site is not None:
        headers["Sec-Fetch-Site"] = site
    return headers


def test_pages_of_others_read_nothing(server: RunningServer) -> None:
    cross = {"Sec-Fetch-Site": "cross-site"}
    assert server.ask("GET", "/sakuga/v1/jobs", headers=cross).status == 403
    followed = {**cross, "Sec-Fetch-Mode": "navigate"}
    assert server.ask("GET", "/", headers=followed).status == 200
    for method in ("OPTIONS", "TRACE", "PUT"):
        assert server.ask(method, "/v1/models", headers=cross).status == 405


@pytest.mark.parametrize("path", ["/", "/v1/models", "/nothing", "/sakuga/v1/jobs/nothing"])
def test_every_answer_has_the_headers(server: RunningServer, path: str) -> None:
    headers = server.ask("GET", path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-request-id"].startswith("req-")
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def test_bodies_have_a_limit(server: RunningServer) -> None:
    headers = {"Content-Type": "application/json", "Content-Length": str(10**9)}
    answer = server.ask("POST", "/v1/images/generations", b"{", headers)
    assert answer.status == 413
    assert answer.json["error"]["code"] == "too_large"
    with socket.create_connection(("127.0.0.1", server.port), 30) as endless:
        endless.sendall(
            b"POST /sakuga/v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: application/json\r\n\r\n"
        )
        piece = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
        try:
            for _ in range(64):
                endless.sendall(piece)
        except OSError:
            pass  # it has heard enough
        assert b" 413 " in endless.recv(4096)


def test_a_huge_header_is_not_read_to_its_end(server: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 30) as endless:
        endless.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * (1 << 17))
        assert b" 400 " in endless.recv(4096)
    assert server.ask("GET", "/health").status == 200


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Any]:
    """An app that wants a token, reached from anywhere; no worker runs behind it."""
    settings = ServerSettings(
        host="0.0.0.0", token=TOKEN, store=str(tmp_path), allowed_host=("draw.example",)
    )
    service = Service(settings, EngineSpec())
    yield guarded(service)
    service.close()


def answered(app: Any, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """What an app says to a GET."""
    sent: list[dict[str, Any]] = []
    named = {"host": "draw.example", **{key.replace("_", "-"): one for key, one in headers.items()}}
    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "root_path": "",
        "scheme": "http", "query_string": b"", "http_version": "1.1", "client": ("10.0.0.1", 1),
        "server": ("10.0.0.2", 80),
        "headers": [(key.encode(), one.encode("latin-1")) for key, one in named.items()],
    }  # fmt: skip

    received = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(received, {"type": "http.disconnect"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], told, b"".join(one.get("body", b"") for one in sent[1:])


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("shown", "passes"),
    [
        (f"Bearer {TOKEN}", True), (f"bearer {TOKEN}", True), (basic(f":{TOKEN}"), True),
        (basic(f"somebody:{TOKEN}"), True), ("", False), ("Bearer", False), ("Bearer ", False),
        ("Bearer other", False), (f"Bearer {TOKEN}x", False), (basic("x"), False),
        ("Basic !", False), (f"Token {TOKEN}", False), (TOKEN, False), ("Bearer \xff", False),
    ],
)  # fmt: skip
def test_a_token_is_wanted_on_every_route(closed: Any, shown: str, passes: bool) -> None:
    for path in ("/", "/v1/models", "/sdapi/v1/samplers", "/sakuga/v1/jobs", "/metrics",
                 "/openapi.json"):  # fmt: skip
        status, headers, body = answered(closed, path, authorization=shown)
        assert (status == 200) == passes, path
        if not passes:
            assert status == 401
            assert headers["www-authenticate"].startswith("Basic")
            assert TOKEN.encode() not in body
    assert answered(closed, "/health")[0] == 200


def test_addresses_and_given_names_are_its_own(closed: Any) -> None:
    shown = f"Bearer {TOKEN}"
    for host, status in (("10.1.2.3:7788", 200), ("draw.example", 200), ("other.example", 421)):
        assert answered(closed, "/v1/models", host=host, authorization=shown)[0] == status


def test_the_schema_is_whole(closed: Any) -> None:
    _, _, body = answered(closed, "/openapi.json", authorization=f"Bearer {TOKEN}")
    paths = json.loads(body)["paths"]
    assert {"/v1/images/generations", "/sdapi/v1/txt2img", "/sakuga/v1/jobs"} <= set(paths)
    for path, methods in paths.items():
        for method, said in methods.items():
            assert said.get("description"), f"{method} {path}"
