"""How a job stands when it is begun: what is done, failed, changed, and what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sakuga.batch.album import Album, gone_or_edited
from sakuga.batch.item import Item, Items
from sakuga.batch.journal import RETRIED, Journal


def survey(
    album: Album, reading: Items, *, retry: bool, redraw: bool
) -> tuple[dict[str, Any], list[Item]]:
    """What to tell of a job, and what of it is left to draw, in an order that changes little.

    retry: let what has failed be tried again; redraw: what was deleted.
    """
    journal, items = album.journal, reading.items
    journal.refresh()
    if retry:
        _let_retry(journal, items)
    changed = _changed(album, items, redraw=redraw)
    left = [one for one in items if not journal.settled(one.id)]
    failed = [one for one in items if one.id not in journal.done and journal.settled(one.id)]
    known = {one.id for one in items}
    told = {
        "event": "job", "items": len(items), "left": len(left), "failed": len(failed),
        "done": len(items) - len(left) - len(failed), "twice": reading.twice,
        "wrong": [[row.where, error] for row, error in reading.wrong],
        "others": len(journal.done.keys() - known), "torn": journal.torn,
        "deleted": changed["deleted"], "edited": changed["edited"],
        "errors": [[one.row.where, journal.troubles[one.id].error] for one in failed],
    }  # fmt: skip
    return told, sorted(left, key=lambda item: repr(item.kin))


def _changed(album: Album, items: Sequence[Item], *, redraw: bool) -> Counter[str]:
    """How many finished pictures are not as they were; those deleted may be drawn again."""
    done, changed = album.journal.done, Counter[str]()
    for item in items:
        what = gone_or_edited(album.place, done[item.id]) if item.id in done else None
        if what:
            changed[what] += 1
            if what == "deleted" and redraw:
                del done[item.id]
    return changed


def _let_retry(journal: Journal, items: Sequence[Item]) -> None:
    for item in items:
        trouble = journal.troubles.get(item.id)
        if trouble and trouble.settled and item.id not in journal.done:
            taken = {"failures": trouble.failures, "deaths": trouble.deaths}
            journal.append(RETRIED, item.id, taken)
