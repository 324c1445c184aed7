"""The texts of many requests, read ahead of all drawing: each once, many in one pass."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from sakuga.api.events import Event
from sakuga.batch.item import Item
from sakuga.batch.lease import Leases
from sakuga.engine.ahead import PASS, planned, read_texts
from sakuga.engine.engine import Engine
from sakuga.errors import SakugaError


def read_ahead(
    engine: Engine, items: Sequence[Item], leases: Leases
) -> Generator[Event | int, None, None]:
    """Read the texts of items into the engine's cache, pass by pass, telling how many are done.

    What another process is reading is left to it. A request that cannot be planned is passed
    over: its drawing will say why.
    """
    for first in range(0, len(items), PASS):
        group = items[first : first + PASS]
        lease = leases.claim(f"texts-{group[0].id}")
        if lease is None:
            continue
        try:
            yield from read_texts(engine, list(planned(engine, [one.request for one in group])))
        except SakugaError:  # the drawing of whichever is at fault will say so
            pass
        finally:
            leases.release(lease)
        yield first + len(group)
