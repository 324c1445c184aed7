"""The benchmark's figures as a page: Markdown tables, and curves over the number of atoms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from sakuga.chibi.binding.verdict import wilson

Figures = Mapping[str, Any]  # of a row, see `bench.figures`
_SIZE = (760, 420)
_FRAME = (56, 40, 560, 372)  # left, top, right and bottom of the axes
# Colours that people of any colour vision tell apart (Okabe and Ito, 2008).
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#222222", "#8c6d1f")
_HEAD = (
    "| prompt | atoms | all right, % (95%) | of renders | each atom | of renders "
    "| of another | count | of renders | place | of renders |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


def table(rows: Iterable[Figures], group: str) -> str:
    """The rows of a group: what was drawn, and beside it what the scorer makes of renders."""
    return "\n".join([_HEAD, *(_line(row) for row in rows if row["group"] == group)])


def _line(row: Figures) -> str:
    drawn, known = row["drawn"], row["renders"]
    name = row["name"].split(": ", 1)[1]
    cells = [
        name, f"{atoms_of(row):g}", interval(drawn["whole"], drawn["pictures"]),
        _percent([known["whole"], known["pictures"]]), _percent(drawn["atoms"]),
        _percent(known["atoms"]), _percent(drawn["leaks"]),
        _percent([drawn["counted"], drawn["pictures"]]),
        _percent([known["counted"], known["pictures"]]),
        _percent(drawn["placed"]), _percent(known["placed"]),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def atoms_of(row: Figures) -> float:
    """How many atoms a prompt of the row says, on the average."""
    drawn = row["drawn"]
    mean: float = round(drawn["atoms"][1] / drawn["pictures"], 1)
    return mean


def interval(right: int, of: int) -> str:
    """A share in percent and its 95% interval."""
    low, high = wilson(right, of)
    return f"{100 * right / of:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def _percent(pair: Sequence[int]) -> str:
    return f"{100 * pair[0] / pair[1]:.1f}" if pair[1] else ""


def slots_table(rows: Iterable[Figures]) -> str:
    """Each slot over all rows, of drawings and of renders."""
    total: dict[str, list[int]] = {}
    for row in rows:
        for index, side in enumerate(("drawn", "renders")):
            for slot, (right, of) in row[side]["slots"].items():
                counts = total.setdefault(slot, [0, 0, 0, 0])
                counts[2 * index] += right
                counts[2 * index + 1] += of
    lines = ["| slot | said | drawn, % | of renders, % |", "|---|---|---|---|"]
    lines += [
        f"| {slot.replace('_', ' ')} | {counts[1]:,} | {_percent(counts[:2])} "
        f"| {_percent(counts[2:])} |"
        for slot, counts in total.items()
    ]
    return "\n".join(lines)


def differences(rows: Iterable[Figures]) -> str:
    """Forms that are encoded as XML and as they are typed: all right, in percent, of both."""
    pairs: dict[tuple[str, int, int], dict[str, Figures]] = {}
    for row in rows:
        pairs.setdefault((row["group"] + row["form"], row["said"], row["people"]), {})[
            row["encoding"]
        ] = row
    lines = ["| prompt | as XML | as typed | difference |", "|---|---|---|---|"]
    for both in pairs.values():
        if {"as XML", "as typed"} <= both.keys():
            one, other = (both[name]["drawn"] for name in ("as XML", "as typed"))
            apart = 100 * (one["whole"] / one["pictures"] - other["whole"] / other["pictures"])
            shown = [interval(each["whole"], each["pictures"]) for each in (one, other)]
            lines.append(f"| {both['as XML']['name']} | {shown[0]} | {shown[1]} | {apart:+.1f} |")
    return "\n".join(lines)


def lines_of(rows: Iterable[Figures]) -> dict[str, list[Figures]]:
    """The curves among rows: those of one form and encoding, by how many atoms they say."""
    found: dict[str, list[Figures]] = {}
    for row in rows:
        how = "" if row["encoding"] == "as XML" else f", {row['encoding']}"
        found.setdefault(row["form"] + how, []).append(row)
    return {name: sorted(points, key=atoms_of) for name, points in found.items() if len(points) > 2}


def pictures_of(rows: Sequence[Figures]) -> dict[str, str]:
    """The curves of a run, as SVG by the name of their file."""
    said = [row for row in rows if row["group"] == "said"]
    sent = [row for row in said if row["encoding"] != "as typed"]
    typed = [row for row in said if row["encoding"] == "as typed" or row["form"] == "XML"]
    who = [row for row in rows if row["group"] == "who"]
    return {
        "binding_said.svg": curves(sent, "All said is drawn: flat tags and sentences sent as XML"),
        "binding_typed.svg": curves(typed, "All said is drawn: every prompt sent as typed"),
        "binding_who.svg": curves(who, "All said is drawn, of one to six characters"),
    }


def curves(rows: Iterable[Figures], title: str) -> str:
    """An SVG picture: all right over atoms, with 95% intervals; of renders in grey."""
    lines = lines_of(rows)
    most = max((atoms_of(point) for points in lines.values() for point in points), default=1)
    left, top, right, bottom = _FRAME

    def at(atoms: float, share: float) -> tuple[float, float]:
        return left + (right - left) * atoms / most, bottom - (bottom - top) * share

    width, height = _SIZE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12" fill="#222222">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{left}" y="22" font-size="14">{escape(title)}</text>',
        f'<text x="{(left + right) / 2:g}" y="{height - 12}" text-anchor="middle">atoms</text>',
    ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        _, y = at(0, share)
        parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>')
    for atoms in range(0, int(most) + 1, max(1, int(most) // 8)):
        x, _ = at(atoms, 0)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{atoms}</text>')
    for number, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        dash = ' stroke-dasharray="5 3"' if number >= len(_COLOURS) else ""
        parts += _line_of(points, at, colour, dash)
        y = top + 12 + 17 * number
        parts.append(
            f'<path d="M{right + 14} {y - 4}h16" stroke="{colour}" stroke-width="2"{dash}/>'
            f'<text x="{right + 34}" y="{y}" font-size="10">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _line_of(points: Sequence[Figures], at: Any, colour: str, dash: str) -> Iterable[str]:
    """A curve, its intervals, and in grey that of renders."""
    for side, ink, wide in (("renders", "#bbbbbb", 1), ("drawn", colour, 2)):
        shares = [(atoms_of(one), one[side]["whole"] / one[side]["pictures"]) for one in points]
        path = "L".join("{:.1f} {:.1f}".format(*at(*one)) for one in shares)
        yield f'<path d="M{path}" fill="none" stroke="{ink}" stroke-width="{wide}"{dash}/>'
    for one in points:
        low, high = wilson(one["drawn"]["whole"], one["drawn"]["pictures"])
        (x, y0), (_, y1) = (at(atoms_of(one), share) for share in (low, high))
        yield f'<path d="M{x:.1f} {y0:.1f}V{y1:.1f}" stroke="{colour}" opacity="0.5"/>'


def trial_table(told: Figures) -> str:
    """All right in percent: what each of the three transformers draws of each form."""
    taught = told["taught"]
    lines = [
        f"| drawn of | {' | '.join(taught)} |",
        f"|---|{'---|' * len(taught)}",
        f"| samples seen | {' | '.join(str(one['samples']) for one in taught.values())} |",
    ]
    for rows in zip(*(one["rows"] for one in taught.values()), strict=True):
        first = rows[0]
        what = first["name"].split(": ")[0] + f", {first['said']} of {first['people']}"
        shown = (interval(row["drawn"]["whole"], row["drawn"]["pictures"]) for row in rows)
        lines.append(f"| {first['form']}, {what} | {' | '.join(shown)} |")
    return "\n".join(lines)
