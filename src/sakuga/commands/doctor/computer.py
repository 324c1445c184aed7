"""What this computer offers, as far as that can be told without torch."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

from sakuga.commands.doctor.finding import Diagnoses, Diagnosis, green, red, yellow
from sakuga.memory.host import host_memory
from sakuga.printable import readable

OLDEST = (3, 11)
ROOM = 1 << 30  # bytes; a picture takes 2 MB, a prompt's cached encoding a few
LEAST_ROOM = 16 << 20


def computer() -> Diagnoses:
    """Python, libraries, memory, disk."""
    yield python()
    yield libraries()
    yield memory()
    yield disk(Path.cwd())


def python() -> Diagnosis:
    """The interpreter and the system under it."""
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        return red("python", text, f"Install Python {wanted} or newer.")
    return green("python", text)


def libraries() -> Diagnosis:
    """Every library that sakuga says it needs, against the one that is installed."""
    from packaging.requirements import Requirement  # the doctor alone needs it

    try:
        wanted = [Requirement(line) for line in metadata.requires("sakuga") or ()]
    except metadata.PackageNotFoundError:
        return yellow("libraries", "sakuga runs from its sources and was never installed",
                      "Run pip install --editable . to have its libraries checked.")  # fmt: skip
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    found = {one.name: _version(one.name) for one in wanted}
    wrong = [
        one
        for one in wanted
        if not one.specifier.contains(found[one.name] or "0", prereleases=True)
    ]
    if wrong:
        got = ", ".join(f"{one.name} {found[one.name] or 'missing'}" for one in wrong)
        fix = " ".join(f"'{one.name}{one.specifier}'" for one in wrong)
        return red("libraries", got, f"Run pip install {fix}.")
    return green("libraries", ", ".join(f"{name} {version}" for name, version in found.items()))


def memory() -> Diagnosis:
    """Memory of the host: all, free, and how much of it a process may lock."""
    total, free = host_memory()
    if not total:
        return yellow("memory", "the system does not say how much memory it has")
    text = f"{readable(free)} of {readable(total)} free, {_lockable()}"
    if free < 2 << 30:
        return yellow("memory", text, "Close other programs; chibi needs about 1 GiB.")
    return green("memory", text)


def disk(folder: Path) -> Diagnosis:
    """Room for pictures where the command runs."""
    free = shutil.disk_usage(folder).free
    text = f"{readable(free)} free in {folder}"
    if not os.access(folder, os.W_OK):
        return yellow("disk", f"{folder} cannot be written", "Name another place with --out.")
    if free < LEAST_ROOM:
        return red("disk", text, "Make room, or name another place with --out.")
    if free < ROOM:
        return yellow("disk", text, "Make room, or name another place with --out.")
    return green("disk", text)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _lockable() -> str:
    """How much memory the system lets a process lock, by itself; drivers pin beside it."""
    try:
        import resource  # Windows has none
    except ImportError:
        return "no limit on locked memory is known"
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    bound = "without a limit" if limit == resource.RLIM_INFINITY else f"up to {readable(limit)}"
    return f"lockable {bound}"
