"""The `serve` command: one model for browsers, chat programs and scripts."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from sakuga.api.engine_spec import Budget, EngineSpec
from sakuga.commands.environment import caches, faults, in_container, local_model, server_token
from sakuga.commands.flags import Given, flags
from sakuga.commands.streams import tell
from sakuga.errors import RequestError
from sakuga.server.settings import ServerSettings, settings_from

NEEDED = ("fastapi", "uvicorn", "prometheus_client", "python_multipart")


@flags
def serve(
    *,
    engine: Annotated[Mapping[str, Any], Given(EngineSpec, without=("wait",))],
    budget: Annotated[Mapping[str, Any], Given(Budget)],
    server: Annotated[Mapping[str, Any], Given(ServerSettings, without=("token",))],
    settings: Annotated[
        Path | None, typer.Option(help="A TOML file of these settings; flags win over it.")
    ] = None,
) -> None:
    """Serve a model: a page, the APIs of OpenAI and A1111, a queue on disk."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise RequestError(
            "serving needs the extra `server`", f"no {', '.join(missing)}",
            "pip install 'sakuga[server]'.",
        )  # fmt: skip
    told = {} if settings is None else settings_from(settings, (EngineSpec, Budget, ServerSettings))
    told |= {**engine, **budget, **server}
    run(_server(told), _engine(told))


def run(settings: ServerSettings, spec: EngineSpec) -> None:
    """Serve until SIGTERM or Ctrl-C; a second one ends it at once."""
    from sakuga.server.listen import Listener, listening
    from sakuga.server.service import Service

    service = Service(settings, spec, faults())
    with listening(settings) as socket:
        _greet(settings, socket.getsockname()[1])
        Listener(service).run([socket])


def _greet(settings: ServerSettings, port: int) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    tell(f"sakuga serves http://{host}:{port}{settings.root_path}/", err=True)


def _server(told: Mapping[str, Any]) -> ServerSettings:
    """The settings of the server; in a container it makes a token, and says it once."""
    names = ServerSettings.__dataclass_fields__
    found = ServerSettings(**{name: one for name, one in told.items() if name in names})
    found = replace(found, token=found.token or server_token())
    if found.token is None and not found.is_loopback and in_container():
        found = replace(found, token=secrets.token_urlsafe(24))
        print(f"The token of this server: {found.token}", file=sys.stderr, flush=True)
    if found.store is None:
        base = caches()
        if base is None:
            raise RequestError("a server needs a folder", "no home", "Name one with --store.")
        found = replace(found, store=str(base.parent / "sakuga-server"))
    return found.checked()


def _engine(told: Mapping[str, Any]) -> EngineSpec:
    """The engine, its model on this machine."""
    names, limits = EngineSpec.__dataclass_fields__, Budget.__dataclass_fields__
    given = {name: one for name, one in told.items() if name in names}
    budget = Budget(**{name: one for name, one in told.items() if name in limits})
    for name in ("model", "transformer", "gemma", "jina", "vae"):
        if given.get(name) is not None:
            given[name] = local_model(given[name])
    cache = given.get("cache") or caches()
    return EngineSpec(**{**given, "cache": None if cache is None else str(cache)}, budget=budget)
