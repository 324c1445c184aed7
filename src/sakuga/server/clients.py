"""Who asks: so that one client's many jobs do not stand before another's one."""

from __future__ import annotations

import re

from fastapi import Request

NAME = re.compile(r"[\w.-]{1,64}")


def client_of(request: Request, named: str | None = None) -> str:
    """The address a request came from, and what it calls itself there."""
    name = request.headers.get("x-sakuga-client") or named or ""
    peer = request.client.host if request.client else ""
    return f"{peer}/{name}" if NAME.fullmatch(name) else peer
