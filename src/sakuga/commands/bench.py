"""The `bench` commands: what a model draws of what is said, in numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sakuga.api.options import Option, option, settled
from sakuga.checkpoint.catalog import EMBEDDED_FOLDER
from sakuga.checkpoint.save import write_json
from sakuga.commands.flags import AsJson, flags
from sakuga.commands.streams import say
from sakuga.errors import RequestError

if TYPE_CHECKING:
    from sakuga.chibi.binding.bench import Bench
    from sakuga.chibi.binding.rows import Row


_OFTEN = 32  # rows between two contact sheets of what is drawn so far


@dataclass(frozen=True, slots=True)
class BindingOptions:
    """What of the binding benchmark is measured, where, and what is kept of it."""

    model: str | None = option(Option("A folder with a model like the embedded one."))
    quick: bool = option(
        Option("A few pictures, held against verdicts that are kept.", flags=("--quick",)),
        default=False,
    )
    store: bool = option(
        Option("Keep the verdicts of --quick, in --out if given.", flags=("--store",)),
        default=False,
    )
    rows: tuple[str, ...] = option(
        Option('Rows whose names begin so, as "who: XML"; repeatable.', metavar="ROW"), default=()
    )
    pictures: int = option(Option("Pictures of each row.", low=1, high=4096), default=64)
    batch: int = option(Option("Pictures of 256x256 drawn at once.", low=1, high=1024), default=8)
    as_typed: bool = option(
        Option("Leave out what is structured as XML before encoding.", flags=("--as-typed",)),
        default=False,
    )
    device: str = option(Option("Where to draw.", choices=("auto", "cpu", "cuda")), default="auto")
    out: str | None = option(Option("A folder for binding.json, best.png, worst.png."))
    list_rows: bool = option(Option("Print the rows, draw none.", flags=("--list",)), default=False)

    @property
    def folder(self) -> Path:
        """That of the model."""
        return EMBEDDED_FOLDER if self.model is None else Path(self.model)


@flags
def binding(options: BindingOptions, as_json: AsJson = False) -> None:
    """Measure whether what prompts say is drawn, who has it, and where."""
    from sakuga.chibi.binding.rows import chosen

    options = settled(options)
    rows = chosen(options.rows, options.as_typed)
    if not rows:
        raise RequestError(
            "rows are named by how their names begin", ", ".join(options.rows),
            "sakuga bench binding --list prints them.",
        )  # fmt: skip
    if options.list_rows:
        say("\n".join(row.name for row in rows), wrap=False)
        return
    if options.quick:
        _quick(options, as_json)
        return
    _measure(options, rows, as_json)


def _open(options: BindingOptions, pictures: int) -> Bench:
    from sakuga.chibi.binding.bench import Bench
    from sakuga.chibi.binding.draw import Easel
    from sakuga.chibi.binding.heads import open_finder
    from sakuga.chibi.binding.scorers import JudgeScorer
    from sakuga.chibi.package import open_judge

    easel = Easel.open(options.device, options.folder)
    where = easel.painter.device
    scorer = JudgeScorer(open_judge().to(where), open_finder().to(where))
    return Bench(easel, scorer, pictures, options.batch, lambda line: say(line, err=True))


def _measure(options: BindingOptions, rows: Sequence[Row], as_json: bool) -> None:
    """Draw and judge rows; the figures of each are kept as soon as there are some."""
    from sakuga.chibi.binding.page import table
    from sakuga.chibi.binding.quick import digest
    from sakuga.chibi.binding.sheets import Sheets
    from sakuga.chibi.binding.truth import Truth

    out = None if options.out is None else Path(options.out)
    if out:
        out.mkdir(parents=True, exist_ok=True)
    bench, sheets, measured = _open(options, options.pictures), Sheets(), list[Any]()
    told = {
        "weights": digest(options.folder), "device": bench.device,
        "pictures": options.pictures, "rows": measured,
    }  # fmt: skip
    with Truth() as truth:
        for figures in bench.run(rows, truth, sheets.keep):
            measured.append(figures)
            if out:
                write_json(out / "binding.json", told)
            if out and (len(measured) % _OFTEN == 0 or len(measured) == len(rows)):
                sheets.write(out)
    if as_json:
        print(json.dumps(told))
        return
    for group in dict.fromkeys(row.group for row in rows):
        say(f"{group}\n\n{table(measured, group)}\n", wrap=False)


def _quick(options: BindingOptions, as_json: bool) -> None:
    """Hold the verdicts on a few pictures against those that are kept. Exits 1 if they differ."""
    from sakuga.chibi.binding.quick import (
        FILE,
        LEAST,
        PICTURES,
        Verdicts,
        digest,
        quick_rows,
        same_share,
    )

    weights = digest(options.folder)
    found = Verdicts(weights, _open(options, PICTURES).verdicts(quick_rows()))
    if options.store:
        found.write(Path(options.out) / FILE.name if options.out else FILE)
        return
    kept = Verdicts.open()
    share, same_model = same_share(kept.rows, found.rows), kept.weights == weights
    if as_json:
        told = {"same": share, "asked": LEAST, "same_weights": same_model, "rows": found.rows}
        print(json.dumps(told))
    else:
        of = "" if same_model else " The verdicts that are kept are of other weights."
        say(f"{share:.1%} of the verdicts are those that are kept; {LEAST:.0%} are asked.{of}")
    if same_model and share < LEAST:
        raise typer.Exit(1)
