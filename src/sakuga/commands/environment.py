"""What the environment says: read here and nowhere else."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sakuga.files.shelf import cache_folder

FAULTS = "SAKUGA_FAULTS"


def caches() -> Path | None:
    """Where a person's caches are; None where there is no home."""
    return cache_folder(os.environ, sys.platform)


def faults() -> str:
    """A plan of failures for tests, see `engine.faults`; empty as a rule."""
    return os.environ.get(FAULTS, "")


def server_token() -> str | None:
    """The token of a server, from where no list of processes shows it."""
    return os.environ.get("SAKUGA_TOKEN") or None


def in_container() -> bool:
    """Whether this is a container: nobody there can be asked for a token before."""
    return Path("/.dockerenv").exists() or "container" in os.environ


def colour() -> bool | None:
    """Whether to print in colour; None leaves it to the terminal (no-color.org)."""
    return False if os.environ.get("NO_COLOR") else None


def local_model(model: str) -> str:
    """A model as given, or, if it is named as on a hub, the folder that holds it now."""
    from sakuga.checkpoint.hub import Hub, fetch, parse_name

    name = parse_name(model)
    if name is None:
        return model
    cache = os.environ.get("HF_HUB_CACHE")
    hub = Hub(
        endpoint=os.environ.get("HF_ENDPOINT"),
        token=os.environ.get("HF_TOKEN"),
        cache=Path(cache) if cache else None,
        offline=os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"},
        watched=sys.stderr.isatty(),
    )
    folder = fetch(name, hub)
    print(f"{name.repository}@{folder.name}", file=sys.stderr)
    return str(folder)
