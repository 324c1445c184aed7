"""How a server is run: where it listens, whom it lets in, how much it takes on and keeps."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sakuga.api.options import Option, asked, option, settled
from sakuga.errors import RequestError


@asked
@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Everything about a server but its engine. `token`: what every request has to show."""

    host: str = option(Option("Address to listen on; others than loopback need a token."),
                       default="127.0.0.1")  # fmt: skip
    port: int = option(Option("Port; 0 takes a free one.", low=0, high=65_535), default=7788)
    token: str | None = option(Option("What clients show, as Bearer or as password of Basic."))
    allowed_host: tuple[str, ...] = option(
        Option("A name this server is reached by, besides its address; repeatable."), default=()
    )
    root_path: str = option(Option("Where a proxy puts it: /draw."), default="")
    proxy: tuple[str, ...] = option(
        Option("Address of a proxy whose forwarded headers are believed; repeatable."), default=()
    )
    store: str | None = option(Option("Folder of the queue and the pictures."))
    store_limit: int = option(
        Option("MiB of pictures that are kept; the oldest go first.", low=1), default=10_240
    )
    reserve: int = option(
        Option("MiB of the disk that stay free; with less the queue waits.", low=0), default=256
    )
    adapters: str | None = option(Option("Folder of adapters that clients may name."))
    workers: int = option(
        Option("Engines, one process each; several cards take one each.", low=1, high=64), default=1
    )
    queue: int = option(Option("Jobs that may wait.", low=1, high=100_000), default=64)
    request_seconds: float = option(
        Option("The most a job may cost, in seconds as planned.", low=0, above=True), default=3600.0
    )
    queue_seconds: float = option(
        Option("The most that all waiting jobs may cost.", low=0, above=True), default=14_400.0
    )
    idle: float = option(
        Option("Seconds without a job after which a worker gives its memory back.", low=0),
        default=900.0,
    )
    hang: float = option(
        Option("Seconds without a sign of life after which a worker is ended.", low=1),
        default=600.0,
    )
    drain: float = option(
        Option("Seconds that jobs under way get when the server is to end.", low=0), default=30.0
    )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def checked(self) -> ServerSettings:
        """These, or RequestError for what cannot or must not be."""
        own = settled(self)
        if not own.is_loopback and not own.token:
            raise RequestError(
                "a server beyond loopback has a token", f"--host {own.host} without one",
                "Set SAKUGA_TOKEN or token in the settings file, or leave --host out.",
            )  # fmt: skip
        if own.root_path and (not own.root_path.startswith("/") or own.root_path.endswith("/")):
            raise RequestError(
                "--root-path begins with / and ends without", repr(own.root_path), "Write /draw."
            )
        if own.adapters is not None and not Path(own.adapters).is_dir():
            raise RequestError("--adapters is a folder", repr(own.adapters), "Name one.")
        return own


def settings_from(file: Path, kinds: tuple[type, ...]) -> dict[str, Any]:
    """What a TOML file says: fields of dataclasses by their names. Raises RequestError."""
    import tomllib  # noqa: PLC0415  # few servers have such a file

    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(
            "--settings is a TOML file", f"{file.name}: {error}", "Mend or leave it."
        ) from None
    known = {one.name for kind in kinds for one in fields(kind)}
    for name in found:
        if name.replace("-", "_") not in known:
            fix = f"Known: {', '.join(sorted(known))}."
            raise RequestError("a setting is a known one", repr(name), fix)
    return {
        name.replace("-", "_"): tuple(one) if isinstance(one, list) else one
        for name, one in found.items()
    }
