"""The commands about this computer: `doctor` and `monitor`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from sakuga.api.codec import plain
from sakuga.api.engine_spec import EMBEDDED
from sakuga.commands.environment import colour, local_model
from sakuga.commands.flags import AsJson


def doctor(
    model: Annotated[
        str, typer.Argument(help="chibi, the folder of a model, or org/name of a hub.")
    ] = EMBEDDED,
    *,
    compare: Annotated[
        bool, typer.Option("--hash", help="Compare files with the digests they should have.")
    ] = False,
    scan: Annotated[
        bool, typer.Option("--scan", help="Look at every number of the weights, not a sample.")
    ] = False,
    draw: Annotated[
        bool, typer.Option("--draw/--no-draw", help="End with a drawing of one step.")
    ] = True,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Say whether this computer and a model are fit to draw; exit 1 if anything is red."""
    from sakuga.checkpoint.catalog import locate
    from sakuga.commands.doctor.examine import Visit, examine
    from sakuga.commands.doctor.finding import tell

    visit = Visit(model, device, dtype, hash=compare, scan=scan, draw=draw)
    findings = examine(visit, find=lambda name: locate(local_model(name)))
    if not tell(findings, as_json=as_json, colour=colour()):
        raise typer.Exit(1)


def monitor(
    interval: Annotated[float, typer.Option(help="Seconds between readings.", min=0.1)] = 1.0,
    count: Annotated[
        int | None, typer.Option(help="Readings to print; without it, until Ctrl-C.", min=1)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print how much memory of each NVIDIA card is used and free, every second."""
    from sakuga.memory.monitor import HEADER, watch

    for index, cards in enumerate(watch(interval, count)):
        if as_json:
            print(json.dumps(plain(cards)), flush=True)
            continue
        if index == 0:
            print(HEADER)
        print("\n".join(str(card) for card in cards), flush=True)
