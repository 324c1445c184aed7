"""What every request passes first: who asks, from where, how much; and headers of every answer."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import secrets
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sakuga.server.problems import BodyRefused, Problem, answer, basic_password
from sakuga.server.service import Service

METHODS = ("GET", "HEAD", "POST", "DELETE", "PATCH")
READING = ("GET", "HEAD")
OPEN = ("/health", "/health/ready")  # which tell nothing, and are asked by machines
LOOPBACK = ("127.0.0.1", "localhost", "::1")
DRAWING = ("/v1/images/generations", "/v1/images/edits", "/sdapi/v1/txt2img", "/sdapi/v1/img2img",
           "/sakuga/v1/jobs")  # fmt: skip
MOST_BODY = 32 << 20
BODY_SECONDS = 30.0  # between two pieces of a body
TOO_LARGE = Problem(
    413, "too_large", f"a body has at most {MOST_BODY >> 20} MiB", "more", "Send smaller pictures."
)
TOO_SLOW = Problem(
    408, "too_slow", f"a body comes within {BODY_SECONDS:g} s a piece", "a longer silence",
    "Send it at once.",
)  # fmt: skip
CSP = (
    "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; worker-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", CSP.encode()),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Guard:
    """The outermost of an app. It looks at the head of a request alone, and counts its body."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service
        settings = service.settings
        self._names = {*LOOPBACK, settings.host, *settings.allowed_host}
        self._any_address = not settings.is_loopback
        self._token = settings.token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req-{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = request_id
        path: str = scope["path"]
        told = _Told(send, request_id, self._service, scope)
        if (problem := self._refused(scope, path)) is not None:
            self._service.metrics.rejected.labels(problem.code).inc()
            await answer(problem, path, request_id)(scope, receive, told)
            return
        await self._app(scope, _counted(receive), told)

    def _refused(self, scope: Scope, path: str) -> Problem | None:
        """Why a request is turned away, by its head; None if it is not."""
        headers = {name.decode("latin-1"): value.decode("latin-1")
                   for name, value in scope["headers"]}  # fmt: skip
        method = scope["method"]
        return (
            self._foreign_host(headers.get("host", ""))
            or _foreign_page(scope, method, headers)
            or self._unknown(path, headers)
            or _unfit_body(path, method, headers)
            or self._busy(path, method)
        )

    def _foreign_host(self, host: str) -> Problem | None:
        name = _name_of(host)
        if name in self._names or (self._any_address and _is_address(name)):
            return None
        return Problem(
            421, "wrong_host", "a server is asked by a name of its own", repr(name[:80]),
            "Start it with --allowed-host for another.",
        )  # fmt: skip

    def _unknown(self, path: str, headers: dict[str, str]) -> Problem | None:
        if self._token is None or path in OPEN:
            return None
        kind, _, given = headers.get("authorization", "").partition(" ")
        shown = given.strip() if kind.lower() == "bearer" else None
        if kind.lower() == "basic":
            shown = basic_password(given.strip())
        if shown is not None and hmac.compare_digest(shown.encode(), self._token.encode()):
            return None
        return Problem(
            401, "unauthorised", "this server wants its token",
            "none" if shown is None else "another",
            "Send it as Bearer, or as the password of Basic.",
        )  # fmt: skip

    def _busy(self, path: str, method: str) -> Problem | None:
        """Turn away what a full queue would, before its body is read."""
        service = self._service
        if method != "POST" or path not in DRAWING:
            return None
        if service.draining:
            return Problem(
                503, "draining", "a server that ends takes nothing", "one more job",
                "Try again when it is back.", 10,
            )  # fmt: skip
        if service.queue.waiting < service.settings.queue:
            return None
        return Problem(
            429, "queue_full", "waiting jobs are taken up to a number",
            f"{service.queue.waiting} waiting", "Try later.", 5,
        )  # fmt: skip


class _Told:
    """An answer on its way out: with the headers of all answers, and counted."""

    def __init__(self, send: Send, request_id: str, service: Service, scope: Scope) -> None:
        self._send, self._request_id, self._service, self._scope = send, request_id, service, scope
        self.began = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.began = True
            own = {name.lower() for name, _ in message.get("headers", ())}
            message = dict(message)
            message["headers"] = [
                *message.get("headers", ()),
                *((name, value) for name, value in HEADERS if name not in own),
                (b"x-request-id", self._request_id.encode()),
            ]
            route = getattr(self._scope.get("route"), "path", "other")
            self._service.metrics.requests.labels(route, str(message["status"])).inc()
        await self._send(message)


def _foreign_page(scope: Scope, method: str, headers: dict[str, str]) -> Problem | None:
    """Turn away what a browser sends for a page of somebody else."""
    if method not in METHODS:
        return Problem(
            405, "wrong_method", f"a method is one of {', '.join(METHODS)}", repr(method[:20]),
            "Use one of them.",
        )  # fmt: skip
    site = headers.get("sec-fetch-site", "none")
    navigation = method in READING and headers.get("sec-fetch-mode") == "navigate"
    origin = headers.get("origin")
    own = f"{scope['scheme']}://{headers.get('host', '')}"
    foreign = site not in ("none", "same-origin") and not navigation
    if method not in READING and origin is not None and origin.lower() != own.lower():
        foreign = True
    if not foreign:
        return None
    return Problem(
        403, "foreign_page", "a browser asks for pages of this server", repr((origin or site)[:80]),
        "Open the page that the server itself shows.",
    )  # fmt: skip


def _unfit_body(path: str, method: str, headers: dict[str, str]) -> Problem | None:
    """Turn away bodies that are too large, or that a form of any page could send."""
    length = headers.get("content-length", "0")
    if method in READING or (length == "0" and "transfer-encoding" not in headers):
        return None
    if length.isdigit() and int(length) > MOST_BODY:
        return TOO_LARGE
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    wanted = "multipart/form-data" if path == "/v1/images/edits" else "application/json"
    if kind == wanted:
        return None
    return Problem(
        415, "wrong_type", f"what is sent here is {wanted}", repr(kind[:80]), "Say so and send it."
    )


def _counted(receive: Receive) -> Receive:
    """A body, read no further than it may go, and no slower."""
    size, whole = 0, False

    async def counted() -> Message:
        nonlocal size, whole
        if whole:  # what comes now is that the client leaves, whenever that is
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), BODY_SECONDS)
        except TimeoutError:
            raise BodyRefused(TOO_SLOW) from None
        if message["type"] == "http.request":
            size += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if size > MOST_BODY:
                raise BodyRefused(TOO_LARGE)
        return message

    return counted


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
