"""Listening: one socket, and an end that lets what is being drawn be drawn."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from sakuga.errors import RequestError
from sakuga.server.app import guarded
from sakuga.server.service import Service
from sakuga.server.settings import ServerSettings

BACKLOG = 256


@contextmanager
def listening(settings: ServerSettings) -> Iterator[socket.socket]:
    """The socket of a server. Raises RequestError where its place is taken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((settings.host, settings.port))
        except OSError as error:
            raise RequestError(
                "an address that is free is listened on",
                f"{settings.host} port {settings.port}: {error.strerror}", "Choose another --port.",
            ) from None  # fmt: skip
        found.listen(BACKLOG)
        yield found


class Listener(uvicorn.Server):
    """A server that, told to end, answers what it took on, takes nothing more, and then ends."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        super().__init__(uvicorn.Config(
            guarded(service), log_level="warning", access_log=False, server_header=False,
            proxy_headers=bool(settings.proxy), forwarded_allow_ips=list(settings.proxy),
            timeout_keep_alive=30, timeout_graceful_shutdown=int(settings.drain) + 1,
            h11_max_incomplete_event_size=64 << 10, lifespan="on",
        ))  # fmt: skip
        self._service, self._asked = service, 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal lets it drain, the second ends it."""
        self._asked += 1
        self._service.drain()
        self.should_exit = True
        if self._asked > 1:
            self.force_exit = True
            self._service.hurry()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
