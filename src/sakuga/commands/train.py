"""The `train` commands: how the embedded model was made, and can be made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def chibi(
    out: Annotated[Path, typer.Option(help="The folder to train in; goes on from what is there.")],
    smoke: Annotated[bool, typer.Option("--smoke", help="A minute, to see it run.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    packaged: Annotated[
        bool, typer.Option("--packaged", help="Begin with the networks that ship with sakuga.")
    ] = False,
) -> None:
    """Train the embedded model from its own renderer."""
    from sakuga.chibi.train import main as train

    train(out, device=device, smoke=smoke, packaged=packaged)


def forms(
    out: Annotated[Path, typer.Option(help="The folder for forms.json.")],
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds, to see it run.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    minutes: Annotated[float, typer.Option(help="Of teaching, for each of the three.")] = 1.4,
    workers: Annotated[int, typer.Option(help="Processes that render and write prompts.")] = 15,
) -> None:
    """Teach one small transformer three times: by XML, by flat tags, by both."""
    from dataclasses import replace

    from sakuga.chibi.binding.trial import SHORT, Trial, run_trial
    from sakuga.memory.device import choose_device

    trial = SHORT if smoke else replace(Trial(), minutes=minutes, workers=workers)
    run_trial(out, trial, choose_device(device), print)
