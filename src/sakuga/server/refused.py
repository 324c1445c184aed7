"""What a server says no to, whatever the drawing."""

from __future__ import annotations

from sakuga.errors import SakugaError


class Refused(SakugaError):
    """A server takes no such request, or not now. `retry_after`: seconds until it may."""

    code = "refused"
    http_status = 400

    def __init__(  # one line where it is raised says all of it
        self, kind: str, rule: str, got: str, fix: str, status: int = 400,
        retry_after: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(rule, got, fix)
        self.kind, self.status, self.retry_after = kind, status, retry_after
