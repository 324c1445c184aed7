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
