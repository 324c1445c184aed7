"""Flags that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.", show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]
Partial = Annotated[
    bool, typer.Option("--lora-partial", help="Leave out what matches nothing of the model.")
]
Size = Annotated[str | None, typer.Option(help="WIDTHxHEIGHT, or one number for a square.")]
