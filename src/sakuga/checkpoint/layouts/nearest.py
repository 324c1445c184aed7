"""What strange names come nearest to: another name, or a layout, for the message of an error."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from difflib import get_close_matches
from functools import lru_cache

from sakuga.checkpoint.layouts.factors import FACTOR
from sakuga.checkpoint.layouts.layout import KeyLayout
from sakuga.checkpoint.layouts.match import Match, compiled, find, reason_for, weights_in
from sakuga.checkpoint.layouts.tables import LAYOUTS
from sakuga.errors import LayoutError

SAMPLE = 300  # names looked at to find the nearest layout of a strange file
MANY = 2000  # names looked at to say what that layout cannot explain


def nearest(key: str, names: Collection[str]) -> str | None:
    """The name most like `key`, if any is."""
    close = get_close_matches(key, names, n=1, cutoff=0.5)
    return close[0] if close else None


def unknown(names: frozenset[str], component: str | None) -> LayoutError:
    """The error for a key set that no layout explains, with the nearest one."""
    rule = "the tensor names of a file tell its layout"
    fix = "Check that this is the file you mean; `sakuga inspect` lists its names"
    ordered = sorted(names)
    some = ordered[:: 1 + len(names) // SAMPLE]
    best, count = _nearest_layout(some, names, component)
    factors = [key for key in some if FACTOR.search(key)]
    if len(factors) > count:
        got = f"names of an adapter, such as {factors[0]!r}"
        return LayoutError(rule, got, "`sakuga lora show` tells of it, and --lora draws with it")
    if best is None:
        got = f"{len(names)} names to which no layout is near: {listed(ordered)}"
        return LayoutError(rule, got, fix)
    got = f"{len(names)} names that fit none; nearest is {best.layout.name!r}"
    if best.prefix not in best.layout.prefixes:
        known = [each for each in best.layout.prefixes if best.prefix.endswith(each)]
        strange = best.prefix.removesuffix(max(known, key=len, default=""))
        got += f" under the unknown prefix {strange!r}"
        fix = f"Take {strange!r} off its names, and save it again"
    lacking = [best.prefix + mark for mark in best.layout.marks if best.prefix + mark not in names]
    odd = _odd(best, ordered[:MANY])
    wrong = [f"would need {listed(lacking)}"] if lacking else []
    wrong += [f"cannot explain {listed(odd)}"] if odd else []
    return LayoutError(rule, ", which ".join(filter(None, (got, " and ".join(wrong)))), fix)


def _nearest_layout(
    some: list[str], names: frozenset[str], component: str | None
) -> tuple[Match | None, int]:
    """The layout and prefix that know most of some names, and how many; (None, 0) for none.

    A prefix that no layout has counts with one of its marks, or with half of the names.
    """
    best: Match | None = None
    most = (0, 0, False)
    for layout in LAYOUTS:
        if component not in (None, layout.component):
            continue
        ends = _ends(layout)
        hits = [ends.fullmatch(name) for name in weights_in(layout, dict.fromkeys(some, ()))]
        for prefix, count in Counter(hit[1] for hit in hits if hit).most_common(4):
            marks = sum(prefix + mark in names for mark in layout.marks)
            known = prefix in layout.prefixes
            rank = count, marks, known
            if rank > most and (known or marks or 2 * count >= len(some)):
                best, most = Match(layout, prefix), rank
    return best, most[0]


@lru_cache(maxsize=32)
def _ends(layout: KeyLayout) -> re.Pattern[str]:
    """A pattern of every name that ends as one of a layout does, whatever it begins with."""
    known = (re.sub(r"\?P<\w+>", "?:", each.pattern) for _, _, each in compiled(layout))
    return re.compile(rf"((?:.*?[._])?)(?:{'|'.join(known)})")


def _odd(match: Match, names: Collection[str]) -> list[str]:
    """The names that a layout neither knows nor has a reason to leave out."""
    return [
        key
        for name, sources in weights_in(match.layout, dict.fromkeys(names, ())).items()
        if find(match, name) is None
        for key in sources
        if reason_for(match, key, None, ()) is None
    ]


def listed(keys: Collection[str]) -> str:
    """The first five names for a message, and how many more there are."""
    shown = ", ".join(repr(key) for key in list(keys)[:5])
    return (shown or "nothing") + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
