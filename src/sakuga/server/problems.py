"""How errors look, in the envelope that each family of routes has."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sakuga.errors import SakugaError
from sakuga.printable import shown
from sakuga.server.refused import Refused

OPENAI_TYPES = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    429: "rate_limit_error",
}  # fmt: skip
CHANGED = {422: 400, 499: 409}  # what clients of this field do not know


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong, before it is put into an envelope."""

    status: int
    code: str
    rule: str
    got: str
    fix: str
    retry_after: int | None = None
    field: str | None = None

    @property
    def message(self) -> str:
        """All of it in a sentence or two."""
        return shown(f"{self.rule}; got {self.got}. {self.fix}")


class BodyRefused(HTTPException):
    """A body that is read no further; of a kind that the framework passes on as it is."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.status)
        self.problem = problem


def problem_of(error: SakugaError) -> Problem:
    """Of anything sakuga raises on purpose."""
    status, code, retry = error.http_status, error.code, None
    if isinstance(error, Refused):
        status, code, retry = error.status, error.kind, error.retry_after
    elif status == 503:
        retry = 5
    return Problem(CHANGED.get(status, status), code, error.rule, error.got, error.fix, retry)


def failed_problem(error: Mapping[str, Any]) -> Problem:
    """Of a job that failed, as the queue keeps it."""
    status = int(error.get("status", 500))
    return Problem(
        CHANGED.get(status, status), error["code"], error["rule"], error["got"], error["fix"]
    )


def envelope(problem: Problem, path: str, request_id: str) -> dict[str, Any]:
    """The body of an answer, as the clients of a path expect it."""
    if path.startswith("/v1/"):
        kind = "server_error" if problem.status >= 500 else "invalid_request_error"
        return {"error": {
            "message": problem.message, "type": OPENAI_TYPES.get(problem.status, kind),
            "param": problem.field, "code": problem.code,
        }}  # fmt: skip
    if path.startswith("/sdapi/"):
        return {
            "error": problem.code, "detail": problem.message, "body": "",
            "errors": problem.message,
        }  # fmt: skip
    return {"error": {
        "code": problem.code, "message": problem.message, "rule": shown(problem.rule),
        "got": shown(problem.got), "fix": shown(problem.fix), "request_id": request_id,
    }}  # fmt: skip


def answer(problem: Problem, path: str, request_id: str) -> JSONResponse:
    """A whole answer. What a second try would not mend says so, for clients that try by habit."""
    headers = {}
    if problem.retry_after is not None:
        headers["retry-after"] = str(problem.retry_after)
    elif problem.status >= 500 or problem.status in (408, 409, 429):
        headers["x-should-retry"] = "false"
    if problem.status == 401:
        headers["www-authenticate"] = 'Basic realm="sakuga"'
    return JSONResponse(envelope(problem, path, request_id), problem.status, headers)


def install(app: FastAPI) -> None:
    """Let every error of an app be answered in the envelope of its path."""

    async def on_ours(request: Request, error: SakugaError) -> JSONResponse:
        return _answered(request, problem_of(error))

    async def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
        name = ".".join(where) or "the body"
        rule = f"{name} is as the schema says: {first['msg'][:200]}"
        got = repr(first.get("input"))[:80] if where else "another"
        return _answered(
            request, Problem(400, "invalid_request", rule, got, "See /openapi.json.", field=name)
        )

    async def on_http(request: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error, BodyRefused):
            return _answered(request, error.problem)
        rule = "a route is one of this server's"
        return _answered(
            request,
            Problem(
                error.status_code,
                "not_found" if error.status_code == 404 else "refused",
                rule,
                f"{request.method} {request.url.path[:80]} ({error.detail})",
                "See /openapi.json.",
            ),
        )

    async def on_any(request: Request, error: Exception) -> JSONResponse:
        return _answered(
            request,
            Problem(
                500,
                "error",
                "a request is answered",
                f"a {type(error).__name__}",
                "Report it; the log has more.",
            ),
        )

    app.add_exception_handler(SakugaError, on_ours)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, on_invalid)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, on_http)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, on_any)


def _answered(request: Request, problem: Problem) -> JSONResponse:
    return answer(problem, _path(request), getattr(request.state, "request_id", ""))


def _path(request: Request) -> str:
    root: str = request.scope.get("root_path", "")
    return request.url.path.removeprefix(root)


def basic_password(header: str) -> str | None:
    """The password of an Authorization header of the kind Basic."""
    try:
        return base64.b64decode(header, validate=True).decode().partition(":")[2]
    except ValueError:
        return None
