"""Memory of the host, as the system tells of it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path


def host_memory() -> tuple[int, int]:
    """Bytes of memory that this process may count on, and those free; (0, 0) if unknown.

    On Linux a container's own limit counts. Source: cgroup v2, "memory.max".
    """
    table = Path("/proc/meminfo")
    if not table.is_file():
        try:
            total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):  # Windows
            return 0, 0
        return total, total
    text = table.read_text(encoding="ascii")
    total, free = (
        int(found[1]) << 10
        for name in ("MemTotal", "MemAvailable")
        if (found := re.search(rf"^{name}: +(\d+) kB", text, re.MULTILINE))
    )
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no container, or "max"
        return total, free
    return min(total, limit), min(free, max(0, limit - used))


def resident_bytes() -> int:
    """Bytes of this process in memory now; where the system does not say, at most so far."""
    status = Path("/proc/self/statm")
    if status.is_file():
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    try:
        import resource  # noqa: PLC0415  # Windows has none
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def prefer_sleeping_threads() -> None:
    """Let threads sleep while they wait, and a card's memory grow without holes.

    Threads that spin while they wait for each other make a busy machine several times slower;
    segments that grow leave few holes in what is reserved. Both are read by torch when it is
    loaded, so this has no effect after that, and none where the user has said otherwise.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
