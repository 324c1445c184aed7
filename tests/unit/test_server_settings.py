"""How a server may be run, and how errors look in each family's envelope."""

from __future__ import annotations

from pathlib import Path

import pytest

from sakuga.api.engine_spec import EngineSpec
from sakuga.errors import BudgetTooSmall, RequestError
from sakuga.server.problems import envelope, failed_problem, problem_of
from sakuga.server.queue import CRASHED
from sakuga.server.refused import Refused
from sakuga.server.settings import ServerSettings, settings_from


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_beyond_loopback_a_token_is_needed(host: str) -> None:
    with pytest.raises(RequestError, match="beyond loopback has a token"):
        ServerSettings(host=host).checked()
    assert ServerSettings(host=host, token="secret").checked().host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_on_loopback_none_is(host: str) -> None:
    assert ServerSettings(host=host).checked().is_loopback


def test_a_file_of_settings(tmp_path: Path) -> None:
    file = tmp_path / "sakuga.toml"
    file.write_text('port = 80\nallowed-host = ["a", "b"]\nmodel = "chibi"\n', encoding="utf-8")
    kinds = (ServerSettings, EngineSpec)
    assert settings_from(file, kinds) == {"port": 80, "allowed_host": ("a", "b"), "model": "chibi"}
    file.write_text("prot = 80\n", encoding="utf-8")
    with pytest.raises(RequestError, match="'prot'"):
        settings_from(file, kinds)
    file.write_text("port = \n", encoding="utf-8")
    with pytest.raises(RequestError, match="TOML"):
        settings_from(file, kinds)


def test_envelopes() -> None:
    problem = problem_of(Refused("queue_full", "a rule", "3", "Wait.", 429, 7))
    assert problem.retry_after == 7
    assert envelope(problem, "/v1/images/generations", "req-1") == {
        "error": {"message": "a rule; got 3. Wait.", "type": "rate_limit_error", "param": None,
                  "code": "queue_full"}
    }  # fmt: skip
    theirs = envelope(problem, "/sdapi/v1/txt2img", "req-1")
    assert set(theirs) == {"error", "detail", "body", "errors"}
    assert envelope(problem, "/sakuga/v1/jobs", "req-1")["error"]["request_id"] == "req-1"


def test_what_clients_do_not_know_is_a_bad_request() -> None:
    assert problem_of(BudgetTooSmall("a", "b", "c")).status == 400
    assert failed_problem(CRASHED).status == 500
