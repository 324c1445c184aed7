"""Recognises the layout of a file by the names of its tensors, and by their shapes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from sakuga.checkpoint.layouts.layout import Shape
from sakuga.checkpoint.layouts.match import Match, find, reason_for
from sakuga.checkpoint.layouts.nearest import listed, unknown
from sakuga.checkpoint.layouts.tables import LAYOUTS
from sakuga.errors import LayoutError

TIME_BIAS = "time_caption_embed.timestep_embedder.linear_1.bias"


def detect(keys: Collection[str], component: str | None = None) -> Match:
    """The one layout whose marks a file carries, by its key set alone.

    Raises LayoutError where there is none (naming the nearest and the keys it cannot
    explain) or more than one, and where it is a layout of another component.
    """
    names = frozenset(keys)
    matches = [
        Match(layout, prefix)
        for layout in LAYOUTS
        for prefix in layout.prefixes
        if all(prefix + mark in names for mark in layout.marks)
    ]
    wanted = f" of {component}" if component else ""
    if len(matches) > 1:
        found = " and ".join(str(match) for match in matches)
        raise LayoutError(
            f"a file holds one component{wanted}", found, "Split the file, or keep one of them"
        )
    if not matches:
        raise unknown(names, component)
    if component not in (None, matches[0].layout.component):
        raise LayoutError(
            f"this file should hold a component of the kind {component!r}",
            f"{matches[0]} ({matches[0].layout.component})",
            "Put each file into its own component's folder",
        )
    return matches[0]


def recognise(found: Mapping[str, Shape], component: str | None = None) -> Match:
    """`detect`, and the names that only shapes explain.

    Raises LayoutError as `detect` does, and where a layout's provisional names fit no
    tensor of the file, or several.
    """
    match = detect(found, component)
    return _adopted(match, found) if match.layout.provisional else match


def _adopted(match: Match, found: Mapping[str, Shape]) -> Match:
    """The match with the head for the pooled text found by shape, whatever it is called.

    It is a norm (P,), a linear (P, P), and a linear (D, D + P) that takes the time vector and
    the pooled text together; D is the width of the time vector.
    """
    stems: dict[str, dict[str, Shape]] = {}
    for key, shape in found.items():
        hit = find(match, key)
        known = hit is not None and key.removeprefix(match.prefix) not in match.layout.provisional
        if not known and reason_for(match, key, None, ()) is None:
            stem, _, leaf = key.removeprefix(match.prefix).rpartition(".")
            stems.setdefault(stem, {})[leaf] = shape
    (width, *_) = found.get(match.prefix + TIME_BIAS, (0,))
    options = []
    for both, shapes in stems.items():
        rows, columns = shapes["weight"] if len(shapes.get("weight", ())) == 2 else (0, 0)
        pooled = columns - rows
        if rows == width and pooled > 0 and shapes == _linear(width, columns):
            linears = [stem for stem, of in stems.items() if of == _linear(pooled, pooled)]
            norms = [stem for stem, of in stems.items() if of == {"weight": (pooled,)}]
            options += [(norm, linear, both) for norm in norms for linear in linears]
    if len(options) != 1:
        raise LayoutError(
            "NewBie's transformer has a norm and two linears for the pooled text",
            f"{len(options) or 'no'} such sets among {listed(sorted(stems))}",
            "Without them it is Lumina 2, which sakuga does not run; use NewBie's file",
        )
    ((norm, linear, both),) = options
    names = (f"{norm}.weight", *(f"{stem}.{leaf}" for stem in (linear, both)
                                 for leaf in ("weight", "bias")))  # fmt: skip
    aliases = tuple(pair for pair in zip(names, match.layout.provisional, strict=True)
                    if pair[0] != pair[1])  # fmt: skip
    return replace(match, aliases=aliases)


def _linear(rows: int, columns: int) -> dict[str, Shape]:
    return {"weight": (rows, columns), "bias": (rows,)}
